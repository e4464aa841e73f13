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
    keeper::Keeper,
    namespace::Namespace,
    netlink::{Place, route},
    shared::{self, SharedNetwork},
    table,
};
use crate::{
    error::{Doing as _, Error, Result},
    ids::IdMap,
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
}

/// What is there from the first container with a way out to the end of the run.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) table: String,
    pub(super) block: Ipv4Addr,
    pub(super) mtu: u32,
    #[expect(dead_code, reason = "forwarding is on while it is held")]
    forwarding: Forwarding,
}

impl Networks {
    /// None yet.
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            started: Mutex::default(),
            keeper: Mutex::default(),
        }
    }

    /// Makes a network whose containers know each other by `names`, and connects it; within a
    /// runtime.
    pub(crate) fn open(
        &self,
        shared: &Shared,
        network: &Network,
        names: Vec<String>,
    ) -> Result<SharedNetwork> {
        shared::check_names(&names)?;
        check(network)?;
        let connected = network.is_connected();
        let ids = shared.ids.acquire()?;
        let map = ids.map();
        if connected && ids.number().is_none() {
            let why = "this needs root so far";
            return Err(Error::system("connect a container to the network", why)
                .remedy("run it with `sudo`, or without a network"));
        }
        let mut namespace = if map.is_privileged() {
            Namespace::make(connected)?
        } else {
            self.keeper(shared, map)?.make(connected)?
        };
        // Its place among the machine's networks is a range of ids that no container has.
        let (mut connection, mut number) = (None, None);
        if let Some(index) = ids.number().filter(|_| connected) {
            let started = self.started(&shared.journal)?;
            let instance = shared.journal.id();
            connection =
                Some(Connection::make(&started, index, instance, &mut namespace, network)?);
            number = Some(ids);
        }
        Ok(SharedNetwork::new(network.clone(), names, connection, namespace, number))
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

    fn started(&self, journal: &Journal) -> Result<Arc<Started>> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(started) = &*started {
            return Ok(Arc::clone(started));
        }
        let doing = || "prepare the containers' networks";
        let table = table::name(journal.id());
        let path = forwarding::path(&self.directory).system(doing)?;
        journal.record(&Entry::Network { table: table.clone(), forwarding: path.clone() })?;
        let routes = route::routes(&Place::Here).system(|| "read the host's routes")?;
        let block = addresses::choose(&routes, is_ours).ok_or_else(|| {
            Error::system(
                "find private addresses for containers",
                "the host has routes into all blocks that are tried",
            )
            .remedy("remove routes into 10.213.64.0/18, or run without a network")
        })?;
        let mtu = routes
            .iter()
            .find(|route| route.prefix == 0 && route.link > 0)
            .and_then(|route| route::link_by_index(&Place::Here, route.link).ok())
            .map_or(MTU, |link| link.mtu.clamp(576, 65_535));
        let alone = forwarding::is_for_containers(&path)
            .system(|| "look whether packets pass (`ip_forward`)")?;
        table::make(&Place::Here, &table, alone).map_err(|error| {
            Error::system("make the packet filter of the containers", error).remedy(
                "use a kernel with nftables (CONFIG_NF_TABLES with inet, nat, fib and reject)",
            )
        })?;
        let forwarding =
            Forwarding::hold(&path).system(|| "let packets of containers pass (`ip_forward`)")?;
        let new = Arc::new(Started { table, block, mtu, forwarding });
        *started = Some(Arc::clone(&new));
        Ok(new)
    }
}

/// Whether a link with this number is the host's end of a container's.
fn is_ours(index: u32) -> bool {
    route::link_name(&Place::Here, index).is_ok_and(|name| name.starts_with(LINK_PREFIX))
}

/// Refuses what cannot be enforced.
fn check(network: &Network) -> Result<()> {
    let Network::Allow { rules, .. } = network else { return Ok(()) };
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
