//! Clones an init in the name of a user who owns nothing but its container.
//!
//! The kernel counts what a user has of some things (inotify instances and watches, bytes of message
//! queues) for the owner of the user namespace, too, who is whoever cloned it: root, for all containers
//! and for the host, so that a few containers could use up what root has. An id of the container's own
//! range has limits of its own. Its power over the namespace is nobody's: no process outside of the
//! container has that id.

use std::{io, os::fd::BorrowedFd};

use nix::unistd::{Uid, seteuid};

use super::serve::namespaces;
use crate::{
    error::{Doing as _, Result},
    ids::IdMap,
    sys::process::{self, Cloned},
};

/// Clones the init of a container with these ids; `flags` are added to those of its namespaces.
pub(super) fn clone(map: IdMap, flags: i32, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned> {
    let clone = || process::clone(namespaces(map) | flags, cgroup);
    match map.owner() {
        Some(owner) => clone_as(Uid::from_raw(owner), clone),
        None => clone(),
    }
    .system(|| "clone a container's init in new namespaces")
}

/// The caller is root, and is root again afterwards; one that cannot be has lost what it needs to undo
/// anything, and ends, as in `bare.rs`.
fn clone_as(owner: Uid, clone: impl FnOnce() -> io::Result<Cloned>) -> io::Result<Cloned> {
    let root = Uid::effective();
    seteuid(owner)?;
    let cloned = process::raise_capabilities()
        // The init is a copy, and writes to its own `/proc` files.
        .and_then(|()| process::set_dumpable())
        .and_then(|()| clone());
    let go_back = || seteuid(root).map_err(Into::into).and_then(|()| process::set_dumpable());
    if !matches!(cloned, Ok(Cloned::Child)) && go_back().is_err() {
        process::exit_now(1);
    }
    cloned
}
