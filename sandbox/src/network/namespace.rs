//! A network namespace for containers, made apart from them, so that several can be in it.
//!
//! **Invariant:** its owner is a user namespace that no container is in. So nothing in a container
//! can change its links, addresses, routes and limits, whatever capabilities it may get.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    thread,
};

use nix::sched::{CloneFlags, unshare};

use super::netlink::{self, Place};
use crate::{
    error::{Doing as _, Error, Result},
    spawner::Namespaces,
    sys::network::loopback_up,
};

/// Where the programs in it ask for names: an address of its own loopback, so that neither this
/// host nor another namespace can be asked there.
pub(crate) const RESOLVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 53), 53);

/// A namespace, held by descriptor.
#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) net: OwnedFd,
    /// The user namespace that owns it, where it is not the runner's own.
    pub(super) owner: Option<OwnedFd>,
    /// For requests about its links.
    pub(super) place: Place,
    /// The sockets on which questions for names arrive (UDP, TCP), where there are any.
    pub(super) resolver: Option<[OwnedFd; 2]>,
}

impl Namespace {
    /// A namespace that the runner's own user namespace owns; needs root.
    pub(super) fn make(resolver: bool) -> Result<Self> {
        // A thread can have a network namespace for itself.
        let made = thread::spawn(move || enter_new(resolver, HIGHEST_GROUP)).join();
        let made = made.map_err(|_| Error::system("make a network namespace", "a bug"))?;
        Self::of(made.system(|| "make a network namespace")?, None)
    }

    /// From what [`enter_new`] has opened.
    pub(super) fn of(descriptors: Vec<OwnedFd>, owner: Option<OwnedFd>) -> Result<Self> {
        let mut descriptors = descriptors.into_iter();
        let mut take = || descriptors.next();
        let (Some(net), Some(route), Some(netfilter)) = (take(), take(), take()) else {
            return Err(Error::system("make a network namespace", "a descriptor is missing"));
        };
        let resolver = take().zip(take()).map(|(udp, tcp)| [udp, tcp]);
        Ok(Self { net, owner, place: Place::there([route, netfilter]), resolver })
    }

    /// What a container's init is put into.
    pub(super) fn joined(&self) -> Namespaces<'_> {
        Namespaces { net: self.net.as_fd(), owner: self.owner.as_ref().map(AsFd::as_fd) }
    }
}

/// The highest group that may be named, for all of them (`icmp(7)`, `ping_group_range`).
const HIGHEST_GROUP: u32 = 0x7fff_ffff;

/// Moves this thread into a new network namespace, sets its loopback up, and opens what others
/// need to use it: itself, two netlink sockets, and with `resolver` the two sockets for questions.
///
/// Groups up to `highest_group` may send echo requests.
pub(super) fn enter_new(resolver: bool, highest_group: u32) -> io::Result<Vec<OwnedFd>> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    loopback_up()?;
    for (setting, value) in [
        // The containers have no capability here, and servers want ports below 1024.
        ("ipv4/ip_unprivileged_port_start", "0".to_owned()),
        ("ipv4/ping_group_range", format!("0 {highest_group}")),
        // The link out carries IPv4 only. Loopback is up already.
        ("ipv6/conf/default/disable_ipv6", "1".to_owned()),
    ] {
        match fs::write(format!("/proc/sys/net/{setting}"), value) {
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    let mut opened = vec![OwnedFd::from(File::open("/proc/thread-self/ns/net")?)];
    opened.extend(netlink::open_here()?);
    if resolver {
        opened.extend([UdpSocket::bind(RESOLVER)?.into(), TcpListener::bind(RESOLVER)?.into()]);
    }
    Ok(opened)
}
