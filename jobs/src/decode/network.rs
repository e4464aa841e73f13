//! Networks and their allow lists.

use super::decoder::Decoder;
use crate::{
    diagnostic::quoted,
    model::{AllowRule, Destination, Network, quantity},
    yaml::{Kind, Node},
};

pub(super) const NETWORK: &[&str] = &["allow", "bandwidth"];
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
        match Destination::parse(&text) {
            Ok((destination, port)) => Some(AllowRule { destination, port, span: node.span }),
            Err(help) => {
                let message = format!("{} is not a destination", quoted(&text));
                self.bad_value(node.span, message, Some(help));
                None
            }
        }
    }
}
