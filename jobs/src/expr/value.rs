//! Values of expressions, each with the mark that says whether a secret went into it.

use std::fmt;

/// A value; `secret` when a secret had any part in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// What it is.
    pub data: Data,
    /// Whether it must never be shown. For a list or a map: whether all of it is secret; items
    /// have their own mark.
    pub secret: bool,
}

/// The kinds of values.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A number that keeps its spelling.
    Number(Number),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// Names and values, in the order in which they were written.
    Map(Vec<(String, Value)>),
}

/// A number and how it was written, so that the version `3.10` stays `3.10`.
#[derive(Clone, Debug)]
pub struct Number {
    value: f64,
    written: String,
}

impl Number {
    /// A number that is written as `written`.
    pub fn new(value: f64, written: impl Into<String>) -> Self {
        Self { value, written: written.into() }
    }

    /// The number.
    pub fn get(&self) -> f64 {
        self.value
    }

    /// As it was written.
    pub fn written(&self) -> &str {
        &self.written
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl From<u32> for Number {
    fn from(value: u32) -> Self {
        Self::new(f64::from(value), value.to_string())
    }
}

impl Value {
    /// Nothing.
    pub const NULL: Self = Self { data: Data::Null, secret: false };

    /// A value that is no secret.
    pub fn plain(data: Data) -> Self {
        Self { data, secret: false }
    }

    /// Text that is no secret.
    pub fn text(text: impl Into<String>) -> Self {
        Self::plain(Data::Text(text.into()))
    }

    /// The value of a secret.
    pub fn secret(text: impl Into<String>) -> Self {
        Self { data: Data::Text(text.into()), secret: true }
    }

    /// Yes or no.
    pub fn bool(value: bool) -> Self {
        Self::plain(Data::Bool(value))
    }

    /// Names and texts.
    pub fn map<K: Into<String>>(entries: impl IntoIterator<Item = (K, Self)>) -> Self {
        Self::plain(Data::Map(
            entries.into_iter().map(|(key, value)| (key.into(), value)).collect(),
        ))
    }

    /// The text, if it is text.
    pub fn as_text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a name, if it is a map that has it.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match &self.data {
            Data::Map(entries) => {
                entries.iter().find(|(key, _)| key == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// Whether a condition with this value holds: everything but null, false, zero and empty text.
    pub fn is_true(&self) -> bool {
        match &self.data {
            Data::Null => false,
            Data::Bool(value) => *value,
            Data::Number(number) => number.value != 0.0 && !number.value.is_nan(),
            Data::Text(text) => !text.is_empty(),
            Data::List(_) | Data::Map(_) => true,
        }
    }

    /// Whether it, or anything within it, is secret.
    pub fn holds_secret(&self) -> bool {
        self.secret
            || match &self.data {
                Data::List(items) => items.iter().any(Self::holds_secret),
                Data::Map(entries) => entries.iter().any(|(_, value)| value.holds_secret()),
                _ => false,
            }
    }

    /// The same value, marked if `secret` says so.
    #[must_use]
    pub fn tainted(mut self, secret: bool) -> Self {
        self.secret |= secret;
        self
    }

    /// As text; [`None`] for lists and maps, which have no single spelling.
    pub fn to_text(&self) -> Option<String> {
        match &self.data {
            Data::Null => Some(String::new()),
            Data::Bool(value) => Some(value.to_string()),
            Data::Number(number) => Some(number.written.clone()),
            Data::Text(text) => Some(text.clone()),
            Data::List(_) | Data::Map(_) => None,
        }
    }

    /// The kind, for messages.
    pub fn kind(&self) -> &'static str {
        match self.data {
            Data::Null => "null",
            Data::Bool(_) => "a boolean",
            Data::Number(_) => "a number",
            Data::Text(_) => "text",
            Data::List(_) => "a list",
            Data::Map(_) => "a map",
        }
    }
}

impl fmt::Display for Value {
    /// For people: names of matrix jobs, tables. Secrets show as `***`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.secret {
            return f.write_str("***");
        }
        match &self.data {
            Data::Null => f.write_str("null"),
            Data::Bool(value) => write!(f, "{value}"),
            Data::Number(number) => f.write_str(&number.written),
            Data::Text(text) => f.write_str(text),
            Data::List(items) => separated(f, items.iter()),
            Data::Map(entries) => separated(f, entries.iter().map(|(_, value)| value)),
        }
    }
}

fn separated<'a>(
    f: &mut fmt::Formatter<'_>,
    values: impl Iterator<Item = &'a Value>,
) -> fmt::Result {
    for (index, value) in values.enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{value}")?;
    }
    Ok(())
}
