//! Why a layer or archive cannot be taken in, and whose fault that is.
//!
//! Every refusal names the entry; names come from the archive, so they are escaped and cut before
//! they reach a terminal.

use std::io;

use crate::{Error, Fault};

/// What stopped an archive from being read or unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// An entry asks for something that is never done.
    #[error("entry `{entry}` is refused: {why}")]
    Refused { entry: String, why: String },
    /// The bytes are no valid archive.
    #[error("the archive is damaged at byte {at}: {why}")]
    Damaged { at: u64, why: String },
    /// Something grew past its limit.
    #[error("more than {limit} {what}")]
    Limit { what: &'static str, limit: u64 },
    /// Content is not what its digest or size promised.
    #[error("{what} is `{actual}` where `{expected}` was promised")]
    Mismatch { what: &'static str, expected: String, actual: String },
    /// The source could not be read or decompressed.
    #[error("the source cannot be read")]
    Read(#[source] io::Error),
    /// The store could not be written.
    #[error("`{path}` cannot be written to the store")]
    Write {
        path: String,
        #[source]
        source: io::Error,
    },
    /// The caller asked to stop.
    #[error("it was cancelled")]
    Cancelled,
}

impl Problem {
    pub(crate) fn refused(entry: &[u8], why: impl Into<String>) -> Self {
        Self::Refused { entry: shown(entry), why: why.into() }
    }

    /// What the crate's error said.
    pub(crate) fn from_error(error: Error) -> Self {
        Self::Read(io::Error::other(error))
    }

    pub(crate) fn write(path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Write { path: shown(path), source: source.into() }
    }

    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::Write { .. } | Self::Cancelled => Fault::System,
            // Decompressors report bad data so; anything else is the host failing to read.
            Self::Read(source) => match source.kind() {
                io::ErrorKind::InvalidData
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::Other => Fault::Pipeline,
                _ => Fault::System,
            },
            _ => Fault::Pipeline,
        }
    }

    /// This problem as the crate's error, met while `doing`.
    pub(crate) fn during(self, doing: impl Into<String>) -> Error {
        // An origin has said it all: where, what, and what to do.
        let problem = match self {
            Self::Read(source) => match source.downcast::<Error>() {
                Ok(told) => return told,
                Err(source) => Self::Read(source),
            },
            other => other,
        };
        let remedy = match &problem {
            Self::Write { source, .. } if is_full(source) => Some(
                "free space where the state directory is, or name another with `--state`"
                    .to_owned(),
            ),
            _ => None,
        };
        let error = match problem.fault() {
            Fault::Pipeline => Error::pipeline(doing, problem),
            Fault::System => Error::system(doing, problem),
        };
        match remedy {
            Some(remedy) => error.remedy(remedy),
            None => error,
        }
    }
}

fn is_full(source: &io::Error) -> bool {
    matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Carries a [`Problem`] through a [`io::Read`], and back out in [`From<io::Error>`].
impl From<Problem> for io::Error {
    fn from(problem: Problem) -> Self {
        Self::other(problem)
    }
}

/// A read error is either a [`Problem`] that a reader further up met, or the source's own.
impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        error.downcast::<Self>().unwrap_or_else(Self::Read)
    }
}

/// A hostile name as text: escaped, and cut after 200 characters.
pub(crate) fn shown(name: &[u8]) -> String {
    let mut text: String =
        name.iter().take(200).flat_map(|byte| byte.escape_ascii()).map(char::from).collect();
    if name.len() > 200 {
        text.push('…');
    }
    text
}
