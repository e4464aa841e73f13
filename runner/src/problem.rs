//! What ends a command early, and how it is told: what, why, what to do.

use std::{error::Error as StdError, fmt};

use anstyle::{AnsiColor, Style};
use cofferdam_sandbox::Fault;

use crate::{exit::Exit, print};

/// A failure with the exit status that it ends the process with.
#[derive(Debug)]
pub(crate) struct Problem {
    message: String,
    remedy: Option<String>,
    exit: Exit,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Problem {
    /// `message` is a lowercase fragment that says what failed and where.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: None, exit, source: None }
    }

    /// Keeps what caused it.
    #[must_use]
    pub(crate) fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds what to do next: a sentence in the imperative.
    #[must_use]
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// A failure of the sandbox that ends the command with `exit`.
    pub(crate) fn sandbox(exit: Exit, error: cofferdam_sandbox::Error) -> Self {
        Self {
            message: error.to_string(),
            remedy: error.remedy_text().map(str::to_owned),
            exit,
            source: Some(error.into()),
        }
    }

    /// The same, ending the process with another status.
    #[must_use]
    pub(crate) fn ending(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// What to do next, where that is known.
    pub(crate) fn remedy_text(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// The exit status.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Prints it to standard error, in colours on a terminal.
    pub(crate) fn print(&self) {
        let label = |colour: AnsiColor| Style::new().bold().fg_color(Some(colour.into()));
        let (red, blue) = (label(AnsiColor::Red), label(AnsiColor::Cyan));
        print::standard_error(format_args!("{red}error{red:#}: {}", visible(&self.to_string())));
        if let Some(remedy) = &self.remedy {
            print::standard_error(format_args!("{blue}help{blue:#}: {}", visible(remedy)));
        }
    }
}

/// Names of files are chosen by jobs and images: what a terminal would obey is shown instead.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && !matches!(character, '\n' | '\t') {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        // A sandbox error is its own message already; its causes follow.
        let mut cause = match &self.source {
            Some(source) if source.to_string() == self.message => source.source(),
            Some(source) => Some(source.as_ref() as &dyn StdError),
            None => None,
        };
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Problem {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.source {
            Some(source) => Some(source.as_ref()),
            None => None,
        }
    }
}

impl From<cofferdam_sandbox::Error> for Problem {
    fn from(error: cofferdam_sandbox::Error) -> Self {
        let exit = match error.fault() {
            Fault::Pipeline => Exit::Failed,
            Fault::System => Exit::System,
        };
        Self::sandbox(exit, error)
    }
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn a_terminal_obeys_nothing_of_a_problem() {
        assert_eq!(visible("a\u{1b}[2Jb\u{9b}c\r\nd"), "a\\u{1b}[2Jb\\u{9b}c\\r\nd");
    }
}
