//! Services and readiness.

use super::decoder::Decoder;
use crate::{
    model::{Ready, Service},
    source::Spanned,
    yaml::Node,
};

pub(super) const SERVICE: &[&str] = &["image", "run", "exec", "env", "limits", "user", "ready"];
pub(super) const READY: &[&str] = &["run", "exec", "timeout", "interval"];

impl<'t> Decoder<'t> {
    pub(super) fn services(&mut self, node: &'t Node<'t>) -> Vec<Service> {
        let mut services = Vec::new();
        for entry in self.entries(node, "a mapping of names to services") {
            let name = Spanned::new(entry.key.clone().into_owned(), entry.key_span);
            let node = self.tree.node(entry.value);
            let Some(fields) = self.fields(node, "a service", SERVICE) else { continue };
            let image = match fields.get("image") {
                Some(node) => self.template(node),
                None => {
                    self.missing(name.span, "a service", "image", "say what it starts from");
                    None
                }
            };
            let command = self.command(&fields);
            let env = fields.get("env").map(|node| self.env(node)).unwrap_or_default();
            let limits = fields.get("limits").map(|node| self.limits(node)).unwrap_or_default();
            let user = fields.get("user").and_then(|node| self.template(node));
            let ready = fields.get("ready").and_then(|node| self.ready(node));
            let Some(image) = image else { continue };
            let span = node.span;
            services.push(Service { name, image, command, env, limits, user, ready, span });
        }
        services
    }

    pub(super) fn ready(&mut self, node: &'t Node<'t>) -> Option<Ready> {
        let fields = self.fields(node, "`ready`", READY)?;
        if fields.get("run").is_none() && fields.get("exec").is_none() {
            self.missing(node.span, "`ready`", "run", "say what to run until it passes");
        }
        let command = self.command(&fields);
        let timeout = fields.get("timeout").and_then(|node| self.duration(node));
        let interval = fields.get("interval").and_then(|node| self.duration(node));
        Some(Ready { command: command?, timeout, interval, span: node.span })
    }
}
