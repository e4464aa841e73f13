//! Containers that are begun before anyone asks for them.
//!
//! What is the same for every container, and what most of the time goes into, can be done ahead of
//! need: its ids, its control group, its namespaces, its kernel file systems. A warm container
//! belongs to no job and has run nothing; it is taken by one job and never given back.

use std::{
    collections::VecDeque,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use super::prepare::{Group, Init};
use crate::{
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
#[derive(Debug, Default)]
pub(crate) struct Pool {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Warm>,
    /// How many are being begun.
    making: usize,
    /// How many callers wait for those.
    waiting: usize,
    /// How many containers are still to be asked for.
    expected: usize,
}

impl Pool {
    /// So many more containers will be asked for.
    pub(crate) fn expect(&self, more: usize) {
        let mut state = self.lock();
        state.expected = state.expected.saturating_add(more);
    }

    /// Takes a warm container, or begins one. A warm one has a network namespace of its own.
    pub(super) fn take(&self, shared: &Shared, network: Option<&SharedNetwork>) -> Result<Warm> {
        let mut state = self.lock();
        state.expected = state.expected.saturating_sub(1);
        if network.is_some() {
            drop(state);
            return Warm::begin(shared, network, None);
        }
        if state.waiting < state.making {
            state.waiting += 1;
            while state.ready.is_empty() && state.making > 0 {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.waiting -= 1;
        }
        match state.ready.pop_front() {
            Some(warm) => Ok(warm),
            None => {
                drop(state);
                Warm::begin(shared, None, None)
            }
        }
    }

    /// Whether another should be begun now: whoever is told so must [`Self::fill`].
    pub(crate) fn wants_more(&self) -> bool {
        let mut state = self.lock();
        let coming = state.ready.len() + state.making;
        let wanted = coming < MOST && coming < state.expected;
        if wanted {
            state.making += 1;
        }
        wanted
    }

    /// Begins the container that [`Self::wants_more`] asked for. One that cannot be begun is no
    /// loss: whoever needs it tries again, and reports why.
    pub(crate) fn fill(&self, shared: InUse<Shared>) {
        let made = Warm::begin(&shared, None, None);
        // The sandbox can be closed only when nobody holds this any more.
        drop(shared);
        let mut state = self.lock();
        state.making -= 1;
        match made {
            Ok(warm) => state.ready.push_back(warm),
            Err(error) => tracing::debug!(%error, "no container could be begun ahead of need"),
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for those in the making, and ends all.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.expected = 0;
        while state.making > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.ready.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
