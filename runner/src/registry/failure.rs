//! Why a request failed, and whether another try can help.

use std::{error::Error as StdError, io, time::Duration};

use cofferdam_sandbox::Error;
use reqwest::StatusCode;

use super::shown;

/// Why a request failed. The text names the host.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nothing, or not all, came back.
    #[error("`{host}` cannot be reached: {}", innermost(.error))]
    Transport { host: String, error: reqwest::Error },
    /// The connection was silent, or all but silent.
    #[error("`{host}` sent nothing for {} s", .patience.as_secs())]
    Silent { host: String, patience: Duration },
    /// It ended before its end.
    #[error("{0}")]
    Short(String),
    /// An answer that is no success.
    #[error("`{host}` answered {}{detail}", status_text(*.status))]
    Status {
        host: String,
        status: StatusCode,
        /// What the registry's own words add, with the colon before them.
        detail: String,
        /// How long it asks to wait.
        asked: Option<Duration>,
    },
    /// Proof was asked for that there is none of, or that was not accepted.
    #[error("`{host}` refuses: {why}{detail}")]
    Denied { host: String, why: &'static str, detail: String },
    /// It asked for something that is never done.
    #[error("{0}")]
    Refused(String),
    /// Something of this host's own.
    #[error(transparent)]
    Own(#[from] Error),
}

impl Failure {
    pub(super) fn transport(host: &str, error: reqwest::Error) -> Self {
        // A URL may hold a signature that lets anyone who reads it fetch.
        let error = error.without_url();
        let host = host.to_owned();
        match refusal(&error) {
            Some(why) => Self::Refused(why),
            None => Self::Transport { host, error },
        }
    }

    /// Whether another try can end differently.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Transport { error, .. } => tls(error).is_none(),
            Self::Silent { .. } | Self::Short(_) => true,
            Self::Status { status, .. } => super::retry::may_pass(*status),
            Self::Denied { .. } | Self::Refused(_) | Self::Own(_) => false,
        }
    }

    /// How long the other side asks to wait.
    pub(super) fn asked(&self) -> Option<Duration> {
        match self {
            Self::Status { asked, .. } => *asked,
            _ => None,
        }
    }

    /// Whether a part was asked for that begins after the end.
    pub(super) fn is_beyond_the_end(&self) -> bool {
        matches!(self, Self::Status { status, .. } if *status == StatusCode::RANGE_NOT_SATISFIABLE)
    }

    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status, .. } if *status == StatusCode::NOT_FOUND)
    }

    /// As the error of `doing`, after so many tries.
    pub(super) fn during(self, doing: &str, tries: u32) -> Error {
        let remedy = self.remedy();
        let of_the_image = matches!(&self, Self::Refused(_)) || self.is_not_found();
        let error = match (self, tries) {
            (Self::Own(error), _) => return error,
            (failure, _) if of_the_image => Error::pipeline(doing, failure),
            (failure, 1) => Error::system(doing, failure),
            (failure, tries) => Error::system(format!("{doing} in {tries} tries"), failure),
        };
        match remedy {
            Some(remedy) => error.remedy(remedy),
            None => error,
        }
    }

    fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Denied { .. } => Some(
                "log in with `docker login` or `podman login`, or check the name: registries answer so for what does not exist, too",
            ),
            Self::Status { status, .. } => match status.as_u16() {
                404 => Some("check the name and the tag"),
                429 => Some("wait, or log in: registries let those in more often whom they know"),
                400 if self.is_plain_to_tls() => Some("it speaks TLS: remove `insecure`"),
                500.. => Some("try again later"),
                _ => None,
            },
            Self::Transport { error, .. } if is_certificate(error) => Some(
                "name the certificate that vouches for it as the registry's `ca` in the configuration",
            ),
            Self::Transport { error, .. } if tls(error).is_some() => Some(
                "if it speaks no TLS, and is to be trusted without, call it `insecure` in the configuration",
            ),
            Self::Transport { .. } | Self::Silent { .. } | Self::Short(_) => {
                Some("check the registry's name, the network, and the proxy variables")
            }
            Self::Refused(_) | Self::Own(_) => None,
        }
    }

    fn is_plain_to_tls(&self) -> bool {
        matches!(self, Self::Status { detail, .. } if detail.contains("HTTPS"))
    }
}

fn status_text(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// What a registry's error document says (distribution specification, "Error Codes").
pub(super) fn detail(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Document {
        errors: Vec<Detail>,
    }
    #[derive(serde::Deserialize)]
    struct Detail {
        code: Option<String>,
        message: Option<String>,
    }
    let Ok(document) = serde_json::from_slice::<Document>(body) else {
        let text = String::from_utf8_lossy(body);
        return match text.lines().next().map(str::trim) {
            Some(line) if !line.is_empty() && !line.starts_with('<') => {
                format!(": {}", shown(line))
            }
            _ => String::new(),
        };
    };
    let mut text = String::new();
    for Detail { code, message } in document.errors.into_iter().take(3) {
        for part in [code, message].into_iter().flatten().filter(|part| !part.is_empty()) {
            text.push_str(": ");
            text.push_str(&shown(&part));
        }
    }
    text
}

/// What our own resolver refused, inside of what the HTTP library made of it.
fn refusal(error: &reqwest::Error) -> Option<String> {
    causes(error).find_map(|cause| {
        let error = cause.downcast_ref::<io::Error>()?;
        let own = error.kind() == io::ErrorKind::PermissionDenied && error.get_ref().is_some();
        own.then(|| error.to_string())
    })
}

fn is_certificate(error: &reqwest::Error) -> bool {
    matches!(tls(error), Some(rustls::Error::InvalidCertificate(_)))
}

fn tls(error: &reqwest::Error) -> Option<&rustls::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The last cause that says something: those before it only say which part of the library failed.
pub(super) fn innermost(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(String::new, |cause| shown(&cause.to_string()))
}

/// An error and its causes, with those that [`io::Error`] wraps and does not call its source.
fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = wrapped.map(|error| error as &(dyn StdError + 'static)).or_else(|| error.source());
        Some(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_registries_say() {
        let check =
            |body: &str, expect: &str| assert_eq!(detail(body.as_bytes()), expect, "{body}");
        check(
            "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"manifest unknown\",\"detail\":{}}]}",
            ": MANIFEST_UNKNOWN: manifest unknown",
        );
        check("{\"errors\":[{\"code\":\"\\u001b[2J\"}]}", ": \\u{1b}[2J");
        check("{\"errors\":[]}", "");
        check("slow down\nplease", ": slow down");
        check("<html>\n<body>", "");
        check("", "");
    }
}
