//! Unpacking a layer into a directory that overlayfs takes as a lower.
//!
//! Everything goes through descriptors below the layer's root; nothing of the archive is ever
//! followed. Whiteouts become character devices 0:0 and opaque directories `user.overlay.opaque`,
//! which is what a mount with `userxattr` understands.

mod apply;
mod lower;
mod metadata;
mod tree;

pub(crate) use apply::{Extracted, extract, is_allowed_attribute};
pub(crate) use lower::{copy_attributes, find_below, is_opaque, settle};
pub(crate) use tree::{Tree, is_whiteout, kind};
