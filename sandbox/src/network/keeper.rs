//! The keeper: the process in whose user namespace the networks of an unprivileged user's
//! containers are.
//!
//! An unprivileged user has power over a network only in a user namespace of their own. The
//! containers' own ones will not do: two containers could not share a network, and its owner would
//! be in reach of them. So one process, a copy of the spawner, is in a user namespace that contains
//! those of the containers, and makes network namespaces there when it is asked to: the runner's,
//! where that has moved into one, since it must have power over the networks, too. The one network
//! that the keeper is in itself is the containers' router, where they have a way out. It ends when
//! its channel closes, or with the spawner.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Mutex, PoisonError},
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use super::{
    namespace::{self, Namespace},
    netlink::{self, Changes, Place},
};
use crate::{
    channel::Channel,
    error::{Doing as _, Error, Result},
    ids::{self, IdMap},
    init::message::Failure,
    spawner::{Spawned, Spawner},
    sys::{network::loopback_up, process},
};

/// From the runner.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// Make a network namespace.
    Make {
        /// Whether names are resolved in it.
        resolver: bool,
        /// The highest group that the containers have.
        highest_group: u32,
    },
    /// Let packets pass through the keeper's own network namespace.
    Route,
}

/// From the keeper.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    /// It is made. Descriptors: the user namespace that owns it, then what [`namespace::enter_new`]
    /// opens.
    Made,
    /// They pass. Descriptors: two netlink sockets, as [`netlink::open_here`] opens them, and one on
    /// which changes of links arrive.
    Routes,
    /// It could not be made.
    Failed(Failure),
}

/// The runner's side of it.
#[derive(Debug)]
pub(super) struct Keeper {
    channel: Mutex<Channel>,
    process: Spawned,
    highest_group: u32,
}

impl Keeper {
    /// Starts one for containers with the ids of `map`.
    pub(super) fn start(spawner: &Spawner, map: IdMap) -> Result<Self> {
        let (ours, theirs) = Channel::pair().system(|| "make a channel")?;
        let owner = ids::own_namespace().system(|| "open the runner's user namespace")?;
        let process = spawner.keep_networks(theirs, map, owner.as_ref())?;
        Ok(Self { channel: Mutex::new(ours), process, highest_group: map.highest() })
    }

    /// Has it make a network namespace.
    pub(super) fn make(&self, resolver: bool) -> Result<Namespace> {
        let doing = || "have a network namespace made";
        let request = Request::Make { resolver, highest_group: self.highest_group };
        match self.ask(&request)? {
            (Reply::Made, mut descriptors) if !descriptors.is_empty() => {
                let owner = descriptors.remove(0);
                Namespace::of(descriptors, Some(owner))
            }
            (reply, _) => Err(unexpected(doing(), reply)),
        }
    }

    /// Has it let packets pass; returns its own network namespace, and a socket on which changes
    /// of links there arrive.
    pub(super) fn route(&self) -> Result<(Place, Changes)> {
        let doing = || "let packets of containers pass";
        match self.ask(&Request::Route)? {
            (Reply::Routes, descriptors) => {
                let descriptors: Result<[OwnedFd; 3], _> = descriptors.try_into();
                let [route, netfilter, changes] =
                    descriptors.map_err(|_| Error::system(doing(), "a descriptor is missing"))?;
                Ok((Place::there([route, netfilter]), changes.into()))
            }
            (reply, _) => Err(unexpected(doing(), reply)),
        }
    }

    /// Its process id, by which other programs find its namespaces.
    pub(super) fn pid(&self) -> Pid {
        self.process.pid
    }

    fn ask(&self, request: &Request) -> Result<(Reply, Vec<OwnedFd>)> {
        let doing = || "have a network made";
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let ended =
            || Error::system(doing(), "the process for it has ended").remedy("run it again");
        channel.send(request, &[]).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => ended(),
            _ => Error::system(doing(), error),
        })?;
        let answer = channel.receive().system(doing)?;
        answer.ok_or_else(ended)
    }
}

fn unexpected(doing: &'static str, reply: Reply) -> Error {
    match reply {
        Reply::Failed(failure) => {
            failure.into_error().remedy("`cofferdam doctor` says what this host lacks")
        }
        other => Error::system(doing, format!("unexpected answer {other:?}")),
    }
}

/// Runs the keeper in the process that was just cloned, in the user namespace `owner` if one is
/// given; ends with the process.
pub(crate) fn run(channel: Channel, owner: Option<OwnedFd>) -> ! {
    let joined = owner.map_or(Ok(()), join).system(|| "move to where networks can be made");
    let status = match channel.isolate().and_then(|channel| serve(&channel, joined)) {
        Ok(()) => 0,
        Err(_) => 1,
    };
    process::exit_now(status)
}

/// Moves this process into a user namespace, and into a network namespace that belongs to that.
fn join(owner: OwnedFd) -> io::Result<()> {
    setns(owner, CloneFlags::CLONE_NEWUSER)?;
    Ok(unshare(CloneFlags::CLONE_NEWNET)?)
}

fn serve(channel: &Channel, joined: Result<()>) -> io::Result<()> {
    process::set_name(c"cofferdam-net")?;
    process::die_with_parent()?;
    // Its ids are mapped by the time that the first request arrives.
    while let Some((request, _)) = channel.receive::<Request>()? {
        if let Err(error) = &joined {
            channel.send(&Reply::Failed(Failure::from_error(error)), &[])?;
            continue;
        }
        let done = match request {
            Request::Make { resolver, highest_group } => {
                let home = File::open("/proc/self/ns/net")?;
                make(home, resolver, highest_group)?.map(|opened| (Reply::Made, opened))
            }
            Request::Route => route().map(|opened| (Reply::Routes, opened)),
        };
        match done {
            Ok((reply, opened)) => {
                let descriptors: Vec<_> = opened.iter().map(OwnedFd::as_fd).collect();
                channel.send(&reply, &descriptors)?;
            }
            Err(error) => {
                channel.send(&Reply::Failed(Failure::from_error(&error)), &[])?;
            }
        }
    }
    Ok(())
}

/// Makes one, and comes back to `home`. The outer error is the keeper's end: it would be in a
/// container's network then, and take that for its own at the next request.
fn make(home: File, resolver: bool, highest_group: u32) -> io::Result<Result<Vec<OwnedFd>>> {
    let opened = namespace::enter_new(resolver, highest_group);
    // Not to keep the new one when its containers have ended.
    setns(home, CloneFlags::CLONE_NEWNET)?;
    let opened = opened.and_then(|opened| {
        let owner = OwnedFd::from(File::open("/proc/self/ns/user")?);
        Ok(std::iter::once(owner).chain(opened).collect())
    });
    Ok(opened.system(|| "make a network namespace"))
}

/// As a host is set up by root, for links that are still to be made.
fn route() -> Result<Vec<OwnedFd>> {
    let route = || {
        loopback_up()?;
        for (setting, value) in [
            ("ipv4/ip_forward", "1"),
            ("ipv4/conf/default/rp_filter", "1"),
            ("ipv4/conf/default/accept_redirects", "0"),
            ("ipv4/conf/default/send_redirects", "0"),
            ("ipv6/conf/default/disable_ipv6", "1"),
        ] {
            match fs::write(format!("/proc/sys/net/{setting}"), value) {
                // A kernel without IPv6.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        let mut all = Vec::from(netlink::open_here()?);
        all.push(Changes::listen(libc::RTMGRP_LINK)?.into());
        Ok::<_, io::Error>(all)
    };
    route().system(|| "let packets of containers pass")
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// What a keeper has to say of three requests, where `home` is what it takes for its own network;
    /// in a thread that has a network of its own in the end.
    fn serve_three(home: &'static str) -> Vec<bool> {
        let keeper = thread::spawn(move || {
            let mut said = Vec::new();
            for _ in 0..3 {
                match make(File::open(home)?, false, 0) {
                    Ok(made) => said.push(made.is_ok()),
                    // As `serve` does.
                    Err(_) => break,
                }
            }
            Ok::<_, io::Error>(said)
        });
        keeper.join().unwrap().unwrap()
    }

    #[test]
    fn a_keeper_that_cannot_go_home_makes_nothing_more() {
        if !nix::unistd::geteuid().is_root() {
            crate::tests::not_run("a_keeper_that_cannot_go_home_makes_nothing_more", "not root");
            return;
        }
        assert_eq!(serve_three("/proc/thread-self/ns/net"), [true, true, true]);
        // No network to go to.
        assert_eq!(serve_three("/dev/null"), [false; 0]);
    }
}
