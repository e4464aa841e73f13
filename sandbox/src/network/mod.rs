//! The network of a container: none, or a link of its own to the world with a filter in front.
//!
//! A container has a network namespace of its own, with nothing in it but loopback, or is in one
//! that was made before it (`namespace`), which others can be in too: a job and its services. Where
//! that has a way out, a pair of virtual links leads there, and a packet filter (`table`) lets
//! through what the policy allows. Names are resolved by us (`resolver`);
//! `docs/decisions/networks.md` has the reasons and the measurements.
//!
//! **Invariant:** a link is up only while its filter stands: the filter is made first and goes
//! last, when no process of its containers exists any more.

mod addresses;
pub(crate) mod availability;
mod connection;
mod forwarding;
mod host_addresses;
pub(crate) mod identity;
pub(crate) mod keeper;
mod leftover;
mod loss;
mod namespace;
mod netlink;
mod networks;
mod policy;
mod resolver;
mod shared;
mod slots;
mod table;
mod uplink;

pub(crate) use forwarding::release as release_forwarding;
pub(crate) use leftover::{
    forwardings_left, is_forwarding_left, links, links_left, remove_link, tables,
};
pub(crate) use namespace::RESOLVER;
pub(crate) use networks::Networks;
pub use policy::{Attempt, Destination, Network, NetworkUse, Rule};
pub use shared::{ContainerNetwork, SharedNetwork};
pub(crate) use table::{instance_of as instance_of_table, remove as remove_table};

/// The most addresses with their ports that are recorded of a container: those that were refused,
/// and, where it learns ([`Network::Learn`]), those that it reached.
pub const REACHED: u32 = 1024;

/// What the names of the containers' links on the host begin with.
const LINK_PREFIX: &str = "cfd";
/// The name of its link inside a container.
const CONTAINER_LINK: &str = "eth0";
