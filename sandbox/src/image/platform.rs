//! Which processor and system an image is for, and whether this host is one.

use std::{env::consts, fmt, str::FromStr};

use super::problem::shown;

/// The operating system of every image that can be unpacked here, as Go's `GOOS` names it.
pub(crate) const OS: &str = "linux";

/// This host's architecture, as Go's `GOARCH` names it (OCI image index, "platform").
pub(crate) fn architecture() -> &'static str {
    match consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// A kind of machine: `linux/amd64`, `linux/arm/v7`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// This host.
    pub fn host() -> Self {
        Self { architecture: architecture().to_owned(), variant: None }
    }

    /// Checks an image's own word on what it is for; the error names both sides.
    pub(crate) fn check(&self, os: &str, of_architecture: &str) -> Result<(), String> {
        if (os, of_architecture) == (OS, self.architecture.as_str()) {
            return Ok(());
        }
        let named = |value: &str| match value {
            "" => "unknown".to_owned(),
            value => shown(value.as_bytes()),
        };
        Err(format!(
            "the image is for `{}/{}` and {}",
            named(os),
            named(of_architecture),
            self.wanted()
        ))
    }

    /// How well an entry of an index fits, higher is better; `None` where it does not.
    ///
    /// Where no variant is asked for, an entry without one is the plainest; of 64-bit ARM there is
    /// one variant only, and of 32-bit ARM `v7` is what current machines run.
    pub(crate) fn fit(&self, os: &str, architecture: &str, variant: Option<&str>) -> Option<u8> {
        let variant = variant.filter(|variant| !variant.is_empty());
        if (os, architecture) != (OS, self.architecture.as_str()) {
            return None;
        }
        match (&self.variant, variant) {
            (Some(wanted), Some(found)) if wanted == found => Some(3),
            (Some(wanted), None) if (architecture, wanted.as_str()) == ("arm64", "v8") => Some(2),
            (Some(_), _) => None,
            (None, None) => Some(3),
            (None, Some(found)) => match (architecture, found) {
                ("arm64", "v8") | ("arm", "v7") => Some(2),
                _ => Some(1),
            },
        }
    }

    /// What is wanted, as the second half of a sentence.
    pub(crate) fn wanted(&self) -> String {
        if *self == Self::host() {
            format!("this host is `{self}`")
        } else {
            format!("`{self}` is wanted")
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OS}/{}", self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |part: &&str| {
            (1..=32).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            [os, ..] if *os != OS => Err(format!("only images for `{OS}` can be unpacked")),
            [_, rest @ ..] if (1..=2).contains(&rest.len()) && rest.iter().all(plain) => Ok(Self {
                architecture: rest.first().copied().unwrap_or_default().to_owned(),
                variant: rest.get(1).map(|variant| (*variant).to_owned()),
            }),
            _ => Err(format!("expected {OS}/ARCHITECTURE or {OS}/ARCHITECTURE/VARIANT")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_that_people_write() {
        for text in ["linux/amd64", "linux/arm64/v8", "linux/386"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        for text in
            ["", "amd64", "windows/amd64", "linux/", "linux/AMD64", "linux/arm/v7/x", "linux//v7"]
        {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn entries_fit_a_platform_more_or_less() {
        let check = |wanted: &str, found: (&str, &str, Option<&str>), expect: Option<u8>| {
            let wanted: Platform = wanted.parse().unwrap();
            assert_eq!(wanted.fit(found.0, found.1, found.2), expect, "{wanted} {found:?}");
        };
        check("linux/amd64", ("linux", "amd64", None), Some(3));
        check("linux/amd64", ("linux", "amd64", Some("")), Some(3));
        check("linux/amd64", ("linux", "amd64", Some("v3")), Some(1));
        check("linux/amd64", ("windows", "amd64", None), None);
        check("linux/amd64", ("linux", "arm64", None), None);
        check("linux/arm/v6", ("linux", "arm", Some("v7")), None);
        check("linux/arm/v6", ("linux", "arm", Some("v6")), Some(3));
        check("linux/arm", ("linux", "arm", Some("v7")), Some(2));
        check("linux/arm64/v8", ("linux", "arm64", None), Some(2));
    }
}
