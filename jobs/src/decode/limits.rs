//! Limits.

use super::decoder::Decoder;
use crate::{
    model::{IoLimits, Limits, quantity},
    source::Spanned,
    yaml::{Kind, Node},
};

pub(super) const LIMITS: &[&str] =
    &["cpus", "memory", "pids", "disk", "inodes", "shm", "io", "nofile", "logs"];
pub(super) const IO: &[&str] = &["read", "write"];

impl<'t> Decoder<'t> {
    pub(super) fn limits(&mut self, node: &'t Node<'t>) -> Limits {
        let Some(fields) = self.fields(node, "`limits`", LIMITS) else {
            return Limits::default();
        };
        let mut get = |key, read: fn(&str) -> Result<u64, quantity::QuantityError>| {
            fields.get(key).and_then(|node| self.quantity(node, read))
        };
        Limits {
            millicpus: get("cpus", quantity::millicpus),
            memory: get("memory", quantity::size),
            pids: get("pids", quantity::count),
            disk: get("disk", quantity::size),
            inodes: get("inodes", quantity::count),
            shm: get("shm", quantity::size),
            nofile: get("nofile", quantity::open_files),
            logs: get("logs", quantity::size),
            io: fields.get("io").and_then(|node| self.io(node)),
        }
    }

    /// One rate for both ways, or one for each.
    fn io(&mut self, node: &'t Node<'t>) -> Option<Spanned<IoLimits>> {
        if !matches!(node.kind, Kind::Mapping(_)) {
            let rate = self.quantity(node, quantity::byte_rate)?;
            return Some(rate.map(|rate| IoLimits { read: Some(rate), write: Some(rate) }));
        }
        let fields = self.fields(node, "`io`", IO)?;
        let mut get = |key| {
            let rate = fields.get(key).and_then(|node| self.quantity(node, quantity::byte_rate));
            rate.map(|rate| rate.value)
        };
        Some(Spanned::new(IoLimits { read: get("read"), write: get("write") }, node.span))
    }
}
