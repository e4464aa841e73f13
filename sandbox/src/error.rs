//! The one error of the crate: what was being done, whose fault it is, and what caused it.
//!
//! The split into [`Fault::Pipeline`] and [`Fault::System`] decides the exit status and whether a
//! retry elsewhere can help, so it is part of the type and not a guess made from the text.

use std::{error::Error as StdError, fmt};

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose doing a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The job's, the image's or the pipeline's own doing: running it elsewhere fails as well.
    Pipeline,
    /// The host's: nothing that the author of the job can do; another host may succeed.
    System,
}

/// What was being done when something failed, with the cause kept as [`StdError::source`].
#[derive(Debug)]
pub struct Error {
    doing: String,
    fault: Fault,
    remedy: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A failure with a fault that is known only at run time.
    pub(crate) fn new(
        doing: String,
        fault: Fault,
        source: Box<dyn StdError + Send + Sync>,
    ) -> Self {
        Self { doing, fault, remedy: None, source: Some(source) }
    }

    /// A failure of the host while `doing` (a phrase that completes "failed to …").
    pub fn system(
        doing: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::new(doing.into(), Fault::System, source.into())
    }

    /// A failure that the job, image or pipeline caused while `doing` ("failed to …").
    pub fn pipeline(
        doing: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::new(doing.into(), Fault::Pipeline, source.into())
    }

    /// Adds what the user can do about it: one sentence in the imperative.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Whose doing this is.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// What was being done, as a phrase that completes "failed to …".
    pub fn doing(&self) -> &str {
        &self.doing
    }

    /// What the user can do about it, where that is known.
    pub fn remedy_text(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// The error, its causes and what to do about it, in one line.
    pub fn in_full(&self) -> String {
        let mut text = with_causes(self);
        if let Some(remedy) = &self.remedy {
            text.push_str(": ");
            text.push_str(remedy);
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to {}", self.doing)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.source {
            Some(source) => Some(source.as_ref()),
            None => None,
        }
    }
}

/// An error and its causes in one line: "failed to …: …: …".
pub fn with_causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Adds what was being done to a result whose error lacks it.
pub(crate) trait Doing<T> {
    /// Marks the failure as the host's; `doing` completes "failed to …" and runs only on failure.
    fn system<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
    /// Marks the failure as the pipeline's; `doing` completes "failed to …".
    fn pipeline<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Doing<T> for std::result::Result<T, E> {
    fn system<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::system(doing(), source))
    }

    fn pipeline<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::pipeline(doing(), source))
    }
}
