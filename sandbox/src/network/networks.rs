//! The networks of a run's containers, and what they have in common.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Destination, LINK_PREFIX, Network, Rule, addresses,
    connection::Connection,
    forwarding::{self, Forwarding},
    host_addresses::HostAddresses,
    keeper::Keeper,
    loss::Loss,
    namespace::Namespace,
    netlink::{
        Place,
        route::{self, Route},
    },
    shared::{self, SharedNetwork},
    slots::{Slot, Slots},
    table,
    uplink::{self, Uplink},
};
use crate::{
    error::{Doing as _, Error, Result},
    ids::{HeldIds, IdMap},
    in_use::InUse,
    journal::{Entry, Journal},
    sandbox::Shared,
};

/// The usual size of a packet, where the host's way out does not say.
const MTU: u32 = 1500;

/// The networks of a run's containers.
#[derive(Debug)]
pub(crate) struct Networks {
    /// Holds the files that all runs of the machine share.
    directory: PathBuf,
    started: Mutex<Option<Arc<Started>>>,
    /// Where the runner is not root.
    keeper: Mutex<Option<Arc<Keeper>>>,
    slots: Slots,
}

/// What is there from the first container with a way out to the end of the run.
#[derive(Debug)]
pub(super) struct Started {
    /// The network namespace through which the packets pass: the host's, or the keeper's.
    pub(super) place: Place,
    pub(super) table: String,
    pub(super) block: Ipv4Addr,
    pub(super) mtu: u32,
    /// Whether packets still pass.
    pub(super) loss: Loss,
    #[expect(dead_code, reason = "packets pass while it is held")]
    passing: Passing,
}

/// What lets packets pass.
#[derive(Debug)]
#[expect(dead_code, reason = "held")]
enum Passing {
    Forwarding(Forwarding),
    Program(Uplink, HostAddresses),
}

/// A network's place among those that share a block of addresses.
#[derive(Debug)]
#[expect(dead_code, reason = "given back when dropped")]
pub(super) enum Number {
    /// A range of ids that no container has: locked on the whole machine.
    Range(HeldIds),
    /// One of this run's, whose namespace is its own.
    Slot(Slot),
}

impl Networks {
    /// None yet.
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            started: Mutex::default(),
            keeper: Mutex::default(),
            slots: Slots::default(),
        }
    }

    /// Makes a network whose containers know each other by `names`, and connects it; within a
    /// runtime.
    pub(crate) fn open(
        &self,
        shared: &InUse<Shared>,
        network: &Network,
        names: Vec<String>,
    ) -> Result<SharedNetwork> {
        shared::check_names(&names)?;
        check(network)?;
        let connected = network.is_connected();
        let ids = shared.ids.acquire()?;
        let map = ids.map();
        let keeper = (!map.is_privileged()).then(|| self.keeper(shared, map)).transpose()?;
        let mut namespace = match &keeper {
            None => Namespace::make(connected)?,
            Some(keeper) => keeper.make(connected)?,
        };
        if !connected {
            let in_use = shared.clone();
            return Ok(SharedNetwork::new(network.clone(), names, None, namespace, in_use));
        }
        let (started, index, number) = match (ids.number(), &keeper) {
            (Some(index), _) => (self.on_host(&shared.journal)?, index, Number::Range(ids)),
            (None, Some(keeper)) => {
                let slot = self.slots.take()?;
                (self.of_user(shared, keeper)?, slot.number(), Number::Slot(slot))
            }
            (None, None) => {
                return Err(Error::system("connect a container to the network", "no ids"));
            }
        };
        let instance = shared.journal.id();
        let number = (index, (number, shared.clone()));
        let connection = Connection::make(&started, number, instance, &mut namespace, network)?;
        let (connection, in_use) = (Some(connection), shared.clone());
        Ok(SharedNetwork::new(network.clone(), names, connection, namespace, in_use))
    }

    fn keeper(&self, shared: &Shared, map: IdMap) -> Result<Arc<Keeper>> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keeper) = &*keeper {
            return Ok(Arc::clone(keeper));
        }
        let new = Arc::new(Keeper::start(&shared.spawner, map)?);
        *keeper = Some(Arc::clone(&new));
        Ok(new)
    }

    /// Once for all networks of the run.
    fn started(&self, start: impl FnOnce() -> Result<Started>) -> Result<Arc<Started>> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(started) = &*started {
            return Ok(Arc::clone(started));
        }
        let new = Arc::new(start()?);
        *started = Some(Arc::clone(&new));
        Ok(new)
    }

    /// Root's packets pass through the host's own namespace.
    fn on_host(&self, journal: &Journal) -> Result<Arc<Started>> {
        self.started(|| {
            let doing = || "prepare the containers' networks";
            let place = Place::Here;
            let table = table::name(journal.id());
            let path = forwarding::path(&self.directory).system(doing)?;
            journal.record(&Entry::Network { table: table.clone(), forwarding: path.clone() })?;
            let (block, routes) = free_block()?;
            let mtu = routes
                .iter()
                .find(|route| route.prefix == 0 && route.link > 0)
                .and_then(|route| route::link_by_index(&place, route.link).ok())
                .map_or(MTU, |link| link.mtu.clamp(576, 65_535));
            let alone = forwarding::is_for_containers(&path)
                .system(|| "look whether packets pass (`ip_forward`)")?;
            make_table(&place, &table, alone)?;
            let forwarding = Forwarding::hold(&path)
                .system(|| "let packets of containers pass (`ip_forward`)")?;
            let (loss, passing) = (Loss::default(), Passing::Forwarding(forwarding));
            Ok(Started { place, table, block, mtu, loss, passing })
        })
    }

    /// Everyone else's pass through the keeper's, of which nothing is left when that has ended.
    fn of_user(&self, shared: &Shared, keeper: &Keeper) -> Result<Arc<Started>> {
        self.started(|| {
            let (place, changes) = keeper.route()?;
            let table = table::name(shared.journal.id());
            let (block, _) = free_block()?;
            make_table(&place, &table, false)?;
            let loss = Loss::default();
            let host = HostAddresses::watch(place.clone(), table.clone(), loss.clone())
                .system(|| "watch the addresses of this host")?;
            let network = addresses::uplink(block);
            let way = (&place, &changes);
            let uplink = Uplink::start(&shared.spawner, keeper, way, network, loss.clone())?;
            let passing = Passing::Program(uplink, host);
            Ok(Started { place, table, block, mtu: uplink::MTU, loss, passing })
        })
    }
}

/// A block of addresses that the host does not use, and the host's routes.
fn free_block() -> Result<(Ipv4Addr, Vec<Route>)> {
    let routes = route::routes(&Place::Here).system(|| "read the host's routes")?;
    let block = addresses::choose(&routes, is_ours).ok_or_else(|| {
        Error::system(
            "find private addresses for containers",
            "the host has routes into all blocks that are tried",
        )
        .remedy("remove routes into 10.213.64.0/18, or run without a network")
    })?;
    Ok((block, routes))
}

fn make_table(place: &Place, table: &str, alone: bool) -> Result<()> {
    table::make(place, table, alone).map_err(|error| {
        Error::system("make the packet filter of the containers", error)
            .remedy("use a kernel with nftables (CONFIG_NF_TABLES with inet, nat, fib and reject)")
    })
}

/// Whether a link with this number is the host's end of a container's.
fn is_ours(index: u32) -> bool {
    route::link_name(&Place::Here, index).is_ok_and(|name| name.starts_with(LINK_PREFIX))
}

/// Refuses what cannot be enforced.
fn check(network: &Network) -> Result<()> {
    let rules = network.rules();
    let doing = "connect a container to the network";
    let block = |rule: &&Rule| matches!(rule.destination, Destination::Block(IpAddr::V4(_), _));
    if rules.iter().filter(block).count() > table::BLOCKS {
        let message = format!("more than {} address blocks are listed", table::BLOCKS);
        return Err(Error::pipeline(doing, message).remedy("list larger blocks"));
    }
    for rule in rules {
        if let Destination::Block(IpAddr::V6(address), bits) = rule.destination {
            let message = format!("`[{address}/{bits}]:{}` is an IPv6 destination", rule.port);
            return Err(Error::pipeline(doing, message)
                .remedy("list IPv4 destinations: containers have no IPv6 yet"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_enforced_is_refused() {
        let allow = |destination: Destination, times| Network::Allow {
            rules: vec![Rule { destination, port: 1 }; times],
            bandwidth: None,
        };
        let v4 = Destination::Block([192, 0, 2, 0].into(), 24);
        check(&allow(v4.clone(), table::BLOCKS)).unwrap();
        check(&allow(v4, table::BLOCKS + 1)).unwrap_err();
        let v6 = Destination::Block("2001:db8::".parse().unwrap(), 32);
        let error = check(&allow(v6, 1)).unwrap_err();
        assert_eq!(error.fault(), crate::Fault::Pipeline);
    }
}
