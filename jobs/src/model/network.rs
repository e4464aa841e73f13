//! What a job can reach.

use std::net::IpAddr;

use crate::source::{Span, Spanned};

/// The network of a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Network {
    /// Nothing but itself.
    None,
    /// Its services.
    Services(Span),
    /// Everything.
    Full(Span),
    /// What is listed.
    Allow {
        /// The destinations.
        allow: Vec<AllowRule>,
        /// Bits per second, in each direction.
        bandwidth: Option<Spanned<u64>>,
        /// Where it is written.
        span: Span,
    },
}

/// One destination of an allow list.
#[derive(Clone, Debug, PartialEq)]
pub struct AllowRule {
    /// Which hosts.
    pub destination: Destination,
    /// Which port.
    pub port: u16,
    /// Where it is written.
    pub span: Span,
}

/// The hosts of an allow rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// One name, in lower case.
    Name(String),
    /// All names below this one, in lower case and without the `*.`.
    Below(String),
    /// All addresses that share this many first bits.
    Block(IpAddr, u8),
}

impl Destination {
    /// Reads `host:port`, `*.domain:port`, `address:port`, `block/bits:port`; version 6 addresses
    /// are in brackets (RFC 3986, section 3.2.2).
    ///
    /// # Errors
    /// With a sentence that says what to write.
    pub fn parse(text: &str) -> Result<(Self, u16), String> {
        let example =
            "write `HOST:PORT`, `*.DOMAIN:PORT`, `10.0.0.0/8:PORT` or `[2001:db8::/32]:PORT`";
        let (host, port) = text.rsplit_once(':').ok_or_else(|| example.to_owned())?;
        let port = match port.parse::<u16>() {
            Ok(port) if port > 0 => port,
            _ => return Err(format!("the port is a number from 1 to 65535; {example}")),
        };
        if let Some(inside) = host.strip_prefix('[') {
            let inside = inside.strip_suffix(']').ok_or_else(|| example.to_owned())?;
            return Ok((block(inside).ok_or_else(|| example.to_owned())?, port));
        }
        if let Some(block) = block(host) {
            return Ok((block, port));
        }
        let (name, below) = match host.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (host, false),
        };
        if !is_host_name(name) {
            return Err(example.to_owned());
        }
        let name = name.to_ascii_lowercase();
        Ok((if below { Self::Below(name) } else { Self::Name(name) }, port))
    }
}

fn block(text: &str) -> Option<Destination> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        Some(bits) => bits.parse().ok().filter(|bits| *bits <= most)?,
        None => most,
    };
    Some(Destination::Block(address, bits))
}

/// RFC 1123, section 2.1; a last label of digits only would be an address that is misspelt.
fn is_host_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
        && name
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().any(|byte| !byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations() {
        let name = |text: &str| Destination::Name(text.to_owned());
        let v4 = |bits| Destination::Block("10.0.0.0".parse().unwrap(), bits);
        for (text, expect) in [
            ("Packages.Example.org:443", Some((name("packages.example.org"), 443))),
            ("*.example.org:443", Some((Destination::Below("example.org".to_owned()), 443))),
            ("10.0.0.0/8:5432", Some((v4(8), 5432))),
            ("10.0.0.0:80", Some((v4(32), 80))),
            (
                "[2001:db8::/32]:443",
                Some((Destination::Block("2001:db8::".parse().unwrap(), 32), 443)),
            ),
            ("localhost:1", Some((name("localhost"), 1))),
            ("example.org", None),
            ("example.org:0", None),
            ("example.org:https", None),
            ("10.0.0.256:80", None),
            ("10.0.0.0/33:80", None),
            ("a..b:80", None),
            ("*:80", None),
            ("http://example.org:80", None),
            ("-x:80", None),
        ] {
            let found = Destination::parse(text).ok();
            assert_eq!(found, expect, "{text}");
        }
    }
}
