//! Clones an init into a network namespace that is there already.
//!
//! The spawner cannot go there itself: without root there is no way back. So a copy of it does,
//! clones the init as a child of the spawner (`CLONE_PARENT`), and ends. While it is there, it
//! mounts the `/sys` of that network, which only the owner's side may; the init's own user
//! namespace has no power over the network at all.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::{
    sched::{CloneFlags, setns, unshare},
    unistd::Pid,
};

use super::{
    bare::Bare,
    map_ids::{check_ids, map_ids, map_ids_below},
    message::Reply,
    owner,
    serve::with_ids,
};
use crate::{
    channel::Channel,
    error::{Doing as _, Error, Result},
    ids::IdMap,
    init::{self, message::Failure},
    sys::process::{self, Cloned},
};

/// Clones an init in `net`, which the user namespace `owner` owns, or else the spawner's. `bare` is
/// where it begins, where there is root.
pub(super) fn spawn(
    net: OwnedFd,
    owner: Option<OwnedFd>,
    bare: Option<&Bare>,
    map: IdMap,
    channel: Channel,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<(Pid, OwnedFd)> {
    let doing = || "clone a container's init into a network";
    let has_owner = owner.is_some();
    let (ours, theirs) = Channel::pair().system(doing)?;
    if process::fork().system(doing)?.is_none() {
        let reply = match clone_there(net, owner, bare, map, channel, cgroup) {
            Ok((pid, pidfd)) => {
                theirs.send(&Reply::Spawned { pid: pid.as_raw() }, &[pidfd.as_fd()])
            }
            Err(error) => theirs.send(&Reply::Failed(Failure::from_error(&error)), &[]),
        };
        process::exit_now(i32::from(reply.is_err()));
    }
    drop(theirs);
    match ours.receive::<Reply>().system(doing)? {
        Some((Reply::Spawned { pid }, mut descriptors)) => {
            let pidfd = descriptors.pop().ok_or_else(|| Error::system(doing(), "no pidfd"))?;
            // What the copy has mapped below another map, seen from outside of both.
            let check = |pid| if has_owner { check_ids(pid, map) } else { Ok(()) };
            with_ids(Pid::from_raw(pid), pidfd, check)
        }
        Some((Reply::Failed(failure), _)) => Err(failure.into_error()),
        Some((Reply::Watching | Reply::Mapped, _)) | None => {
            Err(Error::system(doing(), "it ended without a word"))
        }
    }
}

/// In the copy: goes there, and clones.
fn clone_there(
    net: OwnedFd,
    owner: Option<OwnedFd>,
    bare: Option<&Bare>,
    map: IdMap,
    channel: Channel,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<(Pid, OwnedFd)> {
    let has_owner = owner.is_some();
    if let Some(owner) = owner {
        setns(owner, CloneFlags::CLONE_NEWUSER).system(|| "enter the owner of a network")?;
    }
    setns(net, CloneFlags::CLONE_NEWNET).system(|| "enter a network")?;
    // A mount needs power over the mount namespace, too.
    match bare {
        Some(bare) => bare.enter()?,
        None => unshare(CloneFlags::CLONE_NEWNS).system(|| "make a mount namespace")?,
    }
    let sys = init::make_sys()?;
    match owner::clone(map, libc::CLONE_PARENT, cgroup)? {
        Cloned::Child => init::run(channel, Some(sys)),
        Cloned::Parent { pid, pidfd } => with_ids(pid, pidfd, |pid| {
            if has_owner { map_ids_below(pid, map) } else { map_ids(pid, map) }
        }),
    }
}
