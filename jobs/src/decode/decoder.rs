//! Collections of the tree: mappings with known keys, lists, and the faults they have.

use super::foreign::equivalent;
use crate::{
    diagnostic::{Code, Diagnostic, Report, quoted},
    source::{SourceFile, Span},
    suggest::nearest,
    yaml::{Entry, Kind, Node, Scalar, Tree, resolve},
};

/// Keys that say most of what a mapping is for, where it does not begin with that.
const TELLING: [&str; 5] = ["run", "paths", "max", "junit", "steps"];

/// Reads values of one file.
pub(crate) struct Decoder<'t> {
    pub(super) tree: &'t Tree<'t>,
    pub(super) file: &'t SourceFile,
    pub(super) report: &'t mut Report,
}

/// The values of a mapping with known keys.
pub(super) struct Fields<'t> {
    tree: &'t Tree<'t>,
    entries: &'t [Entry<'t>],
    pub(super) span: Span,
    /// Known keys that unknown ones were probably meant to be.
    meant: Vec<String>,
}

impl<'t> Fields<'t> {
    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&'t Node<'t>> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| self.tree.node(entry.value))
    }

    /// Whether a key is there, or a misspelling of it, which was reported.
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some() || self.meant.iter().any(|meant| meant == key)
    }

    /// Where a key is written; the mapping itself where it is not.
    pub(super) fn key_span(&self, key: &str) -> Span {
        self.entries.iter().find(|entry| entry.key == key).map_or(self.span, |entry| entry.key_span)
    }
}

impl<'t> Decoder<'t> {
    pub(crate) fn new(tree: &'t Tree<'t>, file: &'t SourceFile, report: &'t mut Report) -> Self {
        Self { tree, file, report }
    }

    /// The entries of a mapping whose keys the author chooses; `what` completes "expected …".
    pub(super) fn entries(&mut self, node: &'t Node<'t>, what: &str) -> &'t [Entry<'t>] {
        match &node.kind {
            Kind::Mapping(entries) => entries,
            _ => {
                self.wrong_type(node, what);
                &[]
            }
        }
    }

    /// A mapping with known keys; `what` is what it describes, such as "a job".
    pub(super) fn fields(
        &mut self,
        node: &'t Node<'t>,
        what: &str,
        known: &[&str],
    ) -> Option<Fields<'t>> {
        let Kind::Mapping(entries) = &node.kind else {
            let telling = TELLING.iter().find(|key| known.contains(key));
            let key = telling.or_else(|| known.first())?;
            let expected = format!("expected {what}: a mapping with keys such as `{key}`");
            let help = match &node.kind {
                Kind::Scalar { text, .. } if telling.is_some() && !text.is_empty() => {
                    Some(format!("write {}", quoted(&format!("{key}: {text}"))))
                }
                _ => None,
            };
            self.report.push(
                Diagnostic::error(Code::WrongType, expected)
                    .at(node.span, format!("this is {}", kind(node)))
                    .maybe_help(help),
            );
            return None;
        };
        let mut meant = Vec::new();
        for entry in entries {
            if known.contains(&entry.key.as_ref()) || self.report.is_full() {
                continue;
            }
            let near = nearest(&entry.key, known.iter().copied());
            meant.extend(near.map(str::to_owned));
            let help = match (near, equivalent(&entry.key)) {
                (_, Some(equivalent)) => equivalent.to_owned(),
                (Some(near), None) => format!("did you mean {}?", quoted(near)),
                (None, None) => format!("the keys of {what} are `{}`", known.join("`, `")),
            };
            self.report.push(
                Diagnostic::error(
                    Code::UnknownKey,
                    format!("{} is not a key of {what}", quoted(&entry.key)),
                )
                .at(entry.key_span, "")
                .help(help),
            );
        }
        Some(Fields { tree: self.tree, entries, span: node.span, meant })
    }

    /// The items of a list, or the one value that stands for a list of one.
    pub(super) fn items(&mut self, node: &'t Node<'t>) -> Vec<&'t Node<'t>> {
        match &node.kind {
            Kind::Sequence(items) => items.iter().map(|item| self.tree.node(*item)).collect(),
            Kind::Scalar { .. } if is_null(node) => {
                self.wrong_type(node, "a list");
                Vec::new()
            }
            _ => vec![node],
        }
    }

    /// The items of what has to be a list; `what` completes "expected …".
    pub(super) fn list(&mut self, node: &'t Node<'t>, what: &str) -> Vec<&'t Node<'t>> {
        match &node.kind {
            Kind::Sequence(items) => items.iter().map(|item| self.tree.node(*item)).collect(),
            _ => {
                self.wrong_type(node, what);
                Vec::new()
            }
        }
    }

    pub(super) fn wrong_type(&mut self, node: &Node<'_>, expected: &str) {
        self.report.push(
            Diagnostic::error(Code::WrongType, format!("expected {expected}"))
                .at(node.span, format!("this is {}", kind(node))),
        );
    }

    pub(super) fn missing(&mut self, span: Span, what: &str, key: &str, help: &str) {
        self.report.push(
            Diagnostic::error(Code::MissingKey, format!("{what} needs the key `{key}`"))
                .at(span, "")
                .help(help),
        );
    }

    pub(super) fn conflict(&mut self, first: Span, second: Span, message: &str, help: &str) {
        self.report.push(
            Diagnostic::error(Code::Conflict, message).at(second, "").at(first, "").help(help),
        );
    }
}

/// Whether a value is left empty, or is `null`.
pub(super) fn is_null(node: &Node<'_>) -> bool {
    matches!(&node.kind, Kind::Scalar { text, plain: true } if resolve(text) == Scalar::Null)
}

/// What a value is, for messages.
fn kind(node: &Node<'_>) -> &'static str {
    match &node.kind {
        Kind::Sequence(_) => "a list",
        Kind::Mapping(_) => "a mapping",
        Kind::Scalar { plain: false, .. } => "text",
        Kind::Scalar { text, plain: true } => match resolve(text) {
            Scalar::Null => "empty",
            Scalar::Bool(_) => "a boolean",
            Scalar::Number(_) => "a number",
            Scalar::Text => "text",
        },
    }
}
