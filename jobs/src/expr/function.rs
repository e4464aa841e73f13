//! The names and the arity of the functions.

/// A function of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// Whether a text holds a text, or a list an item.
    Contains,
    /// Whether a text begins with another.
    StartsWith,
    /// Whether a text ends with another.
    EndsWith,
    /// `{0}`, `{1}` … replaced; `{{` and `}}` are braces.
    Format,
    /// The items of a list as one text.
    Join,
    /// The digest of the project's files that match the globs.
    Hash,
    /// A value from JSON.
    FromJson,
    /// A value as JSON.
    ToJson,
    /// The first argument unless it is null or empty, else the second.
    Default,
    /// Nothing before failed, and the run is not cancelled.
    Success,
    /// Something before failed.
    Failure,
    /// Whatever happened before.
    Always,
    /// The run is being cancelled.
    Cancelled,
}

impl Function {
    /// All functions.
    pub const ALL: [Self; 13] = [
        Self::Contains,
        Self::StartsWith,
        Self::EndsWith,
        Self::Format,
        Self::Join,
        Self::Hash,
        Self::FromJson,
        Self::ToJson,
        Self::Default,
        Self::Success,
        Self::Failure,
        Self::Always,
        Self::Cancelled,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contains => "contains",
            Self::StartsWith => "startsWith",
            Self::EndsWith => "endsWith",
            Self::Format => "format",
            Self::Join => "join",
            Self::Hash => "hash",
            Self::FromJson => "fromJSON",
            Self::ToJson => "toJSON",
            Self::Default => "default",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Always => "always",
            Self::Cancelled => "cancelled",
        }
    }

    /// The function of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|function| function.as_str() == name)
    }

    /// The smallest and the largest number of arguments.
    pub fn arity(self) -> (usize, usize) {
        match self {
            Self::Contains | Self::StartsWith | Self::EndsWith | Self::Default => (2, 2),
            Self::Format | Self::Hash => (1, 16),
            Self::Join => (1, 2),
            Self::FromJson | Self::ToJson => (1, 1),
            Self::Success | Self::Failure | Self::Always | Self::Cancelled => (0, 0),
        }
    }

    /// Whether it looks at what ran before, which only `if` can.
    pub fn is_status(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Always | Self::Cancelled)
    }
}
