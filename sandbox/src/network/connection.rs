//! A container's connection: the host's end of its link, its filter and its resolver.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    os::fd::{BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Attempt, CONTAINER_LINK, Destination, LINK_PREFIX, Network, NetworkUse, Rule, addresses,
    forwarding::{self, Forwarding},
    inside::Inside,
    netlink::route,
    resolver::Resolver,
    table::{self, Filter},
};
use crate::{
    error::{Doing as _, Error, Result},
    journal::{Entry, Journal},
};

/// The usual size of a packet, where the host's way out does not say.
const MTU: u32 = 1500;
/// Destinations that are reported.
const REPORTED: usize = 64;

/// The connections of a run's containers.
#[derive(Debug)]
pub(crate) struct Networks {
    /// Holds the files that all runs of the machine share.
    directory: PathBuf,
    started: Mutex<Option<Arc<Started>>>,
}

/// What is there from the first container with a network to the end of the run.
#[derive(Debug)]
struct Started {
    table: String,
    block: Ipv4Addr,
    mtu: u32,
    #[expect(dead_code, reason = "forwarding is on while it is held")]
    forwarding: Forwarding,
}

/// A connected container.
#[derive(Debug)]
pub(crate) struct Connection {
    link: String,
    filter: Filter,
    inside: Inside,
    life: Mutex<Life>,
}

/// How far a connection has come.
#[derive(Debug, Default)]
struct Life {
    resolver: Option<Resolver>,
    removed: bool,
}

impl Networks {
    /// None yet.
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), started: Mutex::new(None) }
    }

    /// Connects the container with this number, whose network namespace is `namespace`; its own
    /// end is still to be set up, with [`Connection::inside`].
    pub(crate) fn connect(
        &self,
        journal: &Journal,
        number: u32,
        namespace: BorrowedFd<'_>,
        network: &Network,
    ) -> Result<Connection> {
        check(network)?;
        let started = self.started(journal)?;
        let ends = addresses::ends(started.block, number);
        let link = addresses::link_name(number, journal.id());
        let rate = network.bandwidth().map(|bits| (bits / 8).max(1));
        let make = || -> io::Result<Filter> {
            route::make_pair(&link, CONTAINER_LINK, namespace, started.mtu)?;
            let made = || {
                let filter = Filter::make(&started.table, &link, ends.container, network)?;
                set_up(&link, ends.host, rate).map(|()| filter)
            };
            made().inspect_err(|_| {
                // The namespace's end would remove it too, only later.
                drop(route::remove_link(&link));
            })
        };
        let filter = make().map_err(|error| {
            let missing = matches!(
                error.raw_os_error(),
                Some(libc::EOPNOTSUPP | libc::ENOENT | libc::EPROTONOSUPPORT)
            );
            let error = Error::system("connect a container to the network", error);
            if missing {
                error.remedy(
                    "use a kernel with virtual Ethernet (CONFIG_VETH), nftables (CONFIG_NF_TABLES \
                     with inet, nat, fib, reject and connection limits) and CONFIG_NET_SCH_TBF",
                )
            } else {
                error
            }
        })?;
        let inside = Inside { address: ends.container, gateway: ends.host, rate };
        Ok(Connection { link, filter, inside, life: Mutex::default() })
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
        let routes = route::routes().system(|| "read the host's routes")?;
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
            .and_then(|route| route::link_by_index(route.link).ok())
            .map_or(MTU, |link| link.mtu.clamp(576, 65_535));
        let alone = forwarding::is_for_containers(&path)
            .system(|| "look whether packets pass (`ip_forward`)")?;
        table::make(&table, alone).map_err(|error| {
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
    route::link_name(index).is_ok_and(|name| name.starts_with(LINK_PREFIX))
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

/// The host's end: an address, no router or guesswork, packets checked against the way back, up.
fn set_up(link: &str, address: Ipv4Addr, rate: Option<u64>) -> io::Result<()> {
    for (setting, value) in [
        ("rp_filter", "1"),
        ("accept_redirects", "0"),
        ("send_redirects", "0"),
        ("forwarding", "1"),
    ] {
        fs::write(format!("/proc/sys/net/ipv4/conf/{link}/{setting}"), value)?;
    }
    match fs::write(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"), "1") {
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other?,
    }
    let index = route::link(link)?.index;
    if let Some(rate) = rate {
        route::limit_rate(index, rate)?;
    }
    route::add_address(index, address, addresses::LINK_PREFIX_LENGTH)?;
    route::bring_up(index)
}

impl Connection {
    /// What the init needs to set up the container's end.
    pub(crate) fn inside(&self) -> Inside {
        self.inside
    }

    /// Answers the container's questions for names on its two sockets; within a runtime.
    pub(crate) fn resolve(&self, sockets: [OwnedFd; 2], network: &Network) -> Result<()> {
        let resolver = Resolver::start(sockets, network, self.filter.clone())
            .system(|| "answer a container's questions for names")?;
        self.life().resolver = Some(resolver);
        Ok(())
    }

    /// What the container did so far.
    pub(crate) fn used(&self) -> io::Result<NetworkUse> {
        let link = route::link(&self.link)?;
        let (refused, reached) = (self.filter.refused()?, self.filter.recorded()?);
        let life = self.life();
        let history = life.resolver.as_ref().map(Resolver::history);
        let attempt = |counted: table::Counted| Attempt {
            host: history.as_ref().map_or_else(
                || counted.address.to_string(),
                |history| history.host(counted.address),
            ),
            port: counted.port,
            times: counted.packets,
        };
        let names = history.iter().flat_map(|history| history.refusals());
        Ok(NetworkUse {
            // The host sends what the container receives.
            received: link.sent,
            sent: link.received,
            denied: by_times(refused.into_iter().map(attempt).chain(names).collect()),
            reached: by_times(reached.into_iter().map(attempt).collect()),
        })
    }

    /// Removes the filter; nothing of the container may run any more.
    ///
    /// The link goes with the container's namespace, whose last holders are the resolver's sockets.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let mut life = self.life();
        life.resolver = None;
        if std::mem::replace(&mut life.removed, true) { Ok(()) } else { self.filter.remove() }
    }

    fn life(&self) -> std::sync::MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Joins attempts at the same destination, the most often tried first, and keeps the first few.
fn by_times(mut attempts: Vec<Attempt>) -> Vec<Attempt> {
    attempts.sort();
    attempts.dedup_by(|next, kept| {
        let same = (&next.host, next.port) == (&kept.host, kept.port);
        if same {
            kept.times = kept.times.saturating_add(next.times);
        }
        same
    });
    attempts.sort_by_key(|attempt| std::cmp::Reverse(attempt.times));
    attempts.truncate(REPORTED);
    attempts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_joined_and_bounded() {
        let attempt = |host: &str, port, times| Attempt { host: host.to_owned(), port, times };
        let joined = by_times(vec![
            attempt("b", Some(1), 1),
            attempt("a", None, 2),
            attempt("b", Some(1), 3),
            attempt("b", None, 1),
        ]);
        assert_eq!(
            joined,
            [attempt("b", Some(1), 4), attempt("a", None, 2), attempt("b", None, 1)]
        );
        let many = (0..1000).map(|number| attempt(&number.to_string(), None, 1)).collect();
        assert_eq!(by_times(many).len(), REPORTED);
    }

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
