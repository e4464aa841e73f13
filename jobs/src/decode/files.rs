//! Caches, artifacts, results.

use super::decoder::Decoder;
use crate::{
    model::{Artifacts, Cache, Results, When},
    yaml::Node,
};

pub(super) const CACHE: &[&str] = &["key", "restore", "paths"];
pub(super) const ARTIFACTS: &[&str] = &["paths", "when", "optional"];
pub(super) const RESULTS: &[&str] = &["junit"];

const WHENS: &[(&str, When)] =
    &[("success", When::Success), ("failure", When::Failure), ("always", When::Always)];

impl<'t> Decoder<'t> {
    pub(super) fn caches(&mut self, node: &'t Node<'t>) -> Vec<Cache> {
        let mut caches = Vec::new();
        for item in self.items(node) {
            let Some(fields) = self.fields(item, "a cache", CACHE) else { continue };
            let key = fields.get("key").and_then(|node| self.template(node));
            let restore =
                fields.get("restore").map(|node| self.templates(node)).unwrap_or_default();
            let paths = fields.get("paths").map(|node| self.templates(node)).unwrap_or_default();
            for needed in ["key", "paths"] {
                if fields.get(needed).is_none() {
                    self.missing(item.span, "a cache", needed, "a cache has `key` and `paths`");
                }
            }
            caches.extend(key.map(|key| Cache { key, restore, paths, span: item.span }));
        }
        caches
    }

    pub(super) fn artifacts(&mut self, node: &'t Node<'t>) -> Vec<Artifacts> {
        let mut artifacts = Vec::new();
        for item in self.items(node) {
            let Some(fields) = self.fields(item, "`artifacts`", ARTIFACTS) else { continue };
            let when = fields.get("when").and_then(|node| self.choice(node, WHENS));
            let optional = fields.get("optional").and_then(|node| self.boolean(node));
            let paths = match fields.get("paths") {
                Some(node) => self.templates(node),
                None => {
                    self.missing(item.span, "`artifacts`", "paths", "add `paths: [GLOB]`");
                    continue;
                }
            };
            artifacts.push(Artifacts {
                paths,
                when: when.map(|when| when.value).unwrap_or_default(),
                optional: optional.is_some_and(|optional| optional.value),
                span: item.span,
            });
        }
        artifacts
    }

    pub(super) fn results(&mut self, node: &'t Node<'t>) -> Option<Results> {
        let fields = self.fields(node, "`results`", RESULTS)?;
        let junit = match fields.get("junit") {
            Some(node) => self.texts(node),
            None => {
                self.missing(node.span, "`results`", "junit", "add `junit: [GLOB]`");
                return None;
            }
        };
        Some(Results { junit, span: node.span })
    }
}
