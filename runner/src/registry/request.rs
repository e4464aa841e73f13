//! What one request to a registry is: where it goes, what it brings, what it may do there.

use std::{path::Path, time::Duration};

use reqwest::{Method, Url, header::HeaderMap};

use super::settings::Place;

/// What a request is allowed to do: the `scope` of a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    pub(super) repository: String,
    pub(super) actions: &'static str,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "repository:{}:{}", self.repository, self.actions)
    }
}

/// A request.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) to: To,
    pub(super) headers: HeaderMap,
    pub(super) body: Body<'a>,
    pub(super) place: &'a Place,
    pub(super) actions: &'static str,
}

/// Where a request goes.
#[derive(Debug)]
pub(super) enum To {
    /// Below `/v2/` of the registry.
    Path(String),
    /// Where the registry said, see [`Host::location`](super::host::Host::location).
    Url(Url),
}

/// What a request brings.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body<'a> {
    Nothing,
    Text(&'a str),
    /// This many bytes of a file.
    File(&'a Path, u64),
}

/// The least that an upload has to move in a second.
const UPLOAD: u64 = 32 * 1024;

impl Body<'_> {
    /// How long it may take to be sent.
    pub(super) fn patience(self) -> Duration {
        match self {
            Self::Nothing | Self::Text(_) => Duration::ZERO,
            Self::File(_, size) => Duration::from_secs(size / UPLOAD),
        }
    }
}
