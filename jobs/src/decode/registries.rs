//! The part of an operator's configuration that is about registries.

use super::decoder::{Decoder, Fields};
use crate::{
    check::is_host,
    diagnostic::quoted,
    model::{Registries, Registry},
    source::Spanned,
    yaml::{Entry, Node},
};

const REGISTRY: &[&str] = &["insecure", "mirrors", "ca"];
const DOWNLOADS: &[&str] = &["idle", "attempts"];

/// More tries than this are no help to anyone.
const ATTEMPTS_MAX: u32 = 100;

impl<'t> Decoder<'t> {
    /// The keys `registry`, `registries` and `downloads` of a configuration.
    pub(super) fn registries(&mut self, fields: &Fields<'t>) -> Registries {
        let mut registries = Registries {
            default: fields.get("registry").and_then(|node| self.registry_name(node)),
            ..Registries::default()
        };
        if let Some(node) = fields.get("registries") {
            for entry in self.entries(node, "a mapping of registries, by host and port") {
                registries.named.extend(self.registry(entry));
            }
        }
        let downloads = fields.get("downloads");
        if let Some(fields) = downloads.and_then(|node| self.fields(node, "`downloads`", DOWNLOADS))
        {
            registries.idle = fields.get("idle").and_then(|node| self.duration(node));
            registries.attempts =
                fields.get("attempts").and_then(|node| self.positive(node, ATTEMPTS_MAX));
        }
        registries
    }

    fn registry(&mut self, entry: &'t Entry<'t>) -> Option<Registry> {
        let name = Spanned::new(entry.key.clone().into_owned(), entry.key_span);
        let name = self.check_registry(name);
        let fields = self.fields(self.tree.node(entry.value), "a registry", REGISTRY)?;
        let mirrors = fields.get("mirrors").map(|node| self.items(node)).unwrap_or_default();
        Some(Registry {
            insecure: fields.get("insecure").and_then(|node| self.boolean(node)),
            mirrors: mirrors.into_iter().filter_map(|node| self.registry_name(node)).collect(),
            ca: fields.get("ca").and_then(|node| self.absolute_path(node)),
            name: name?,
        })
    }

    fn registry_name(&mut self, node: &'t Node<'t>) -> Option<Spanned<String>> {
        let name = self.text(node)?;
        self.check_registry(name)
    }

    fn check_registry(&mut self, name: Spanned<String>) -> Option<Spanned<String>> {
        if is_host(&name) {
            return Some(name);
        }
        let help = "write a host, and a port where it has one, such as `registry.example:5000`";
        let message = format!("{} is not the name of a registry", quoted(&name));
        self.bad_value(name.span, message, Some(help.to_owned()));
        None
    }
}
