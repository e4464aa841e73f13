//! The packet filter of one run: a table with a rule set for all its containers, and in it two
//! chains and two sets per container.
//!
//! Packets from a container's link meet, in this order: the check that they carry the container's
//! own address; what belongs to a connection that was let through before; the container's chain;
//! and a drop. So a link without a chain is cut off, and the links are made before, but brought up
//! after, their rules. Packets *to* a container pass only as part of its own connections.
//!
//! The table is not tied to a socket (`NFT_TABLE_F_OWNER`): the kernel would remove such a table
//! at the death of the process, a moment before its containers end.

use std::{collections::BTreeSet, io, net::Ipv4Addr};

use super::{
    Destination, LINK_PREFIX, Network, REACHED, Rule,
    netlink::{
        Place,
        nftables::{
            Batch, EVALUATED, Hook, INTERVAL, IPV4_ADDRESS, LINK_NAME, MAP, PORT, PROTOCOL,
            SetKind, TIMEOUT, counted,
        },
        rule::{Part, Verdict},
    },
};
use crate::journal;

/// Addresses that are reachable only where a rule names them: `(first, bits)`, in order.
///
/// "This network", private ones (RFC 1918), shared (RFC 6598), loopback, link-local with the
/// metadata services (RFC 3927), protocol assignments, benchmarks (RFC 2544), multicast and above.
const PRIVATE: [([u8; 4], u8); 10] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([224, 0, 0, 0], 3),
];

/// Connections that a container may have at once: the table of connections is the whole host's.
const CONNECTIONS: u32 = 4096;
/// Different endpoints of names that are reachable at once.
const ENDPOINTS: u32 = 4096;
/// Rules with address blocks that one container may have.
pub(super) const BLOCKS: usize = 256;
/// As many of them as fit into one message of a user whose sockets the kernel keeps small; half as
/// many where each also counts.
const BLOCKS_AT_ONCE: usize = 64;

const LINKS: &str = "links";
const SOURCES: &str = "sources";
const JOBS: &str = "jobs";
const PRIVATE_SET: &str = "private";
/// The addresses of the host, where it is not the one that these packets pass through.
const HOST_SET: &str = "host";
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Whether an address is one of those that only a rule makes reachable.
pub(super) fn is_private(address: Ipv4Addr) -> bool {
    PRIVATE.iter().any(|(network, bits)| contains(*network, *bits, address))
}

pub(super) fn contains(network: [u8; 4], bits: u8, address: Ipv4Addr) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
    u32::from_be_bytes(network) & mask == u32::from(address) & mask
}

/// What the names of all runs' tables begin with.
const PREFIX: &str = "cofferdam-";

/// The name of the table of the run `instance`.
pub(super) fn name(instance: &str) -> String {
    format!("{PREFIX}{instance}")
}

/// The run that a table is of, where it is one's.
pub(crate) fn instance_of(table: &str) -> Option<&str> {
    table.strip_prefix(PREFIX).filter(|instance| journal::is_id(instance))
}

/// Makes a run's table, without containers. With `alone` packets are passed on for containers and
/// nobody else: then it is for them that this host passes packets on at all.
pub(super) fn make(place: &Place, table: &str, alone: bool) -> io::Result<()> {
    let mut batch = Batch::new(table);
    batch.make_table();
    batch.make_set(LINKS, SetKind { types: &[LINK_NAME], key: 16, ..SetKind::default() });
    let types = &[LINK_NAME, IPV4_ADDRESS];
    batch.make_set(SOURCES, SetKind { types, key: 20, ..SetKind::default() });
    let map = SetKind { flags: MAP, types: &[LINK_NAME], key: 16, size: 0 };
    batch.make_set(JOBS, map);
    let intervals = SetKind { flags: INTERVAL, types: &[IPV4_ADDRESS], key: 4, size: 0 };
    batch.make_set(PRIVATE_SET, intervals);
    batch.make_set(HOST_SET, SetKind { types: &[IPV4_ADDRESS], key: 4, ..SetKind::default() });
    for (network, bits) in PRIVATE {
        let length = 1u32.checked_shl(32 - u32::from(bits)).unwrap_or(0);
        // The last interval ends with the address space, and so has no end of its own.
        let end = u32::from_be_bytes(network).checked_add(length).map(u32::to_be_bytes);
        batch.insert_range(PRIVATE_SET, &network, end.as_ref().map(<[u8; 4]>::as_slice));
    }
    let filter = |number, priority| Some(Hook { kind: "filter", number, priority });
    // Before connections are tracked, so that a forged packet leaves no trace in that table.
    batch.make_chain("source", filter(0, -300));
    batch.rule("source", &[Part::FromLinkIn(LINKS), Part::NotIpv4, drop_it()]);
    let forged = [Part::FromLinkIn(LINKS), Part::SourceNotIn(SOURCES), drop_it()];
    batch.rule("source", &forged);
    batch.make_chain("forward", filter(2, -5));
    if alone {
        batch.rule("forward", &[Part::BetweenOtherLinks(LINK_PREFIX), drop_it()]);
    }
    let accept = Part::Verdict(Verdict::Accept);
    batch.rule("forward", &[Part::ToLinkIn(LINKS), Part::Established, accept]);
    batch.rule("forward", &[Part::ToLinkIn(LINKS), drop_it()]);
    batch.make_chain("input", filter(1, -5));
    for chain in ["forward", "input"] {
        batch.rule(chain, &[Part::FromLinkIn(LINKS), Part::Established, accept]);
        batch.rule(chain, &[Part::ByLink(JOBS)]);
        batch.rule(chain, &[Part::FromLinkIn(LINKS), drop_it()]);
    }
    batch.make_chain("masquerade", Some(Hook { kind: "nat", number: 4, priority: 100 }));
    batch.rule("masquerade", &[Part::FromLinkIn(LINKS), Part::Masquerade]);
    batch.commit(place)
}

/// Says which addresses are the host's own, in place of those that were said before.
pub(super) fn set_host(place: &Place, table: &str, addresses: &[Ipv4Addr]) -> io::Result<()> {
    let mut batch = Batch::new(table);
    batch.clear(HOST_SET);
    for address in addresses.iter().collect::<BTreeSet<_>>() {
        batch.insert(HOST_SET, &address.octets(), None);
    }
    batch.commit(place)
}

/// Removes a run's table; one that is not there is no error.
pub(crate) fn remove(table: &str) -> io::Result<()> {
    let mut batch = Batch::new(table);
    batch.remove_table();
    match batch.commit(&Place::Here) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

/// A container's part of the table.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    place: Place,
    table: String,
    link: String,
    address: Ipv4Addr,
    with_names: bool,
    recorded: bool,
}

impl Filter {
    /// Lets through what `network` allows from `address` on `link`, and nothing else.
    pub(super) fn make(
        place: &Place,
        table: &str,
        link: &str,
        address: Ipv4Addr,
        network: &Network,
    ) -> io::Result<Self> {
        let filter = Self {
            place: place.clone(),
            table: table.to_owned(),
            link: link.to_owned(),
            address,
            with_names: matches!(network, Network::Allow { .. }),
            recorded: matches!(network, Network::Learn { .. }),
        };
        let mut batch = Batch::new(table);
        batch.insert(LINKS, &filter.link_key(), None);
        batch.insert(SOURCES, &filter.source_key(), None);
        filter.make_denial(&mut batch);
        let chain = filter.chain();
        batch.make_chain(&chain, None);
        batch.rule(&chain, &[Part::MoreConnectionsThan(CONNECTIONS), drop_it()]);
        if filter.recorded {
            batch.make_set(&filter.reached(), record_set());
        }
        let blocks: Vec<_> = blocks(network.rules()).collect();
        let at_once = if filter.recorded { BLOCKS_AT_ONCE / 2 } else { BLOCKS_AT_ONCE };
        for some in blocks.chunks(at_once) {
            filter.allow_blocks(&mut batch, some);
            // Nothing leads to the chain before it is whole.
            std::mem::replace(&mut batch, Batch::new(table)).commit(place)?;
        }
        filter.make_decision(&mut batch, network);
        batch.insert(JOBS, &filter.link_key(), Some(Verdict::Jump(&chain)));
        batch.commit(place)?;
        Ok(filter)
    }

    /// The chain that counts and refuses.
    fn make_denial(&self, batch: &mut Batch) {
        let (chain, set) = (self.denial(), self.denied());
        batch.make_set(&set, record_set());
        batch.make_chain(&chain, None);
        let counted =
            |protocol| [Part::Protocol(protocol), Part::Count { set: &set, with_port: true }];
        batch.rule(&chain, &counted(TCP));
        batch.rule(&chain, &[Part::Protocol(TCP), Part::Reset]);
        batch.rule(&chain, &counted(UDP));
        batch.rule(&chain, &[Part::Protocol(UDP), Part::PortUnreachable]);
        batch.rule(&chain, &[Part::Count { set: &set, with_port: false }]);
        batch.rule(&chain, &[Part::Prohibited]);
    }

    /// The first part of [`Self::make_decision`].
    fn allow_blocks(&self, batch: &mut Batch, blocks: &[([u8; 4], u8, u16)]) {
        let (chain, reached) = (self.chain(), self.reached());
        for (block, bits, port) in blocks {
            for protocol in [TCP, UDP] {
                let to = [Part::ToNetwork(*block, *bits), Part::Protocol(protocol)];
                if self.recorded {
                    // A rule of its own: where the set is full, the packet passes nevertheless.
                    let count = Part::Count { set: &reached, with_port: true };
                    batch.rule(&chain, &[to[0], to[1], Part::ToPort(*port), count]);
                }
                let accept = Part::Verdict(Verdict::Accept);
                batch.rule(&chain, &[to[0], to[1], Part::ToPort(*port), accept]);
            }
        }
    }

    /// The rest of the chain that decides about a new connection.
    fn make_decision(&self, batch: &mut Batch, network: &Network) {
        let (chain, denial) = (self.chain(), self.denial());
        let deny = Part::Verdict(Verdict::Goto(&denial));
        let accept = Part::Verdict(Verdict::Accept);
        batch.rule(&chain, &[Part::NotUnicast, deny]);
        batch.rule(&chain, &[Part::ToAddressIn(HOST_SET), deny]);
        batch.rule(&chain, &[Part::ToAddressIn(PRIVATE_SET), deny]);
        match network {
            Network::Allow { .. } => {
                let set = self.endpoints();
                let types = &[IPV4_ADDRESS, PORT];
                batch.make_set(&set, SetKind { flags: TIMEOUT, types, key: 8, size: ENDPOINTS });
                for protocol in [TCP, UDP] {
                    let parts = [Part::Protocol(protocol), Part::ToEndpointIn(&set), accept];
                    batch.rule(&chain, &parts);
                }
            }
            Network::Full => {
                batch.rule(&chain, &[accept]);
            }
            Network::Learn { .. } => {
                let set = self.reached();
                for protocol in [TCP, UDP] {
                    let count = Part::Count { set: &set, with_port: true };
                    batch.rule(&chain, &[Part::Protocol(protocol), count]);
                    batch.rule(&chain, &[Part::Protocol(protocol), accept]);
                }
                batch.rule(&chain, &[Part::Count { set: &set, with_port: false }]);
                batch.rule(&chain, &[accept]);
            }
            Network::None => {}
        }
        batch.rule(&chain, &[deny]);
    }

    /// Makes endpoints reachable for a time in seconds.
    pub(super) fn open(&self, endpoints: &[(Ipv4Addr, u16)], seconds: u64) -> io::Result<()> {
        let mut batch = Batch::new(&self.table);
        for (address, port) in endpoints {
            let mut key = address.octets().to_vec();
            key.extend(port.to_be_bytes());
            key.extend([0; 2]);
            batch.insert_for(&self.endpoints(), &key, seconds.saturating_mul(1000));
        }
        batch.commit(&self.place)
    }

    /// What was refused: address, protocol, port, packets.
    pub(super) fn refused(&self) -> io::Result<Vec<Counted>> {
        read(&self.place, &self.table, &self.denied())
    }

    /// What was reached, where that is recorded.
    pub(super) fn recorded(&self) -> io::Result<Vec<Counted>> {
        if self.recorded { read(&self.place, &self.table, &self.reached()) } else { Ok(Vec::new()) }
    }

    /// Takes the container's part out again.
    pub(super) fn remove(&self) -> io::Result<()> {
        let mut batch = Batch::new(&self.table);
        batch.remove(JOBS, &self.link_key());
        batch.remove(SOURCES, &self.source_key());
        batch.remove(LINKS, &self.link_key());
        batch.remove_chain(&self.chain());
        batch.remove_chain(&self.denial());
        batch.remove_set(&self.denied());
        if self.with_names {
            batch.remove_set(&self.endpoints());
        }
        if self.recorded {
            batch.remove_set(&self.reached());
        }
        batch.commit(&self.place)
    }

    fn link_key(&self) -> Vec<u8> {
        let mut key = self.link.clone().into_bytes();
        key.resize(16, 0);
        key
    }

    fn source_key(&self) -> Vec<u8> {
        let mut key = self.link_key();
        key.extend(self.address.octets());
        key
    }

    fn chain(&self) -> String {
        format!("{}-new", self.link)
    }

    fn denial(&self) -> String {
        format!("{}-deny", self.link)
    }

    fn denied(&self) -> String {
        format!("{}-denied", self.link)
    }

    fn endpoints(&self) -> String {
        format!("{}-names", self.link)
    }

    fn reached(&self) -> String {
        format!("{}-reached", self.link)
    }
}

/// A destination and how many packets went there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) address: Ipv4Addr,
    /// `None` where the protocol has none.
    pub(super) port: Option<u16>,
    pub(super) packets: u64,
}

fn read(place: &Place, table: &str, set: &str) -> io::Result<Vec<Counted>> {
    let found = counted(place, table, set)?;
    Ok(found
        .into_iter()
        .filter_map(|(key, packets)| {
            let address: [u8; 4] = key.get(..4)?.try_into().ok()?;
            let protocol = key.get(4).copied()?;
            let port = u16::from_be_bytes(key.get(8..10)?.try_into().ok()?);
            let port = matches!(protocol, TCP | UDP).then_some(port);
            Some(Counted { address: address.into(), port, packets })
        })
        .collect())
}

/// The version 4 address blocks of rules: first address, bits, port.
pub(super) fn blocks(rules: &[Rule]) -> impl Iterator<Item = ([u8; 4], u8, u16)> + '_ {
    rules.iter().filter_map(|rule| match &rule.destination {
        Destination::Block(std::net::IpAddr::V4(address), bits) => {
            Some((address.octets(), *bits, rule.port))
        }
        _ => None,
    })
}

fn record_set() -> SetKind {
    let types = &[IPV4_ADDRESS, PROTOCOL, PORT];
    SetKind { flags: EVALUATED, types, key: 12, size: REACHED }
}

const fn drop_it<'a>() -> Part<'a> {
    Part::Verdict(Verdict::Drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses() {
        for (text, expect) in [
            ("0.1.2.3", true),
            ("9.255.255.255", false),
            ("10.0.0.0", true),
            ("100.63.255.255", false),
            ("100.127.0.1", true),
            ("127.0.0.53", true),
            ("169.254.169.254", true),
            ("172.15.0.1", false),
            ("172.31.255.255", true),
            ("192.0.2.1", false),
            ("192.168.1.1", true),
            ("198.51.100.1", false),
            ("223.255.255.255", false),
            ("224.0.0.1", true),
            ("255.255.255.255", true),
        ] {
            assert_eq!(is_private(text.parse().unwrap()), expect, "{text}");
        }
    }

    #[test]
    fn private_intervals_are_in_order_and_do_not_touch() {
        let ends = PRIVATE.map(|(network, bits)| {
            let first = u32::from_be_bytes(network);
            (u64::from(first), u64::from(first) + (1 << (32 - bits)))
        });
        assert!(ends.windows(2).all(|pair| pair[0].1 < pair[1].0));
        assert_eq!(ends.last().map(|last| last.1), Some(1 << 32));
    }
}
