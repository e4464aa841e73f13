//! The operator's configuration.

use super::decoder::Decoder;
use crate::{
    configuration::{Allowance, Configuration, Downgrade, Scratch},
    model::quantity,
    source::Spanned,
    state::Capacity,
    yaml::Node,
};

const CONFIGURATION: &[&str] = &[
    "state",
    "scratch",
    "defaults",
    "ceilings",
    "capacity",
    "downgrades",
    "i386",
    "registry",
    "registries",
    "downloads",
    "images",
];
const IMAGES: &[&str] = &["keep"];
const ALLOWANCE: &[&str] = &["limits", "timeout"];
const CAPACITY: &[&str] = &["jobs", "cpus", "memory", "disk"];
const SCRATCH: &[(&str, Scratch)] =
    &[("auto", Scratch::Auto), ("memory", Scratch::Memory), ("disk", Scratch::Disk)];

/// More jobs than this at once are a slip of the pen.
const JOBS_MAX: u32 = 10_000;

impl<'t> Decoder<'t> {
    /// The whole document.
    pub(crate) fn configuration(&mut self, root: &'t Node<'t>) -> Configuration {
        let Some(fields) = self.fields(root, "the configuration", CONFIGURATION) else {
            return Configuration::default();
        };
        let allowance = |decoder: &mut Self, key: &str| match fields.get(key) {
            Some(node) => decoder.allowance(node, &format!("`{key}`")),
            None => Allowance::default(),
        };
        Configuration {
            state: fields.get("state").and_then(|node| self.absolute_path(node)),
            scratch: fields.get("scratch").and_then(|node| self.choice(node, SCRATCH)),
            defaults: allowance(self, "defaults"),
            ceilings: allowance(self, "ceilings"),
            i386: fields.get("i386").and_then(|node| self.boolean(node)),
            registries: self.registries(&fields),
            keep_images: fields.get("images").and_then(|node| self.images(node)),
            capacity: fields.get("capacity").map(|node| self.capacity(node)).unwrap_or_default(),
            downgrades: fields
                .get("downgrades")
                .map(|node| self.list(node, "a list of limits"))
                .unwrap_or_default()
                .into_iter()
                .filter_map(|item| self.choice(item, Downgrade::WORDS))
                .collect(),
        }
    }

    fn allowance(&mut self, node: &'t Node<'t>, what: &str) -> Allowance {
        let Some(fields) = self.fields(node, what, ALLOWANCE) else { return Allowance::default() };
        Allowance {
            limits: fields.get("limits").map(|node| self.limits(node)).unwrap_or_default(),
            timeout: fields.get("timeout").and_then(|node| self.duration(node)),
        }
    }

    fn images(&mut self, node: &'t Node<'t>) -> Option<Spanned<u64>> {
        let fields = self.fields(node, "`images`", IMAGES)?;
        fields.get("keep").and_then(|node| self.quantity(node, quantity::size))
    }

    fn capacity(&mut self, node: &'t Node<'t>) -> Capacity {
        let Some(fields) = self.fields(node, "`capacity`", CAPACITY) else {
            return Capacity::default();
        };
        let mut get = |key, read: fn(&str) -> Result<u64, quantity::QuantityError>| {
            let value = fields.get(key).and_then(|node| self.quantity(node, read));
            value.map(|value| value.value)
        };
        let (millicpus, memory, disk) = (
            get("cpus", quantity::millicpus),
            get("memory", quantity::size),
            get("disk", quantity::size),
        );
        let jobs = fields.get("jobs").and_then(|node| self.positive(node, JOBS_MAX));
        Capacity { jobs: jobs.map(|jobs| jobs.value), millicpus, memory, disk }
    }

    pub(super) fn absolute_path(&mut self, node: &'t Node<'t>) -> Option<Spanned<String>> {
        let path = self.nonempty(node, "the path")?;
        if path.starts_with('/') {
            return Some(path);
        }
        let help = "the file is read from many places, so write a path that begins with `/`";
        self.bad_value(path.span, "the path is not absolute", Some(help.to_owned()));
        None
    }
}
