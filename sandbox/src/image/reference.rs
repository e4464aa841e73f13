//! Image references: `debian:12`, `registry.example:5000/team/app@sha256:…`.
//!
//! The grammar is the one that people know from Docker (distribution project, package
//! `reference`). A name without a registry stays without one: which registry that means is the
//! operator's to say, when something is pulled.

use std::{fmt, ops::Range, str::FromStr};

use super::{digest::Digest, problem::shown};

/// The name of an image: where, what, and which version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: Option<String>,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry's host and port, where the reference names one.
    pub fn registry(&self) -> Option<&str> {
        self.registry.as_deref()
    }

    /// The repository, without registry and tag.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag: `latest` where the reference has neither tag nor digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Whether it names the embedded image, which comes from nowhere else.
    pub fn is_embedded(&self) -> bool {
        self.registry.is_none() && self.repository == super::open::HOST
    }

    /// The digest of the manifest that is meant, where the reference is pinned.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

/// Why a text is no image reference, and where.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{text}` is not an image name: {why}; image names look like `debian:12` or `registry.example:5000/team/app@sha256:…`"
)]
pub struct InvalidReference {
    text: String,
    why: String,
    span: Range<usize>,
}

impl InvalidReference {
    /// The bytes of the text that are wrong.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// What is wrong with them: a fragment.
    pub fn why(&self) -> &str {
        &self.why
    }
}

/// A part of the text and what is wrong with it.
struct Fault<'a> {
    part: &'a str,
    why: String,
}

impl<'a> Fault<'a> {
    fn of(part: &'a str, why: impl Into<String>) -> Self {
        Self { part, why: why.into() }
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        parse(text).map_err(|Fault { part, why }| {
            // The part is a slice of the text.
            let start = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
            let span = start..start + part.len();
            InvalidReference { text: shown(text.as_bytes()), why, span }
        })
    }
}

/// Bytes of registry and repository together, as other tools have it.
const NAME: usize = 255;
const TAG: usize = 128;

fn parse(text: &str) -> Result<Reference, Fault<'_>> {
    if text.is_empty() {
        return Err(Fault::of(text, "it is empty"));
    }
    // A name, a tag and the longest digest.
    if text.len() > NAME + TAG + 140 {
        return Err(Fault::of(text, "it is too long"));
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            let parsed = digest.parse::<Digest>();
            (rest, Some(parsed.map_err(|error| Fault::of(digest, error.to_string()))?))
        }
        None => (text, None),
    };
    // A colon after the last slash begins a tag; one before belongs to a port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if name.len() > NAME {
        let why = format!("the part before the tag has more than {NAME} characters");
        return Err(Fault::of(name, why));
    }
    let (registry, repository) = match name.split_once('/') {
        Some((first, repository))
            if first.contains(['.', ':']) || first == "localhost" || has_uppercase(first) =>
        {
            (
                Some(check_registry(first).map_err(|why| Fault::of(first, why))?.to_owned()),
                repository,
            )
        }
        _ => (None, name),
    };
    check_repository(repository)?;
    if let Some(tag) = tag {
        check_tag(tag).map_err(|why| Fault::of(tag, why))?;
    }
    let tag = match (tag, &digest) {
        (None, None) => Some("latest"),
        (tag, _) => tag,
    };
    Ok(Reference {
        registry,
        repository: repository.to_owned(),
        tag: tag.map(str::to_owned),
        digest,
    })
}

fn has_uppercase(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn check_registry(registry: &str) -> Result<&str, String> {
    let wrong = || format!("`{}` is no registry host", shown(registry.as_bytes()));
    let (host, port) = match registry.strip_prefix('[') {
        // An IPv6 address in brackets.
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or_else(wrong)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
            return match port.strip_prefix(':') {
                Some(port) => check_port(port).map(|()| registry).ok_or_else(wrong),
                None if port.is_empty() => Ok(registry),
                None => Err(wrong()),
            };
        }
        None => {
            registry.split_once(':').map_or((registry, None), |(host, port)| (host, Some(port)))
        }
    };
    let label = |label: &str| {
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        edge(label.bytes().next())
            && edge(label.bytes().next_back())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if !host.split('.').all(label) || port.is_some_and(|port| check_port(port).is_none()) {
        return Err(wrong());
    }
    Ok(registry)
}

fn check_port(port: &str) -> Option<()> {
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    (digits && port.parse::<u16>().is_ok()).then_some(())
}

fn check_repository(repository: &str) -> Result<(), Fault<'_>> {
    if repository.is_empty() {
        return Err(Fault::of(repository, "it names no repository"));
    }
    for component in repository.split('/') {
        if has_uppercase(component) {
            let why = format!("`{}` has capital letters", shown(component.as_bytes()));
            return Err(Fault::of(component, why));
        }
        if !is_repository_component(component) {
            let why = format!(
                "`{}` is not made of lowercase letters, digits and single separators `.`, `_`, `-` between them",
                shown(component.as_bytes())
            );
            return Err(Fault::of(component, why));
        }
    }
    Ok(())
}

/// Letters and digits, parted by one dot, one or two underscores, or any number of hyphens.
fn is_repository_component(component: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut separator = String::new();
    let mut seen = false;
    for character in component.chars() {
        if u8::try_from(character).is_ok_and(plain) {
            let allowed = matches!(separator.as_str(), "" | "." | "_" | "__")
                || separator.bytes().all(|byte| byte == b'-');
            if !allowed || (!seen && !separator.is_empty()) {
                return false;
            }
            separator.clear();
            seen = true;
        } else {
            separator.push(character);
        }
    }
    seen && separator.is_empty()
}

fn check_tag(tag: &str) -> Result<(), String> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let first = tag.bytes().next().is_some_and(word);
    if !first || tag.len() > TAG || !tag.bytes().all(|byte| word(byte) || b".-".contains(&byte)) {
        return Err(format!(
            "the tag `{}` is not 1 to {TAG} letters, digits, `_`, `.` and `-`",
            shown(tag.as_bytes())
        ));
    }
    Ok(())
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(registry) = &self.registry {
            write!(f, "{registry}/")?;
        }
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_people_write() {
        let hex = "0123456789abcdef".repeat(4);
        for (text, registry, repository, tag, canonical) in [
            ("debian", None, "debian", Some("latest"), "debian:latest"),
            ("debian:12", None, "debian", Some("12"), "debian:12"),
            ("team/app", None, "team/app", Some("latest"), "team/app:latest"),
            ("localhost/app", Some("localhost"), "app", Some("latest"), "localhost/app:latest"),
            (
                "registry.example:5000/team/app:v1",
                Some("registry.example:5000"),
                "team/app",
                Some("v1"),
                "registry.example:5000/team/app:v1",
            ),
            ("[::1]:5000/app:v1", Some("[::1]:5000"), "app", Some("v1"), "[::1]:5000/app:v1"),
            ("a__b/c-d---e.f:_x", None, "a__b/c-d---e.f", Some("_x"), "a__b/c-d---e.f:_x"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.registry(), registry, "{text}");
            assert_eq!(reference.repository(), repository, "{text}");
            assert_eq!(reference.tag(), tag, "{text}");
            assert_eq!(reference.to_string(), canonical);
            assert_eq!(canonical.parse::<Reference>().unwrap(), reference);
        }
        let pinned: Reference = format!("app@sha256:{hex}").parse().unwrap();
        assert_eq!((pinned.tag(), pinned.digest().unwrap().hex()), (None, hex.as_str()));
        let both: Reference = format!("app:v1@sha256:{hex}").parse().unwrap();
        assert_eq!(both.to_string(), format!("app:v1@sha256:{hex}"));
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        let check = |text: &str, part: &str| {
            let span = text.parse::<Reference>().unwrap_err().span();
            assert_eq!(&text[span], part, "{text}");
        };
        check("", "");
        check("Debian", "Debian");
        check("team/App:1", "App");
        check("debian:12:13", "debian:12");
        check("debian:-x", "-x");
        check("a/../b", "..");
        check("registry.example:port/app", "registry.example:port");
        check("app:1@sha256:12", "sha256:12");
        check("registry.example/:1", "");
    }

    #[test]
    fn names_that_are_refused() {
        let long = "a".repeat(256);
        for text in [
            "",
            ":12",
            "debian:",
            "Debian",
            "debian:12:13",
            "-debian",
            "debian-",
            "a..b",
            "a___b",
            "a//b",
            "/a",
            "a/",
            "../etc",
            "a/../b",
            "registry.example:port/app",
            "app@sha256:12",
            "app@md5:00",
            "app:-x",
            "app: x",
            "a b",
            "exa_mple.com:5000/app",
            "-x.example/app",
            "registry.example:99999/app",
            "[::zz]/app",
            "app:\u{e9}",
            "app\n",
            &long,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
        assert!(format!("a:{}", "t".repeat(129)).parse::<Reference>().is_err());
    }
}
