//! The grammar of image references, as the distribution project writes it
//! (`[HOST[:PORT]/]NAME[/NAME…][:TAG][@DIGEST]`).

/// The longest name of a repository, host included.
const MAX_NAME: usize = 255;

/// Whether a text is an image reference. Says nothing about whether there is such an image.
pub(crate) fn is_image_reference(text: &str) -> bool {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return false;
    }
    // A colon after the last slash begins a tag, one before it a port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) || name.len() > MAX_NAME {
        return false;
    }
    let path = match name.split_once('/') {
        Some((first, path)) if stands_for_host(first) => {
            if !is_host(first) {
                return false;
            }
            path
        }
        _ => name,
    };
    path.split('/').all(is_component)
}

fn is_digest(text: &str) -> bool {
    let length = match text.split_once(':') {
        Some(("sha256", _)) => 64,
        Some(("sha512", _)) => 128,
        _ => return false,
    };
    text.split_once(':').is_some_and(|(_, hex)| {
        hex.len() == length && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && !text.starts_with(['.', '-'])
}

/// Only what has a dot, a port or a capital letter (which no path has), or is `localhost`, is
/// meant as a host and not as the beginning of a path.
fn stands_for_host(text: &str) -> bool {
    text == "localhost"
        || text.bytes().any(|byte| matches!(byte, b'.' | b':') || byte.is_ascii_uppercase())
}

/// Whether a text is the host of a registry, with or without a port.
pub(crate) fn is_host(text: &str) -> bool {
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    // An IPv6 address in brackets.
    if let Some((address, port)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return port && address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    if port.is_some_and(|port| !is_port(port)) {
        return false;
    }
    let named = host.split('.').all(|label| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    });
    named && stands_for_host(text)
}

/// Lower-case letters and digits, between them one of `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(alphanumeric)
        && text.bytes().next_back().is_some_and(alphanumeric);
    let separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends && separators
        .into_iter()
        .all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let digest = format!("debian@sha256:{}", "a".repeat(64));
        let long = "a/".repeat(200);
        for (text, expect) in [
            ("host", true),
            ("debian:12", true),
            ("localhost/app", true),
            ("registry.example:5000/team/app:v1.2", true),
            ("registry.example:5000/app", true),
            ("UPPER/app", true),
            (digest.as_str(), true),
            ("a__b/c-d--e.f", true),
            ("exa_mple.com/app", false),
            ("UPPER:tag", false),
            ("../../etc", false),
            ("/etc/passwd", false),
            ("a//b", false),
            ("debian:", false),
            ("debian:-x", false),
            ("debian@sha256:abc", false),
            ("a b", false),
            ("a..b", false),
            ("", false),
            (long.as_str(), false),
        ] {
            assert_eq!(is_image_reference(text), expect, "{text}");
        }
    }
}
