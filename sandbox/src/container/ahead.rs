//! Containers that stand before anyone asks for them.
//!
//! Whoever knows what will be asked for next can have it made ahead of need: asking is a hand-over
//! then. Such a container is as complete as any other, with its limits in force, verified, and
//! nothing has run in it. One job gets it, whose description is the same in everything, and it is
//! never given back; one that nobody asks for goes with the sandbox.

use std::sync::Arc;

use super::{Container, ContainerSpec, prepare};
use crate::{
    ahead::{Ahead, Begun, Reserved},
    in_use::InUse,
    network::ContainerNetwork,
    sandbox::Shared,
};

/// Most of them at once, those in the making included.
const MOST: usize = 4;

/// With so many, whoever asked last has the processors to itself for a moment.
const ENOUGH: usize = 2;

/// The containers that stand ahead of need, and what will be asked for.
#[derive(Debug)]
pub(crate) struct Standing(Arc<Ahead<Like, Container>>);

/// One that is to be made.
#[derive(Debug)]
pub(crate) struct Order(Begun<Like, Container>);

/// A description, equal to those whose containers can stand for its own.
#[derive(Clone, Debug)]
struct Like(Arc<ContainerSpec>);

impl PartialEq for Like {
    fn eq(&self, other: &Self) -> bool {
        self.0.is_like(&other.0)
    }
}

impl Default for Standing {
    fn default() -> Self {
        Self(Ahead::new(MOST))
    }
}

impl Standing {
    /// So many more will be asked for like this. Those in a network, or beside another container,
    /// are made when they are asked for.
    pub(crate) fn expect(&self, spec: ContainerSpec, more: usize) {
        let alone = match &spec.network {
            ContainerNetwork::Own(network) => !network.is_connected(),
            ContainerNetwork::Shared(_) => false,
        };
        if alone && spec.beside.is_none() {
            self.0.expect(std::iter::repeat_n(Like(Arc::new(spec)), more));
        }
    }

    /// Whether so many stand that the next one can wait for a moment.
    pub(crate) fn can_wait(&self) -> bool {
        self.0.stock() >= ENOUGH
    }

    /// Another one, if it should be made now.
    pub(crate) fn next(&self) -> Option<Order> {
        self.0.begin().map(Order)
    }

    /// One like this, where one stands or is in the making and promised to nobody else.
    pub(crate) async fn take(&self, spec: &ContainerSpec) -> Option<Container> {
        let like = Like(Arc::new(spec.clone()));
        loop {
            let container = match self.0.reserve(&like)? {
                Reserved::Made(container) => container,
                coming @ Reserved::InTheMaking(_) => {
                    tokio::task::spawn_blocking(|| coming.wait()).await.ok()??
                }
            };
            // It may have been killed, as when the host ran out of memory.
            if !container.has_ended() {
                return Some(container);
            }
        }
    }

    /// Waits for those in the making, and ends all.
    pub(crate) fn close(&self) {
        self.0.close();
    }
}

impl Order {
    /// Makes it, blocking, and hands it in. One that cannot be made is no loss: whoever asks for it
    /// tries again, and reports why.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(crate) fn make(self, shared: InUse<Shared>) {
        let spec = ContainerSpec::clone(&self.0.kind().0);
        let made = prepare(&shared, &Arc::default(), spec)
            .and_then(|prepared| Container::new(shared, prepared));
        match made {
            Ok(container) => self.0.give(container),
            Err(error) => tracing::debug!(%error, "no container could be made ahead of need"),
        }
    }
}
