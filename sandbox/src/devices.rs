//! The container's `/dev`: a small read-only file system with six harmless devices.
//!
//! Root makes the nodes on a file system of each container's own, so that not even a lock on
//! `/dev/null` is shared between two jobs. Without root nodes cannot be made: those of the host
//! are mounted on empty files then, after a look at what they really are.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    fcntl::{OFlag, open},
    sys::stat::{Mode, SFlag, fstat, makedev, mkdirat, mknodat},
    unistd::symlinkat,
};

use crate::sys::mount::{Attributes, Configuration, Tree, move_mount_at, open_tree, restrict};

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

/// Makes it with nodes of its own, as a detached mount; needs root.
pub(crate) fn make() -> io::Result<OwnedFd> {
    make_with(|mount, name, major, minor| {
        let device = makedev(major, minor);
        mknodat(mount, name, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), device)?;
        // The caller's umask must not decide what a job may open.
        nix::sys::stat::fchmodat(
            mount,
            name,
            Mode::from_bits_truncate(0o666),
            nix::sys::stat::FchmodatFlags::FollowSymlink,
        )
    })
}

/// Makes it with empty files to [`mount_on`], as a detached mount.
pub(crate) fn empty() -> io::Result<OwnedFd> {
    make_with(|mount, name, _, _| mknodat(mount, name, SFlag::S_IFREG, Mode::empty(), 0))
}

fn make_with(node: impl Fn(&OwnedFd, &str, u64, u64) -> nix::Result<()>) -> io::Result<OwnedFd> {
    let configuration = Configuration::open(c"tmpfs")?;
    for (key, value) in [(c"size", c"64k"), (c"nr_inodes", c"32"), (c"mode", c"755")] {
        configuration.set(key, value)?;
    }
    let mount = configuration.mount(Attributes::NOSUID.and(Attributes::NOEXEC))?;
    for directory in ["pts", "shm", "mqueue"] {
        mkdirat(&mount, directory, Mode::from_bits_truncate(0o755))?;
    }
    for (name, major, minor) in NODES {
        node(&mount, name, major, minor)?;
    }
    for (name, target) in LINKS {
        symlinkat(target, &mount, name)?;
    }
    restrict(&mount, Attributes::RDONLY)?;
    Ok(mount)
}

/// The host's own nodes as detached mounts, each checked to be the device that it is named after.
pub(crate) fn of_the_host() -> io::Result<Vec<OwnedFd>> {
    NODES
        .iter()
        .map(|(name, major, minor)| {
            let path = format!("/dev/{name}");
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let node = open(path.as_str(), flags, Mode::empty())?;
            let found = fstat(&node)?;
            let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
            if kind != SFlag::S_IFCHR || found.st_rdev != makedev(*major, *minor) {
                let what = format!("`{path}` is not the character device {major}:{minor}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            let mount = open_tree(node, c"", Tree::Copy)?;
            let attributes = Attributes::NOSUID.and(Attributes::NOEXEC).and(Attributes::RDONLY);
            restrict(&mount, attributes)?;
            Ok(mount)
        })
        .collect()
}

/// Mounts the `nodes` that [`of_the_host`] gave on the files of [`empty`], which is in its place.
pub(crate) fn mount_on(devices: impl AsFd, nodes: Vec<OwnedFd>) -> io::Result<()> {
    for ((name, _, _), node) in NODES.iter().zip(nodes) {
        move_mount_at(node, c"", &devices, &CString::new(*name)?)?;
    }
    Ok(())
}
