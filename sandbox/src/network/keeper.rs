//! The keeper: the process in whose user namespace the networks of an unprivileged user's
//! containers are.
//!
//! An unprivileged user has power over a network only in a user namespace of their own. The
//! containers' own ones will not do: two containers could not share a network, and its owner would
//! be in reach of them. So one process, a copy of the spawner, is in a user namespace that contains
//! those of the containers, and makes network namespaces there when it is asked to. It ends when
//! its channel closes, or with the spawner.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Mutex, PoisonError},
};

use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};

use super::namespace::{self, Namespace};
use crate::{
    channel::Channel,
    error::{Doing as _, Error, Result},
    ids::IdMap,
    init::message::Failure,
    spawner::{Spawned, Spawner},
    sys::process,
};

/// From the runner: make a network namespace.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    /// Whether names are resolved in it.
    resolver: bool,
    /// The highest group that the containers have.
    highest_group: u32,
}

/// From the keeper.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    /// It is made. Descriptors: the user namespace that owns it, then what [`namespace::enter_new`]
    /// opens.
    Made,
    /// It could not be made.
    Failed(Failure),
}

/// The runner's side of it.
#[derive(Debug)]
pub(super) struct Keeper {
    channel: Mutex<Channel>,
    #[expect(dead_code, reason = "it ends when this is dropped")]
    process: Spawned,
    highest_group: u32,
}

impl Keeper {
    /// Starts one for containers with the ids of `map`.
    pub(super) fn start(spawner: &Spawner, map: IdMap) -> Result<Self> {
        let (ours, theirs) = Channel::pair().system(|| "make a channel")?;
        let process = spawner.keep_networks(theirs, map)?;
        Ok(Self { channel: Mutex::new(ours), process, highest_group: map.highest() })
    }

    /// Has it make a network namespace.
    pub(super) fn make(&self, resolver: bool) -> Result<Namespace> {
        let doing = || "have a network namespace made";
        let request = Request { resolver, highest_group: self.highest_group };
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        channel.send(&request, &[]).system(doing)?;
        match channel.receive().system(doing)? {
            Some((Reply::Made, mut descriptors)) if !descriptors.is_empty() => {
                let owner = descriptors.remove(0);
                Namespace::of(descriptors, Some(owner))
            }
            Some((Reply::Failed(failure), _)) => {
                Err(failure.into_error().remedy("`cofferdam doctor` says what this host lacks"))
            }
            Some((Reply::Made, _)) | None => {
                Err(Error::system(doing(), "the process for it has ended"))
            }
        }
    }
}

/// Runs the keeper in the process that was just cloned; ends with the process.
pub(crate) fn run(channel: Channel) -> ! {
    let status = match channel.isolate().and_then(|channel| serve(&channel)) {
        Ok(()) => 0,
        Err(_) => 1,
    };
    process::exit_now(status)
}

fn serve(channel: &Channel) -> io::Result<()> {
    process::set_name(c"cofferdam-net")?;
    process::die_with_parent()?;
    // Its ids are mapped by the time that the first request arrives.
    while let Some((request, _)) = channel.receive::<Request>()? {
        match make(&request) {
            Ok(opened) => {
                let descriptors: Vec<_> = opened.iter().map(OwnedFd::as_fd).collect();
                channel.send(&Reply::Made, &descriptors)?;
            }
            Err(error) => {
                channel.send(&Reply::Failed(Failure::from_error(&error)), &[])?;
            }
        }
    }
    Ok(())
}

fn make(request: &Request) -> Result<Vec<OwnedFd>> {
    let make = || {
        let home = File::open("/proc/self/ns/net")?;
        let opened = namespace::enter_new(request.resolver, request.highest_group);
        // Not to keep the new one when its containers have ended.
        setns(home, CloneFlags::CLONE_NEWNET)?;
        let mut all = vec![OwnedFd::from(File::open("/proc/self/ns/user")?)];
        all.extend(opened?);
        Ok::<_, io::Error>(all)
    };
    make().system(|| "make a network namespace")
}
