//! YAML text to a tree of places, in one bounded pass.
//!
//! No serde-based reader bounds what aliases expand to or sees a key that is given twice, so the
//! events of the parser are counted and checked one by one before anything is built from them.
//! The tree keeps every alias as a reference: it is never larger than the file.
//!
//! Decided on purpose: one document; the only tag is `!!str`; a key is a string of at most 256
//! bytes and is given once; `<<` merges as in YAML 1.1, because people share parts of jobs with
//! it, and its entries count against the same budget as aliases.

mod places;
mod scalar;
mod scan;
mod tree;

pub(crate) use scalar::{Scalar, resolve};
pub(crate) use scan::scan;
pub(crate) use tree::{Entry, Kind, Node, Tree};
