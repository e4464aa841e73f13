//! A tmpfs of the container's own.
//!
//! Its pages count as the memory of the job that writes them.

use std::{ffi::CString, io, os::fd::OwnedFd};

use super::room::make_directories;
use crate::sys::mount::{Attributes, Configuration};

/// Inodes that are there before the job makes its first: the directories, the overlays' own, the
/// root.
const OVERHEAD_INODES: u64 = 16;

/// Makes one with this many bytes and inodes, as a detached mount.
pub(crate) fn in_memory(bytes: u64, inodes: u64) -> io::Result<OwnedFd> {
    let configuration = Configuration::open(c"tmpfs")?;
    let number = |value: u64| CString::new(value.to_string()).map_err(io::Error::other);
    configuration.set(c"size", &number(bytes)?)?;
    configuration.set(c"nr_inodes", &number(inodes.saturating_add(OVERHEAD_INODES))?)?;
    configuration.set(c"mode", c"755")?;
    let mount = configuration.mount(Attributes::NOSUID.and(Attributes::NODEV))?;
    make_directories(&mount)?;
    Ok(mount)
}
