//! A secret value that cannot be printed by accident.
//!
//! The value is reachable through [`Secret::expose`] alone: neither `Debug` nor an error shows it,
//! so that a secret can be part of larger types and travel through `?` without leaking.

use std::fmt;

/// A value shorter than this occurs in ordinary output by chance; hiding it would only make the
/// log unreadable, and show by the gaps what it is.
pub(crate) const SECRET_MIN: usize = 4;

/// Long enough for key files and service account documents; it bounds the memory that masking
/// takes, which grows with the value times the number of encodings.
pub(crate) const SECRET_MAX: usize = 32 * 1024;

/// A named value that has to be hidden in everything that comes out of a job.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret {
    name: String,
    value: Vec<u8>,
}

/// Why a value is not accepted as a secret; names it, never shows it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum SecretError {
    /// The value cannot be told from ordinary output.
    #[error(
        "secret `{name}` has {length} bytes, and a value under {SECRET_MIN} bytes cannot be \
         masked: ordinary output would contain it by chance; use a longer value"
    )]
    TooShort {
        /// The secret's name.
        name: String,
        /// Bytes in the value, line ends at its end not counted.
        length: usize,
    },
    /// The value is a file, not a secret.
    #[error(
        "secret `{name}` has {length} bytes, more than the {SECRET_MAX} that can be masked; \
         encrypt the data and pass its key as the secret"
    )]
    TooLong {
        /// The secret's name.
        name: String,
        /// Bytes in the value.
        length: usize,
    },
}

impl Secret {
    /// Takes a value that can be masked, or says why it cannot be.
    pub(crate) fn new(
        name: impl Into<String>,
        value: impl Into<Vec<u8>>,
    ) -> Result<Self, SecretError> {
        let secret = Self { name: name.into(), value: value.into() };
        let length = secret.core().len();
        if length < SECRET_MIN {
            return Err(SecretError::TooShort { name: secret.name, length });
        }
        if length > SECRET_MAX {
            return Err(SecretError::TooLong { name: secret.name, length });
        }
        Ok(secret)
    }

    /// The name that the pipeline gives it, which is not secret.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The value, for handing it to the step.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.value
    }

    /// The value without line ends at its end: a file's last line feed is rarely printed with it.
    pub(super) fn core(&self) -> &[u8] {
        let end = self.value.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r'));
        end.and_then(|last| self.value.get(..=last)).unwrap_or_default()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_and_errors_never_show_the_value() {
        let secret = Secret::new("TOKEN", "hunter22\n").unwrap();
        assert_eq!(format!("{secret:?}"), r#"Secret { name: "TOKEN", .. }"#);
        assert_eq!(secret.expose(), b"hunter22\n");
        assert_eq!(secret.name(), "TOKEN");
        let refused = Secret::new("PIN", "zq7\n").unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("zq7"));
    }

    #[test]
    fn unmaskable_values_are_refused_with_a_reason() {
        let check = |value: &[u8], expected: &str| {
            assert_eq!(Secret::new("S", value).unwrap_err().to_string(), expected);
        };
        let short = |length: usize| {
            format!(
                "secret `S` has {length} bytes, and a value under 4 bytes cannot be masked: \
                 ordinary output would contain it by chance; use a longer value"
            )
        };
        check(b"", &short(0));
        check(b"abc", &short(3));
        check(b"abc\r\n\n", &short(3));
        check(
            &[b'x'; SECRET_MAX + 1],
            "secret `S` has 32769 bytes, more than the 32768 that can be masked; encrypt the \
             data and pass its key as the secret",
        );
    }
}
