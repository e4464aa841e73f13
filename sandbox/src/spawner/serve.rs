//! The spawner's loop, and what it does when the runner is gone.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::{Pid, Uid},
};

use super::{
    bare::Bare,
    join,
    map_ids::map_ids,
    message::{Joined, Reply, Request},
    owner, run,
};
use crate::{
    channel::Channel,
    error::{Doing as _, Error, Result},
    ids::IdMap,
    init::{self, message::Failure},
    journal, network, supervisor,
    sys::process::{self, Cloned},
};

/// The namespaces that a container with these ids is cloned into, but for the network's, which is a
/// new one, or one that is there. The init takes that of the control groups once it is in its groups,
/// and without root that of the mounts once it knows its job.
pub(super) fn namespaces(map: IdMap) -> i32 {
    let all = libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if map.is_privileged() { all | libc::CLONE_NEWNS } else { all }
}

/// How long the containers' ends are waited for after the runner's, in milliseconds.
const PATIENCE_MS: u16 = 10_000;

/// Serves until the runner closes its end, then removes what it left.
///
/// A reply that cannot be sent means the same as a closed end: the runner is gone, and what it left
/// is removed.
pub(super) fn serve(channel: Channel) -> io::Result<()> {
    let mut watched: Option<PathBuf> = None;
    let mut locks: Vec<OwnedFd> = Vec::new();
    let mut inits: Vec<OwnedFd> = Vec::new();
    let mut bare = Origin::default();
    while let Ok(Some((request, descriptors))) = channel.receive::<Request>() {
        match request {
            Request::Watch { journal } => {
                watched = Some(journal);
                locks = descriptors;
                if channel.send(&Reply::Watching, &[]).is_err() {
                    break;
                }
                // While nobody waits for it. Why it cannot be made is told to whoever needs it.
                if Uid::effective().is_root() {
                    bare.get().ok();
                }
            }
            Request::MapIds { pid, map } => {
                let reply = match map_ids(Pid::from_raw(pid), map) {
                    Ok(()) => Reply::Mapped,
                    Err(error) => Reply::Failed(Failure::from_error(&error)),
                };
                if channel.send(&reply, &[]).is_err() {
                    break;
                }
            }
            Request::Spawn { map, cgroup, network } => {
                forget_ended(&mut inits)?;
                let spawned = spawn(&mut bare, map, cgroup, network, descriptors);
                if let Ok((pid, _)) = &spawned {
                    supervisor::keep_early_victim(*pid);
                }
                if tell(&channel, spawned, &mut inits).is_err() {
                    break;
                }
            }
            Request::KeepNetworks { map } => {
                let spawned = keep_networks(map, descriptors);
                if tell(&channel, spawned, &mut inits).is_err() {
                    break;
                }
            }
            // Made again, should one be asked for after all.
            Request::Rest => bare = Origin::default(),
            Request::Run { program, arguments } => {
                let spawned = run::run(&program, &arguments, descriptors.into_iter().next());
                if tell(&channel, spawned, &mut inits).is_err() {
                    break;
                }
            }
        }
    }
    drop(channel);
    end_all(inits)?;
    if let Some(journal) = watched {
        // A run that ended in order has removed its journal itself.
        if journal.exists() {
            journal::undo(&journal).map_err(io::Error::other)?;
        }
    }
    drop(locks);
    Ok(())
}

/// Says what became of a request, and remembers the process.
fn tell(
    channel: &Channel,
    spawned: Result<(Pid, OwnedFd)>,
    inits: &mut Vec<OwnedFd>,
) -> io::Result<()> {
    match spawned {
        Ok((pid, pidfd)) => {
            let sent = channel.send(&Reply::Spawned { pid: pid.as_raw() }, &[pidfd.as_fd()]);
            inits.push(pidfd);
            sent
        }
        Err(error) => channel.send(&Reply::Failed(Failure::from_error(&error)), &[]),
    }
}

fn spawn(
    bare: &mut Origin,
    map: IdMap,
    has_cgroup: bool,
    network: Option<Joined>,
    descriptors: Vec<OwnedFd>,
) -> Result<(Pid, OwnedFd)> {
    let mut descriptors = descriptors.into_iter();
    let mut take = || {
        descriptors
            .next()
            .ok_or_else(|| Error::system("clone a container's init", "a descriptor is missing"))
    };
    let channel = Channel::from(take()?);
    let cgroup = has_cgroup.then(&mut take).transpose()?;
    let cgroup = cgroup.as_ref().map(OwnedFd::as_fd);
    if let Some(network) = network {
        let net = take()?;
        let owner = network.owner.then(&mut take).transpose()?;
        let bare = map.is_privileged().then(|| bare.get()).transpose()?;
        return join::spawn(net, owner, bare, map, channel, cgroup);
    }
    let clone = || match owner::clone(map, libc::CLONE_NEWNET, cgroup)? {
        Cloned::Child => init::run(channel, None),
        Cloned::Parent { pid, pidfd } => Ok((pid, pidfd)),
    };
    let (pid, pidfd) = if map.is_privileged() { bare.get()?.inside(clone) } else { clone() }?;
    with_ids(pid, pidfd, |pid| map_ids(pid, map))
}

/// Where the inits of root are cloned, once it is there.
#[derive(Debug, Default)]
struct Origin(Option<Bare>);

impl Origin {
    fn get(&mut self) -> Result<&Bare> {
        let bare = self.0.take().map_or_else(Bare::make, Ok)?;
        Ok(self.0.insert(bare))
    }
}

fn keep_networks(map: IdMap, descriptors: Vec<OwnedFd>) -> Result<(Pid, OwnedFd)> {
    let doing = || "clone a process that makes networks";
    let mut descriptors = descriptors.into_iter();
    let channel = descriptors.next().ok_or_else(|| Error::system(doing(), "it has no channel"))?;
    let owner = descriptors.next();
    let namespaces = if owner.is_some() { 0 } else { libc::CLONE_NEWUSER | libc::CLONE_NEWNET };
    let joins = owner.is_some();
    match process::clone(namespaces, None).system(doing)? {
        Cloned::Child => network::keeper::run(Channel::from(channel), owner),
        // That one has its ids.
        Cloned::Parent { pid, pidfd } if joins => Ok((pid, pidfd)),
        Cloned::Parent { pid, pidfd } => with_ids(pid, pidfd, |pid| map_ids(pid, map)),
    }
}

/// Maps the ids of a fresh process.
pub(super) fn with_ids(
    pid: Pid,
    pidfd: OwnedFd,
    map_ids: impl FnOnce(Pid) -> Result<()>,
) -> Result<(Pid, OwnedFd)> {
    match map_ids(pid) {
        Ok(()) => Ok((pid, pidfd)),
        Err(error) => {
            // It waits for its first message; without ids it never gets one.
            drop(process::pidfd_send_signal(&pidfd, libc::SIGKILL));
            Err(error)
        }
    }
}

/// Lets go of the inits that have ended.
fn forget_ended(inits: &mut Vec<OwnedFd>) -> io::Result<()> {
    let ended: Vec<bool> = poll_ended(inits, PollTimeout::ZERO)?;
    let mut ended = ended.into_iter();
    inits.retain(|_| !ended.next().unwrap_or(false));
    Ok(())
}

fn poll_ended(inits: &[OwnedFd], timeout: PollTimeout) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> =
        inits.iter().map(|init| PollFd::new(init.as_fd(), PollFlags::POLLIN)).collect();
    match poll(&mut polled, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(polled.iter().map(|init| init.any().unwrap_or(false)).collect())
}

fn end_all(mut inits: Vec<OwnedFd>) -> io::Result<()> {
    forget_ended(&mut inits)?;
    for init in &inits {
        // One that ended in between is what we want.
        drop(process::pidfd_send_signal(init, libc::SIGKILL));
    }
    for init in inits {
        poll_ended(&[init], PollTimeout::from(PATIENCE_MS))?;
    }
    Ok(())
}
