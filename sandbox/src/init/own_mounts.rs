//! The mounts that an unprivileged runner cannot prepare, made by the init with the privileges
//! that it has in its own namespaces.
//!
//! Everything is opened while the host's tree is in sight and before anything is placed in it,
//! with the caller's own rights: the host's ids are not the container's here, so nothing can be
//! reached that the caller could not read. The descriptors come out in the order in which a
//! privileged runner sends them.

use std::os::fd::{AsFd as _, OwnedFd};

use nix::{
    fcntl::{OFlag, openat},
    sys::stat::Mode,
};

use super::message::{OwnMounts, Tree};
use crate::{
    devices,
    error::{Doing as _, Error, Result},
    lower, scratch,
    sys::beneath::set_attribute,
};

/// What was made.
#[derive(Debug)]
pub(super) struct Made {
    /// The scratch mount and the trees.
    pub(super) mounts: Vec<OwnedFd>,
    /// The device mount.
    pub(super) devices: OwnedFd,
    /// The scratch mount again, for the runner, where it was made here.
    pub(super) scratch: Option<OwnedFd>,
    /// Mounts of the host's device nodes, for the device mount once it is in its place.
    pub(super) nodes: Vec<OwnedFd>,
}

/// Makes them all but those that were `sent`. All mounts have to be private already.
pub(super) fn make(wanted: &OwnMounts, sent: Vec<OwnedFd>) -> Result<Made> {
    let mut sent = sent.into_iter();
    let mut take = || {
        let missing = || Error::system("take the mounts of the container", "one is missing");
        sent.next().ok_or_else(missing)
    };
    let scratch = match wanted.scratch {
        Some((disk, inodes)) => {
            scratch::in_memory(disk, inodes).system(|| "make the scratch file system")?
        }
        None => take()?,
    };
    probe_attributes(&scratch)?;
    let nodes = devices::of_the_host().system(|| "open the host's harmless devices")?;
    let copy = scratch.try_clone().system(|| "copy a descriptor")?;
    let scratch = wanted.scratch.map(|_| scratch);
    let devices = devices::empty().system(|| "make the device file system")?;
    let mut mounts = vec![copy];
    for tree in &wanted.trees {
        mounts.push(match tree {
            Tree::Own(tree) => lower::own_tree(tree)?,
            Tree::Sent => take()?,
        });
    }
    Ok(Made { mounts, devices, scratch, nodes })
}

/// An overlay without extended attributes would lose directories that replace others, so it is
/// better not mounted.
fn probe_attributes(scratch: &OwnedFd) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory =
        openat(scratch, ".", flags, Mode::empty()).system(|| "open the scratch file system")?;
    set_attribute(directory.as_fd(), c"user.overlay.probe", b"y").map_err(|error| {
        let why = if error.raw_os_error() == Some(libc::EOPNOTSUPP) {
            "tmpfs keeps extended attributes of users since Linux 6.6: install a newer kernel, or \
             run as root"
                .to_owned()
        } else {
            error.to_string()
        };
        Error::system("make a writable layer without root", why)
    })
}
