//! The tree that the scan builds: nodes in one array, aliases as repeated ids.
//!
//! An array and ids in place of boxes: dropping it does not recurse, and an alias costs nothing.

use std::borrow::Cow;

use crate::source::Span;

/// The index of a node in its [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(pub(super) usize);

/// One value of the file.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    /// The whole scalar, or the first line of a collection.
    pub(crate) span: Span,
    pub(crate) kind: Kind<'a>,
    /// How many nodes this one expands to, itself included.
    pub(super) weight: usize,
    /// How many levels there are below this one.
    pub(super) height: usize,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum Kind<'a> {
    /// Text; `plain` when it had no quotes and so may be a number, a boolean or null.
    Scalar {
        text: Cow<'a, str>,
        plain: bool,
    },
    Sequence(Vec<NodeId>),
    Mapping(Vec<Entry<'a>>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) key: Cow<'a, str>,
    pub(crate) key_span: Span,
    pub(crate) value: NodeId,
}

/// All values of one file.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) root: NodeId,
    nothing: Node<'a>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(nodes: Vec<Node<'a>>, root: NodeId) -> Self {
        let kind = Kind::Scalar { text: Cow::Borrowed(""), plain: true };
        let nothing = Node { span: Span::default(), kind, weight: 1, height: 0 };
        Self { nodes, root, nothing }
    }

    /// The value of the whole document.
    pub(crate) fn root(&self) -> &Node<'a> {
        self.node(self.root)
    }

    /// The node of an id of this tree; null for an id of another one.
    pub(crate) fn node(&self, id: NodeId) -> &Node<'a> {
        self.nodes.get(id.0).unwrap_or(&self.nothing)
    }
}
