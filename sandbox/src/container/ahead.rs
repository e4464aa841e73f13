//! Containers that stand before anyone asks for them.
//!
//! Whoever knows what will be asked for next can have it made ahead of need: asking is a hand-over
//! then. Such a container is as complete as any other, with its limits in force, verified, and
//! nothing has run in it. One job gets it, whose description is the same in everything, and it is
//! never given back; one that nobody asks for goes with the sandbox.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::{Container, ContainerSpec, prepare};
use crate::{in_use::InUse, network::ContainerNetwork, sandbox::Shared};

/// Most containers of one description that stand or are in the making: one to be taken and one
/// after it.
const MOST_ALIKE: usize = 2;
/// Most of them in all.
const MOST: usize = 4;

/// The containers that stand ahead of need, and what will be asked for.
#[derive(Debug, Default)]
pub(crate) struct Ahead(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    expected: Vec<Expected>,
    making: Vec<Making>,
    standing: Vec<Container>,
    /// Numbers the orders.
    next: u64,
    closed: bool,
}

/// What will be asked for, and how often.
#[derive(Debug)]
struct Expected {
    spec: Arc<ContainerSpec>,
    more: usize,
}

/// One that is being made, and who waits for it.
#[derive(Debug)]
struct Making {
    number: u64,
    spec: Arc<ContainerSpec>,
    claimed: Option<oneshot::Sender<Container>>,
}

impl Ahead {
    /// So many more will be asked for like this. Those in a network, or beside another container,
    /// are made when they are asked for.
    pub(crate) fn expect(&self, spec: ContainerSpec, more: usize) {
        let alone = match &spec.network {
            ContainerNetwork::Own(network) => !network.is_connected(),
            ContainerNetwork::Shared(_) => false,
        };
        if !alone || spec.beside.is_some() || more == 0 {
            return;
        }
        let mut state = self.lock();
        match state.expected.iter_mut().find(|expected| expected.spec.is_like(&spec)) {
            Some(expected) => expected.more = expected.more.saturating_add(more),
            None => state.expected.push(Expected { spec: Arc::new(spec), more }),
        }
    }

    /// What to make next.
    pub(crate) fn next(self: &Arc<Self>) -> Option<Order> {
        let mut state = self.lock();
        if state.standing.len() + state.making.len() >= MOST {
            return None;
        }
        let wanted = state.expected.iter().find(|expected| {
            let coming = state.alike(&expected.spec);
            coming < expected.more && coming < MOST_ALIKE
        });
        let spec = Arc::clone(&wanted?.spec);
        let number = state.next;
        state.next += 1;
        state.making.push(Making { number, spec: Arc::clone(&spec), claimed: None });
        Some(Order { ahead: Arc::clone(self), number, spec })
    }

    /// What became of an order, the first time that something is said of it.
    fn made(&self, number: u64, container: Option<Container>) {
        let mut state = self.lock();
        let place = state.making.iter().position(|making| making.number == number);
        let Some(mut made) = place.map(|place| state.making.swap_remove(place)) else { return };
        if made.claimed.is_none() {
            // Somebody may wait for another one like it, which is still in the making.
            let alike = |making: &&mut Making| Arc::ptr_eq(&making.spec, &made.spec);
            let other = state.making.iter_mut().filter(alike).find(|it| it.claimed.is_some());
            made.claimed = other.and_then(|other| other.claimed.take());
        }
        let Some(container) = container else { return };
        let left = match made.claimed {
            Some(claimed) => claimed.send(container).err(),
            None => Some(container),
        };
        // Who has waited for it may be gone.
        match left {
            Some(late) if state.closed => {
                drop(state);
                drop(late);
            }
            left => state.standing.extend(left),
        }
    }

    /// One like this, where one stands or is in the making and promised to nobody else.
    pub(crate) async fn take(&self, spec: &ContainerSpec) -> Option<Container> {
        let coming = {
            let mut state = self.lock();
            state.asked_for(spec);
            let alike = |standing: &Container| standing.spec().is_like(spec);
            while let Some(place) = state.standing.iter().position(alike) {
                let container = state.standing.swap_remove(place);
                // It may have been killed, as when the host ran out of memory.
                if !container.has_ended() {
                    return Some(container);
                }
            }
            let mut making = state.making.iter_mut();
            let free =
                making.find(|making| making.claimed.is_none() && making.spec.is_like(spec))?;
            let (claimed, coming) = oneshot::channel();
            free.claimed = Some(claimed);
            coming
        };
        coming.await.ok()
    }

    /// Ends those that stand; those in the making end when they are made.
    pub(crate) fn close(&self) {
        let standing = {
            let mut state = self.lock();
            state.closed = true;
            state.expected.clear();
            std::mem::take(&mut state.standing)
        };
        drop(standing);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that is to be made.
///
/// One that cannot be made is no loss: whoever asks for it tries again, and reports why.
#[derive(Debug)]
pub(crate) struct Order {
    ahead: Arc<Ahead>,
    number: u64,
    spec: Arc<ContainerSpec>,
}

impl Order {
    /// Makes it, blocking, and hands it in.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(crate) fn make(self, shared: InUse<Shared>) {
        let spec = ContainerSpec::clone(&self.spec);
        let made = prepare(&shared, &Arc::default(), spec)
            .and_then(|prepared| Container::new(shared, prepared));
        match made {
            Ok(container) => self.ahead.made(self.number, Some(container)),
            Err(error) => tracing::debug!(%error, "no container could be made ahead of need"),
        }
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        // Says nothing where it was handed in.
        self.ahead.made(self.number, None);
    }
}

impl State {
    /// How many like this stand or will, for nobody yet.
    fn alike(&self, spec: &ContainerSpec) -> usize {
        let standing = self.standing.iter().filter(|standing| standing.spec().is_like(spec));
        let making = self.making.iter().filter(|making| making.claimed.is_none());
        standing.count() + making.filter(|making| making.spec.is_like(spec)).count()
    }

    fn asked_for(&mut self, spec: &ContainerSpec) {
        if let Some(expected) = self.expected.iter_mut().find(|it| it.spec.is_like(spec)) {
            expected.more = expected.more.saturating_sub(1);
        }
        self.expected.retain(|expected| expected.more > 0);
    }
}
