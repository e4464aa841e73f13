//! Containers that are begun before anyone asks for them.
//!
//! What is the same for every container, and what most of the time goes into, can be done ahead of
//! need: its ids, its control group, its namespaces, its kernel file systems. A warm container
//! belongs to no job and has run nothing; it is taken by one job and never given back.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, atomic::Ordering},
};

use super::prepare::{Group, Init};
use crate::{
    ahead::{Ahead, Begun, Reserved},
    channel::Channel,
    devices,
    error::{Doing as _, Result},
    ids::HeldIds,
    in_use::InUse,
    init::message::{Begin, NetworkNamespace},
    network::SharedNetwork,
    sandbox::Shared,
};

/// Most warm containers at once: one to be taken and one in the making.
const MOST: usize = 2;

/// A container that has begun.
#[derive(Debug)]
pub(super) struct Warm {
    pub(super) channel: Channel,
    pub(super) init: Init,
    pub(super) group: Group,
    pub(super) ids: Arc<HeldIds>,
}

impl Warm {
    /// Begins a container, in a network namespace of its own unless it shall share `network`;
    /// does not wait for its init. Its ids are `ids`, or its own.
    pub(super) fn begin(
        shared: &Shared,
        network: Option<&SharedNetwork>,
        ids: Option<Arc<HeldIds>>,
    ) -> Result<Self> {
        let ids = ids.map_or_else(|| shared.ids.acquire().map(Arc::new), Ok)?;
        let map = ids.map();
        let name = shared.containers.fetch_add(1, Ordering::Relaxed).to_string();
        let group = Group::new(shared.groups.make(&name)?);
        let entrance = group.group.entrance()?;
        let (channel, theirs) = Channel::pair().system(|| "make the init's channel")?;
        let clone_into = entrance.directory.as_ref().map(OwnedFd::as_fd);
        let namespaces = network.map(SharedNetwork::namespaces);
        let init = Init(shared.spawner.spawn(theirs, map, clone_into, namespaces)?);
        let join = entrance.tasks;
        let devices = map.is_privileged().then(devices::make).transpose();
        let devices = devices.system(|| "make the device file system")?;
        let begin = Begin {
            join: join.len(),
            ids: map,
            network: whose(network),
            cgroup_mount: join.is_empty() && entrance.directory.is_some(),
        };
        let descriptors: Vec<_> = join.iter().chain(&devices).map(OwnedFd::as_fd).collect();
        channel.send(&begin, &descriptors).system(|| "tell the init to begin")?;
        Ok(Self { channel, init, group, ids })
    }
}

fn whose(network: Option<&SharedNetwork>) -> NetworkNamespace {
    match network.map(|network| network.namespaces().owner) {
        None => NetworkNamespace::Own,
        Some(None) => NetworkNamespace::Shared,
        Some(Some(_)) => NetworkNamespace::SharedBelow,
    }
}

/// The containers that are warm, and how many more will be asked for.
#[derive(Debug)]
pub(crate) struct Pool(Arc<Ahead<(), Warm>>);

/// A warm container that is to be begun.
#[derive(Debug)]
pub(crate) struct Wanted(Begun<(), Warm>);

impl Default for Pool {
    fn default() -> Self {
        Self(Ahead::new(MOST))
    }
}

impl Pool {
    /// So many more containers will be asked for.
    pub(crate) fn expect(&self, more: usize) {
        self.0.expect(std::iter::repeat_n((), more));
    }

    /// Takes a warm container, or begins one. A warm one has a network namespace of its own.
    pub(super) fn take(&self, shared: &Shared, network: Option<&SharedNetwork>) -> Result<Warm> {
        let warm = match network {
            None => self.0.reserve(&()).and_then(Reserved::wait),
            Some(_) => None,
        };
        warm.map_or_else(|| Warm::begin(shared, network, None), Ok)
    }

    /// Another one, if it should be begun now.
    pub(crate) fn wanted(&self) -> Option<Wanted> {
        self.0.begin().map(Wanted)
    }

    /// Waits for those in the making, and ends all.
    pub(crate) fn close(&self) {
        self.0.close();
    }
}

impl Wanted {
    /// Begins it. One that cannot be begun is no loss: whoever needs it tries again, and reports
    /// why.
    pub(crate) fn begin(self, shared: InUse<Shared>) {
        let begun = Warm::begin(&shared, None, None);
        // The sandbox can be closed only when nobody holds this any more.
        drop(shared);
        match begun {
            Ok(warm) => self.0.give(warm),
            Err(error) => tracing::debug!(%error, "no container could be begun ahead of need"),
        }
    }
}
