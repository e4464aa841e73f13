//! A file system of one's own as the root of a mount namespace, with nothing of the host left there.
//!
//! For a process or thread that has just taken a mount namespace: the kernel begins each with a copy
//! of all mounts, and what is mounted there stays in use on the host, whatever is unmounted outside.

use std::{
    ffi::CStr,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    fcntl::{OFlag, open},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::stat::Mode,
    unistd::{chdir, fchdir},
};

use crate::{
    error::{Doing as _, Result},
    sys::mount::{Attributes, Configuration, move_mount, pivot_root_here},
};

/// A new mount namespace, with nothing in it but a root of its own.
#[derive(Debug)]
pub(crate) struct Made {
    /// The namespace.
    pub(crate) namespace: OwnedFd,
    /// A tmpfs, its root.
    pub(crate) root: OwnedFd,
}

/// Has the calling thread, or the process if it has one thread, take a new mount namespace whose root
/// has these permission bits.
pub(crate) fn make(mode: &CStr) -> Result<Made> {
    let doing = || "make a mount namespace";
    unshare(CloneFlags::CLONE_NEWNS).system(doing)?;
    let namespace = File::open("/proc/thread-self/ns/mnt").system(doing)?.into();
    make_all_private()?;
    let plain = Attributes::NOSUID.and(Attributes::NODEV).and(Attributes::NOEXEC);
    let root = Configuration::open(c"tmpfs").and_then(|root| {
        root.set(c"mode", mode)?;
        root.mount(plain)
    });
    let root = root.system(doing)?;
    enter(&root)?;
    let_go_of_host()?;
    Ok(Made { namespace, root })
}

/// Has nobody else see what is mounted from here on.
pub(crate) fn make_all_private() -> Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .system(|| "make all mounts private")
}

/// Makes the detached mount `root` the current directory, mounted somewhere over the host's files.
/// To be called after [`make_all_private`].
pub(crate) fn enter(root: impl AsFd) -> Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    // Directories that every host has.
    let anchor = open("/tmp", flags, Mode::empty())
        .or_else(|_| open("/dev", flags, Mode::empty()))
        .system(|| "find a place for the set-up file system")?;
    move_mount(&root, anchor).system(|| "place the set-up file system")?;
    fchdir(&root).system(|| "enter the set-up file system")
}

/// Makes the current directory the root, and lets go of the copy of the host's mounts.
pub(crate) fn let_go_of_host() -> Result<()> {
    let pivot = || -> io::Result<()> {
        pivot_root_here()?;
        umount2(".", MntFlags::MNT_DETACH)?;
        Ok(chdir("/")?)
    };
    pivot().system(|| "let go of the host's mounts")
}
