//! A user namespace for the runner of an unprivileged user.
//!
//! Files of images and of containers have the user's subordinate ids, and permissions that bar the
//! user: nobody outside of a user namespace with these ids can make such files, read all of them, or
//! remove them. So the runner moves into one before it does anything, with the map that the user's
//! containers have: to it, a file's ids are those that the image says, as they are to root's runner.
//!
//! It gains no power that the user does not have: the kernel checks capabilities there against files
//! of the user's own and of subordinate ids only, and anyone may make such a namespace. Nothing of
//! a job ever runs in it, and programs of the host leave it again ([`as_caller`]).

use std::{fs::File, io, os::fd::OwnedFd, process::Command, sync::OnceLock};

use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    unistd::{Gid, Uid, getegid, geteuid, getpid},
};

use super::{IdMap, subordinate};
use crate::{
    error::{Error, Result},
    spawner::Spawner,
    sys::process,
};

static ENTERED: OnceLock<Entered> = OnceLock::new();

/// Who this process was outside of its namespace.
#[derive(Clone, Copy, Debug)]
struct Entered {
    user: Uid,
    group: Gid,
    map: IdMap,
}

/// Moves this process into a user namespace in which it can handle all files of its user's
/// containers. To be called before there is a second thread. Root needs none; where the host has
/// none for users, all files of images are the user's own, and containers are refused anyway.
///
/// # Errors
/// When the ids cannot be mapped. This process then has none, and must end.
pub fn enter(spawner: &Spawner) -> Result<()> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        return Ok(());
    }
    let map = subordinate::map_of(user, group);
    // The mount namespace, for file systems that outlive a container.
    match unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS) {
        Ok(()) => {}
        Err(Errno::EPERM | Errno::ENOSPC | Errno::EUSERS | Errno::ENOSYS) => return Ok(()),
        Err(error) => return Err(Error::system("make a user namespace for the runner", error)),
    }
    spawner.map_ids(getpid(), map)?;
    ENTERED.get_or_init(|| Entered { user, group, map });
    Ok(())
}

/// Whether the caller of this process is root, and not a user who is root of the runner's namespace
/// only.
pub fn is_root() -> bool {
    geteuid().is_root() && ENTERED.get().is_none()
}

/// The user namespace that this process has moved into.
pub(crate) fn own_namespace() -> io::Result<Option<OwnedFd>> {
    ENTERED.get().map(|_| File::open("/proc/self/ns/user").map(OwnedFd::from)).transpose()
}

/// Whether all ids of the machine are this process' own: it is in no user namespace but the first
/// (user_namespaces(7)), so that what root may, its capabilities decide.
///
/// # Errors
/// When `/proc` cannot be read.
pub(crate) fn in_first_namespace() -> io::Result<bool> {
    let map = crate::kernel_file::read("/proc/self/uid_map")?;
    Ok(map.split_whitespace().eq(["0", "0", "4294967295"]))
}

/// The user that this process was started as.
pub(crate) fn caller() -> Uid {
    ENTERED.get().map_or_else(geteuid, |entered| entered.user)
}

/// The map of the caller's containers, as seen from outside of the runner's namespace.
pub(crate) fn map() -> IdMap {
    ENTERED.get().map_or_else(|| subordinate::map_of(geteuid(), getegid()), |entered| entered.map)
}

/// The id of an image as which this process can keep a file, or root's where it has no such id.
/// [`None`] where all files are the caller's, whatever the image says.
pub(crate) fn owner(id: u32) -> Option<u32> {
    if is_root() {
        return Some(id);
    }
    let highest = ENTERED.get()?.map.highest();
    Some(if id <= highest { id } else { 0 })
}

/// Has `command`, a program of this host, run as who this process was started as: outside of the
/// runner's namespace as far as anyone can tell, and without any capability.
///
/// A program that asks a service of the user's session who it is must say the same id as the kernel.
pub fn as_caller(command: &mut Command) {
    if let Some(Entered { user, group, .. }) = ENTERED.get() {
        let map = |id: u32| format!("{id} 0 1").into_bytes();
        process::in_user_namespace(command, map(user.as_raw()), map(group.as_raw()));
    }
}
