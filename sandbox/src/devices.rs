//! The container's `/dev`: a small read-only file system with six harmless devices.
//!
//! Root makes the nodes on a file system of each container's own, so that not even a lock on
//! `/dev/null` is shared between two jobs.

use std::{io, os::fd::OwnedFd};

use nix::{
    sys::stat::{Mode, SFlag, makedev, mkdirat, mknodat},
    unistd::symlinkat,
};

use crate::sys::mount::{Attributes, Configuration, restrict};

/// Character devices that every program may expect: name, major and minor number.
const NODES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Symbolic links: name and where it points.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Makes it, as a detached mount.
pub(crate) fn make() -> io::Result<OwnedFd> {
    let configuration = Configuration::open(c"tmpfs")?;
    for (key, value) in [(c"size", c"64k"), (c"nr_inodes", c"32"), (c"mode", c"755")] {
        configuration.set(key, value)?;
    }
    let mount = configuration.mount(Attributes::NOSUID.and(Attributes::NOEXEC))?;
    for directory in ["pts", "shm", "mqueue"] {
        mkdirat(&mount, directory, Mode::from_bits_truncate(0o755))?;
    }
    for (name, major, minor) in NODES {
        let device = makedev(major, minor);
        mknodat(&mount, name, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), device)?;
        // The caller's umask must not decide what a job may open.
        nix::sys::stat::fchmodat(
            &mount,
            name,
            Mode::from_bits_truncate(0o666),
            nix::sys::stat::FchmodatFlags::FollowSymlink,
        )?;
    }
    for (name, target) in LINKS {
        symlinkat(target, &mount, name)?;
    }
    restrict(&mount, Attributes::RDONLY)?;
    Ok(mount)
}
