//! The parts of a diagnostic.

use std::fmt;

use super::Code;
use crate::source::Span;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth a look; the pipeline can run.
    Warning,
    /// The pipeline cannot run.
    Error,
}

/// A place that belongs to a diagnostic, with a word on what it has to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What is there; may be empty for the primary place.
    pub text: String,
}

/// One fault: a stable code, one sentence, the places, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The kind of fault; never changes its meaning between versions.
    pub code: Code,
    /// Whether the pipeline can run all the same.
    pub severity: Severity,
    /// What is wrong, as a lowercase fragment.
    pub message: String,
    /// The places: the first is where the fault is, others are what it collides with.
    pub labels: Vec<Label>,
    /// What to do about it, one sentence each.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error of the given kind.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, message.into())
    }

    /// A warning of the given kind.
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, message.into())
    }

    fn new(code: Code, severity: Severity, message: String) -> Self {
        Self { code, severity, message, labels: Vec::new(), help: Vec::new() }
    }

    /// Adds the place of the fault (the first call) or a place that it has to do with.
    #[must_use]
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// Adds what to do about it, where that is known.
    #[must_use]
    pub fn maybe_help(self, text: Option<String>) -> Self {
        match text {
            Some(text) => self.help(text),
            None => self,
        }
    }

    /// Where the fault is, where it has a place in a file.
    pub fn span(&self) -> Option<Span> {
        self.labels.first().map(|label| label.span)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}[{}]: {}", self.code, self.message)
    }
}

/// A name or value from a file in backticks: one line, no control characters, at most 60
/// characters, because the file is hostile and the message goes to a terminal.
pub fn quoted(text: &str) -> String {
    quoted_up_to(text, 60)
}

/// As [`quoted`], of up to `most` characters.
pub(crate) fn quoted_up_to(text: &str, most: usize) -> String {
    let mut quoted = String::from("`");
    for (count, character) in text.chars().enumerate() {
        if count == most {
            quoted.push('…');
            break;
        }
        if character.is_control() || is_invisible(character) {
            quoted.extend(character.escape_unicode());
        } else {
            quoted.push(character);
        }
    }
    quoted.push('`');
    quoted
}

/// Characters that hide text or change its direction on a terminal.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_is_short_and_harmless() {
        for (text, expect) in [
            ("build", "`build`"),
            ("a\u{1b}[31m", "`a\\u{1b}[31m`"),
            ("a\nb", "`a\\u{a}b`"),
            ("\u{202e}txt", "`\\u{202e}txt`"),
        ] {
            assert_eq!(quoted(text), expect);
        }
        assert_eq!(quoted(&"x".repeat(1000)).chars().count(), 63);
    }
}
