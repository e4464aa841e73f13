//! The network of a container: none, or a link of its own to the world with a filter in front.
//!
//! A container always has a network namespace of its own. With [`Network::None`] there is nothing
//! in it but loopback. Otherwise a pair of virtual links leads out of it: the container's end is
//! set up by its init, the host's end here, and a packet filter (`table`) lets through what the
//! policy allows. Names are resolved by us (`resolver`); `docs/decisions/networks.md` has the
//! reasons and the measurements.
//!
//! **Invariant:** a link is up only while its filter stands: the filter is made first and goes
//! last, when no process of the container exists any more.

mod addresses;
mod connection;
mod forwarding;
pub(crate) mod identity;
pub(crate) mod inside;
mod netlink;
mod policy;
mod resolver;
mod table;

pub(crate) use connection::{Connection, Networks};
pub(crate) use forwarding::release as release_forwarding;
pub use policy::{Attempt, Destination, Network, NetworkUse, Rule};
pub(crate) use table::remove as remove_table;

/// What the names of the containers' links on the host begin with.
const LINK_PREFIX: &str = "cfd";
/// The name of its link inside a container.
const CONTAINER_LINK: &str = "eth0";
