//! The container's end of its network: done by the init, while it still may.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket},
    os::fd::OwnedFd,
};

use serde::{Deserialize, Serialize};

use super::{CONTAINER_LINK, addresses::LINK_PREFIX_LENGTH, netlink::route};
use crate::error::{Doing as _, Result};

/// Where the container's programs ask for names: an address of its own loopback, so that neither
/// this host nor another container can be asked there.
pub(crate) const RESOLVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 53), 53);

/// What the init needs to know of the network.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Inside {
    /// The container's address.
    pub(crate) address: Ipv4Addr,
    /// The host's end of the link.
    pub(crate) gateway: Ipv4Addr,
    /// Bytes per second that may leave.
    pub(crate) rate: Option<u64>,
}

/// Brings the link up, and opens the sockets on which the runner answers questions for names.
///
/// Loopback must be up.
pub(crate) fn connect(inside: &Inside) -> Result<[OwnedFd; 2]> {
    let links = || -> io::Result<()> {
        let index = route::link(CONTAINER_LINK)?.index;
        if let Some(rate) = inside.rate {
            route::limit_rate(index, rate)?;
        }
        route::without_ipv6_addresses(index)?;
        route::add_address(index, inside.address, LINK_PREFIX_LENGTH)?;
        route::bring_up(index)?;
        route::add_default_route(index, inside.gateway)
    };
    links().system(|| "set the container's network up")?;
    let sockets = || -> io::Result<[OwnedFd; 2]> {
        Ok([UdpSocket::bind(RESOLVER)?.into(), TcpListener::bind(RESOLVER)?.into()])
    };
    sockets().system(|| "open the sockets of the container's resolver")
}
