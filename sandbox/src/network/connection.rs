//! A network's way out: the host's end of its link, its filter and its resolver.

use std::{
    fs, io,
    net::Ipv4Addr,
    os::fd::{AsFd as _, OwnedFd},
};

use super::{
    Attempt, CONTAINER_LINK, Network, NetworkUse, REACHED,
    addresses::{self, Ends},
    loss::Loss,
    namespace::Namespace,
    netlink::{Place, route},
    networks::{Number, Started},
    resolver::Resolver,
    table::{self, Filter},
};
use crate::{
    error::{Doing as _, Error, Result},
    in_use::InUse,
    sandbox::Shared,
};

/// Refused destinations that are reported.
const REPORTED: usize = 64;

/// A way out, which is closed when this is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    /// Where the host's end is.
    place: Place,
    loss: Loss,
    link: String,
    filter: Filter,
    resolver: Option<Resolver>,
    /// Address blocks that are reachable although they may be private, with their ports.
    blocks: Vec<([u8; 4], u8, u16)>,
    /// Its number, which nobody else gets before its link and filter are gone.
    number: Option<(Number, InUse<Shared>)>,
}

/// The host's end: an address, no router or guesswork, packets checked against the way back, up.
fn set_up(place: &Place, link: &str, address: Ipv4Addr, rate: Option<u64>) -> io::Result<()> {
    // The keeper's namespace has these as the settings of all new links.
    if let Place::Here = place {
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
    }
    let index = route::link(place, link)?.index;
    if let Some(rate) = rate {
        route::limit_rate(place, index, rate)?;
    }
    route::add_address(place, index, address, addresses::LINK_PREFIX_LENGTH)?;
    route::bring_up(place, index)
}

/// The containers' end: an address and a default route, and no IPv6.
fn set_up_inside(place: &Place, ends: Ends, rate: Option<u64>) -> io::Result<()> {
    let index = route::link(place, CONTAINER_LINK)?.index;
    if let Some(rate) = rate {
        route::limit_rate(place, index, rate)?;
    }
    route::without_ipv6_addresses(place, index)?;
    route::add_address(place, index, ends.container, addresses::LINK_PREFIX_LENGTH)?;
    route::bring_up(place, index)?;
    route::add_default_route(place, index, ends.host)
}

impl Connection {
    /// Connects the namespace as number `index`, which `number` holds, of those of the machine, with
    /// links named after the run `instance`; within a runtime.
    pub(super) fn make(
        started: &Started,
        (index, number): (u32, (Number, InUse<Shared>)),
        instance: &str,
        namespace: &mut Namespace,
        network: &Network,
    ) -> Result<Self> {
        let ends = addresses::ends(started.block, index);
        let link = addresses::link_name(index, instance);
        let rate = network.bandwidth().map(|bits| (bits / 8).max(1));
        let make = || -> io::Result<Filter> {
            let net = namespace.net.as_fd();
            let place = &started.place;
            route::make_pair(place, &link, CONTAINER_LINK, net, started.mtu)?;
            let made = || {
                let (table, address) = (&started.table, ends.container);
                let filter = Filter::make(place, table, &link, address, network)?;
                set_up(place, &link, ends.host, rate)?;
                set_up_inside(&namespace.place, ends, rate)?;
                Ok(filter)
            };
            made().inspect_err(|_| {
                // The namespace's end would remove it too, only later.
                drop(route::remove_link(place, &link));
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
        let (place, loss) = (started.place.clone(), started.loss.clone());
        let blocks = table::blocks(network.rules()).collect();
        let number = Some(number);
        let mut connection = Self { place, loss, link, filter, resolver: None, blocks, number };
        if let Some(sockets) = namespace.resolver.take() {
            connection.resolve(sockets, network)?;
        }
        Ok(connection)
    }

    /// Whether an address block that is reachable names this.
    fn is_listed(&self, counted: &table::Counted) -> bool {
        self.blocks.iter().any(|(block, bits, port)| {
            Some(*port) == counted.port && table::contains(*block, *bits, counted.address)
        })
    }

    /// Answers the containers' questions for names on their two sockets.
    fn resolve(&mut self, sockets: [OwnedFd; 2], network: &Network) -> Result<()> {
        let resolver = Resolver::start(sockets, network, self.filter.clone())
            .system(|| "answer a container's questions for names")?;
        self.resolver = Some(resolver);
        Ok(())
    }

    /// What the containers did so far.
    pub(super) fn used(&self) -> io::Result<NetworkUse> {
        let link = route::link(&self.place, &self.link)?;
        let (refused, reached) = (self.filter.refused()?, self.filter.recorded()?);
        let history = self.resolver.as_ref().map(Resolver::history);
        let attempt = |counted: table::Counted| Attempt {
            host: history.as_ref().map_or_else(
                || counted.address.to_string(),
                |history| history.host(counted.address),
            ),
            port: counted.port,
            times: counted.packets,
        };
        // Any of the names of an address may be the one that is needed.
        let named = |counted: &table::Counted| {
            let known = history.as_ref().map(|history| history.names(counted.address));
            let mut hosts = known.unwrap_or_default().to_vec();
            // A name of a private address opens nothing.
            if hosts.is_empty() || self.is_listed(counted) {
                hosts.push(counted.address.to_string());
            }
            let (port, times) = (counted.port, counted.packets);
            hosts.into_iter().map(move |host| Attempt { host, port, times })
        };
        let reached: Vec<Attempt> = reached.iter().flat_map(named).collect();
        let names = history.iter().flat_map(|history| history.refusals());
        Ok(NetworkUse {
            // The host sends what the container receives.
            received: link.sent,
            sent: link.received,
            denied: by_times(refused.into_iter().map(attempt).chain(names).collect(), REPORTED),
            reached: by_times(reached, usize::try_from(REACHED).unwrap_or(usize::MAX)),
            lost: self.loss.why(),
        })
    }
}

/// The kernel takes 10 to 20 ms for the filter, and only the sandbox's end waits: what fails here goes
/// with the whole table at the end of the run. The link would go with the namespace, but some time
/// after that, when its name may be another's.
impl Drop for Connection {
    fn drop(&mut self) {
        self.resolver = None;
        let (filter, place, link) =
            (self.filter.clone(), self.place.clone(), std::mem::take(&mut self.link));
        let number = self.number.take();
        let remove = move || {
            if let Err(error) = route::remove_link(&place, &link) {
                tracing::debug!(%error, link, "a link is left for the end of its namespace");
            }
            if let Err(error) = filter.remove() {
                tracing::debug!(%error, "a packet filter is left for the end of the run");
            }
            drop(number);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// Joins attempts at the same destination, the most often tried first, and keeps the first `most`.
fn by_times(mut attempts: Vec<Attempt>, most: usize) -> Vec<Attempt> {
    attempts.sort();
    attempts.dedup_by(|next, kept| {
        let same = (&next.host, next.port) == (&kept.host, kept.port);
        if same {
            kept.times = kept.times.saturating_add(next.times);
        }
        same
    });
    attempts.sort_by_key(|attempt| std::cmp::Reverse(attempt.times));
    attempts.truncate(most);
    attempts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_joined_and_bounded() {
        let attempt = |host: &str, port, times| Attempt { host: host.to_owned(), port, times };
        let all = vec![
            attempt("b", Some(1), 1),
            attempt("a", None, 2),
            attempt("b", Some(1), 3),
            attempt("b", None, 1),
        ];
        let joined = by_times(all, 9);
        assert_eq!(
            joined,
            [attempt("b", Some(1), 4), attempt("a", None, 2), attempt("b", None, 1)]
        );
        let many = (0..1000).map(|number| attempt(&number.to_string(), None, 1)).collect();
        assert_eq!(by_times(many, REPORTED).len(), REPORTED);
    }
}
