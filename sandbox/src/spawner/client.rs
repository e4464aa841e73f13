//! The runner's side of the spawner.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use nix::unistd::Pid;

use super::{
    message::{Joined, Reply, Request},
    wait_for,
};
use crate::{
    channel::Channel,
    error::{Doing as _, Error, Result},
    ids::IdMap,
    sys::readiness,
};

/// A cloned init.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// Its process id on the host.
    pub(crate) pid: Pid,
    /// Becomes readable when it and its whole process namespace have ended.
    pub(crate) pidfd: OwnedFd,
}

/// A process that the spawner has started.
#[derive(Debug)]
pub(crate) struct Started {
    /// What it is for.
    pub(crate) what: &'static str,
    /// Its process id on the host.
    pub(crate) pid: i32,
    /// As [`Spawned::pidfd`].
    pub(crate) pidfd: OwnedFd,
}

/// A network namespace that an init is put into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Namespaces<'a> {
    /// The namespace.
    pub(crate) net: BorrowedFd<'a>,
    /// The user namespace that owns it, where that is not the spawner's own; the init's will be
    /// one below it.
    pub(crate) owner: Option<BorrowedFd<'a>>,
}

/// A running spawner.
#[derive(Debug)]
pub struct Spawner {
    /// `None` once it was told to end.
    channel: Mutex<Option<Channel>>,
    pid: Pid,
    /// What it has started and was not seen to end yet.
    started: Mutex<Vec<Started>>,
}

impl Spawner {
    pub(super) fn new(channel: Channel, pid: Pid) -> Self {
        Self { channel: Mutex::new(Some(channel)), pid, started: Mutex::default() }
    }

    /// Has the spawner undo what `journal` names should this process end without doing so.
    pub(crate) fn watch(
        &self,
        journal: &Path,
        lock: BorrowedFd<'_>,
        ids: Option<BorrowedFd<'_>>,
    ) -> Result<()> {
        let request = Request::Watch { journal: journal.to_owned() };
        let locks: Vec<_> = std::iter::once(lock).chain(ids).collect();
        match self.call(&request, &locks)? {
            (Reply::Watching, _) => Ok(()),
            (reply, _) => Err(unexpected(reply)),
        }
    }

    /// Maps the ids of the process `pid`, this one, whose user namespace is new: an unprivileged
    /// process cannot do that for itself.
    pub(crate) fn map_ids(&self, pid: Pid, map: IdMap) -> Result<()> {
        match self.call(&Request::MapIds { pid: pid.as_raw(), map }, &[])? {
            (Reply::Mapped, _) => Ok(()),
            (reply, _) => Err(unexpected(reply)),
        }
    }

    /// Clones an init that speaks over `channel`, in `cgroup` where that is a v2 group, and in
    /// `network` where it shall have none of its own.
    pub(crate) fn spawn(
        &self,
        channel: Channel,
        map: IdMap,
        cgroup: Option<BorrowedFd<'_>>,
        network: Option<Namespaces<'_>>,
    ) -> Result<Spawned> {
        let request = Request::Spawn {
            map,
            cgroup: cgroup.is_some(),
            network: network.map(|network| Joined { owner: network.owner.is_some() }),
        };
        let mut descriptors = vec![channel.as_fd()];
        descriptors.extend(cgroup);
        if let Some(network) = network {
            descriptors.push(network.net);
            descriptors.extend(network.owner);
        }
        self.spawned("the first process of a container", self.call(&request, &descriptors)?)
    }

    /// Clones a process that makes networks for containers with the ids of `map`, asked over
    /// `channel`; in the user namespace `owner`, which has that map, or in one of its own.
    pub(crate) fn keep_networks(
        &self,
        channel: Channel,
        map: IdMap,
        owner: Option<&OwnedFd>,
    ) -> Result<Spawned> {
        let owner = owner.map(|owner| owner.as_fd());
        let descriptors: Vec<_> = std::iter::once(channel.as_fd()).chain(owner).collect();
        let answer = self.call(&Request::KeepNetworks { map }, &descriptors)?;
        self.spawned("what keeps the containers' networks", answer)
    }

    fn spawned(&self, what: &'static str, answer: (Reply, Vec<OwnedFd>)) -> Result<Spawned> {
        match answer {
            (Reply::Spawned { pid }, mut descriptors) => {
                let pidfd = descriptors.pop().ok_or_else(|| {
                    Error::system(format!("start {what}"), "the spawner sent no pidfd")
                })?;
                let copy = pidfd.try_clone().system(|| format!("keep {what} in view"))?;
                let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
                forget_ended(&mut started);
                started.push(Started { what, pid, pidfd: copy });
                drop(started);
                Ok(Spawned { pid: Pid::from_raw(pid), pidfd })
            }
            (reply, _) => Err(unexpected(reply)),
        }
    }

    /// Runs a program of the host until it is killed, or the spawner ends. It has no environment,
    /// and what it says goes to `output`; `what` tells people what it is for.
    pub(crate) fn run(
        &self,
        what: &'static str,
        program: &Path,
        arguments: Vec<String>,
        output: BorrowedFd<'_>,
    ) -> Result<Spawned> {
        let request = Request::Run { program: program.to_owned(), arguments };
        self.spawned(what, self.call(&request, &[output])?)
    }

    fn call(
        &self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Vec<OwnedFd>)> {
        let guard = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = || io::Error::from_raw_os_error(libc::EPIPE);
        let talk = || {
            let channel = guard.as_ref().ok_or_else(ended)?;
            channel.send(request, descriptors)?;
            channel.receive()?.ok_or_else(ended)
        };
        talk().map_err(|error| {
            Error::system("talk to the spawner, which has ended", error)
                .remedy("run again; what this run made is removed at the next start")
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// What it has started and was not seen to end yet.
    pub(crate) fn take_started(&self) -> Vec<Started> {
        let mut started =
            std::mem::take(&mut *self.started.lock().unwrap_or_else(PoisonError::into_inner));
        forget_ended(&mut started);
        started
    }

    /// Says that the run is at its end: no init will be asked for any more, as far as is known.
    pub(crate) fn rest(&self) {
        let guard = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        // One that has ended has let go of everything.
        guard.as_ref().map(|channel| channel.send(&Request::Rest, &[]).ok());
    }

    /// Tells the spawner to end.
    pub(crate) fn dismiss(&self) {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Ends the spawner, and waits until it has.
    pub(crate) fn stop(&self) -> Result<()> {
        self.dismiss();
        wait_for(self.pid).system(|| "wait for the spawner's end")
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!(%error, "the spawner");
        }
    }
}

fn forget_ended(started: &mut Vec<Started>) {
    let now = Instant::now();
    started.retain(|process| !readiness::wait(&process.pidfd, now).unwrap_or(false));
}

fn unexpected(reply: Reply) -> Error {
    match reply {
        Reply::Failed(failure) => {
            failure.into_error().remedy("`cofferdam doctor` says what this host lacks")
        }
        other => Error::system("talk to the spawner", format!("unexpected answer {other:?}")),
    }
}
