//! The writable part of a container: upper and work directories within a hard bound.
//!
//! Root makes the file system outside of the container and id-maps it, so its files have natural
//! ids and an upper directory can serve as a lower layer later.

use std::{ffi::CString, io, os::fd::OwnedFd};

use nix::sys::stat::{Mode, mkdirat};

use crate::sys::mount::{Attributes, Configuration};

/// Directories of a scratch file system: upper and work directory of the root and the workspace.
const DIRECTORIES: [&str; 4] = ["root", "root.work", "workspace", "workspace.work"];
/// Inodes that are there before the job makes its first: the above, the overlays' own, the root.
const OVERHEAD_INODES: u64 = 16;

/// A tmpfs of the container's own, bounded in bytes and inodes, as a detached mount.
///
/// Its pages count as the memory of the job that writes them.
pub(crate) fn in_memory(bytes: u64, inodes: u64) -> io::Result<OwnedFd> {
    let configuration = Configuration::open(c"tmpfs")?;
    let number = |value: u64| CString::new(value.to_string()).map_err(io::Error::other);
    configuration.set(c"size", &number(bytes)?)?;
    configuration.set(c"nr_inodes", &number(inodes.saturating_add(OVERHEAD_INODES))?)?;
    configuration.set(c"mode", c"755")?;
    let mount = configuration.mount(Attributes::NOSUID.and(Attributes::NODEV))?;
    for name in DIRECTORIES {
        mkdirat(&mount, name, Mode::from_bits_truncate(0o755))?;
    }
    Ok(mount)
}
