//! Networks and their allow lists.

use std::net::IpAddr;

use super::decoder::Decoder;
use crate::{
    diagnostic::quoted,
    model::{AllowRule, Destination, Network, quantity},
    source::Spanned,
    yaml::{Kind, Node},
};

const NETWORK: &[&str] = &["allow", "bandwidth"];
const WORDS: &[&str] = &["none", "services", "full"];

impl<'t> Decoder<'t> {
    pub(super) fn network(&mut self, node: &'t Node<'t>) -> Option<Network> {
        if matches!(node.kind, Kind::Mapping(_)) {
            let fields = self.fields(node, "`network`", NETWORK)?;
            let allow = match fields.get("allow") {
                Some(node) => {
                    let items = self.list(node, "a list of `HOST:PORT`");
                    items.into_iter().filter_map(|item| self.allow_rule(item)).collect()
                }
                None => {
                    let help = "add `allow: [HOST:PORT]`, or write `none`, `services` or `full`";
                    self.missing(node.span, "`network`", "allow", help);
                    return None;
                }
            };
            let bandwidth =
                fields.get("bandwidth").and_then(|node| self.quantity(node, quantity::bit_rate));
            return Some(Network::Allow { allow, bandwidth, span: node.span });
        }
        let text = self.text(node)?;
        match text.value.as_str() {
            "none" => Some(Network::None),
            "services" => Some(Network::Services(node.span)),
            "full" => Some(Network::Full(node.span)),
            _ => {
                self.unknown_word(&text, WORDS);
                None
            }
        }
    }

    fn allow_rule(&mut self, node: &'t Node<'t>) -> Option<AllowRule> {
        let text = self.nonempty(node, "the destination")?;
        match destination(&text) {
            Ok((destination, port)) => Some(AllowRule { destination, port, span: node.span }),
            Err(help) => {
                let message = format!("{} is not a destination", quoted(&text));
                self.bad_value(node.span, message, Some(help));
                None
            }
        }
    }
}

/// Reads `host:port`, `*.domain:port`, `address:port`, `block/bits:port`; version 6 addresses are
/// in brackets (RFC 3986, section 3.2.2).
fn destination(text: &Spanned<String>) -> Result<(Destination, u16), String> {
    let example = "write `HOST:PORT`, `*.DOMAIN:PORT`, `10.0.0.0/8:PORT` or `[2001:db8::/32]:PORT`";
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
    Ok((if below { Destination::Below(name) } else { Destination::Name(name) }, port))
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
    use crate::source::Span;

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
            let found = destination(&Spanned::new(text.to_owned(), Span::default())).ok();
            assert_eq!(found, expect, "{text}");
        }
    }
}
