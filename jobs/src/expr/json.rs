//! Values from and to JSON.
//!
//! `serde_json` refuses text that is nested deeper than 128 levels, which bounds the recursion.

use serde_json::Value as Json;

use super::value::{Data, Number, Value};

/// The longest text that `fromJSON` reads, in bytes.
const MAX_JSON: usize = 1024 * 1024;

pub(super) fn read(text: &str) -> Result<Value, String> {
    if text.len() > MAX_JSON {
        return Err(format!("the text is longer than {MAX_JSON} bytes"));
    }
    serde_json::from_str(text).map(from_json).map_err(|error| format!("this is not JSON: {error}"))
}

pub(super) fn write(value: &Value) -> String {
    to_json(value).to_string()
}

impl Value {
    /// The value as JSON; the mark of a secret is lost.
    pub fn to_json(&self) -> Json {
        to_json(self)
    }
}

fn from_json(json: Json) -> Value {
    Value::plain(match json {
        Json::Null => Data::Null,
        Json::Bool(value) => Data::Bool(value),
        Json::Number(number) => {
            Data::Number(Number::new(number.as_f64().unwrap_or(f64::NAN), number.to_string()))
        }
        Json::String(text) => Data::Text(text),
        Json::Array(items) => Data::List(items.into_iter().map(from_json).collect()),
        Json::Object(entries) => {
            Data::Map(entries.into_iter().map(|(key, value)| (key, from_json(value))).collect())
        }
    })
}

fn to_json(value: &Value) -> Json {
    match &value.data {
        Data::Null => Json::Null,
        Data::Bool(value) => Json::Bool(*value),
        // `3.10` is a number in YAML but JSON would say `3.1`; a whole number stays whole.
        Data::Number(number) => match number.written().parse::<i64>() {
            Ok(whole) => Json::from(whole),
            Err(_) => Json::from(number.get()),
        },
        Data::Text(text) => Json::from(text.as_str()),
        Data::List(items) => Json::Array(items.iter().map(to_json).collect()),
        Data::Map(entries) => {
            Json::Object(entries.iter().map(|(key, value)| (key.clone(), to_json(value))).collect())
        }
    }
}
