//! Links, addresses, routes and rate limits (`rtnetlink(7)`).

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use super::{
    message::{Message, attribute, number_u32},
    socket::Place,
};

/// `NLM_F_CREATE | NLM_F_EXCL`
const CREATE: u16 = 0x600;
/// `VETH_INFO_PEER` (linux/veth.h)
const VETH_PEER: u16 = 1;
/// `IFLA_INET6_ADDR_GEN_MODE` and `IN6_ADDR_GEN_MODE_NONE` (linux/if_link.h)
const ADDRESS_GENERATION: (u16, u8) = (8, 1);
/// Attributes of a token bucket (linux/pkt_sched.h).
const TBF_PARAMETERS: u16 = 1;
const TBF_RATE_64: u16 = 4;
const TBF_BURST: u16 = 6;
/// `TC_H_ROOT`
const ROOT: u32 = 0xffff_ffff;

/// A link as the kernel describes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its number.
    pub(crate) index: u32,
    /// Bytes that came in through it.
    pub(crate) received: u64,
    /// Bytes that went out.
    pub(crate) sent: u64,
    /// Largest packet.
    pub(crate) mtu: u32,
}

/// Makes a pair of virtual Ethernet links: `name` here, `peer` straight in the namespace
/// `namespace`.
pub(crate) fn make_pair(
    place: &Place,
    name: &str,
    peer: &str,
    namespace: BorrowedFd<'_>,
    mtu: u32,
) -> io::Result<()> {
    let mut message = Message::new(libc::RTM_NEWLINK, CREATE, &interface(0, 0));
    let describe = |message: &mut Message, name: &str| {
        message.string(libc::IFLA_IFNAME, name);
        message.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes());
    };
    describe(&mut message, name);
    message.nested(libc::IFLA_LINKINFO, |info| {
        info.string(libc::IFLA_INFO_KIND, "veth");
        info.nested(libc::IFLA_INFO_DATA, |data| {
            data.nested(VETH_PEER, |other| {
                other.raw(&interface(0, 0));
                describe(other, peer);
                let namespace = namespace.as_raw_fd().to_ne_bytes();
                other.attribute(libc::IFLA_NET_NS_FD, &namespace);
            });
        });
    });
    place.route()?.request(message)
}

/// Finds a link by its name.
pub(crate) fn link(place: &Place, name: &str) -> io::Result<Link> {
    let mut message = Message::new(libc::RTM_GETLINK, 0, &interface(0, 0));
    message.string(libc::IFLA_IFNAME, name);
    Ok(read_link(&place.route()?.ask(message)?))
}

/// Finds a link by its number.
pub(crate) fn link_by_index(place: &Place, index: u32) -> io::Result<Link> {
    let message = Message::new(libc::RTM_GETLINK, 0, &interface(index, 0));
    Ok(read_link(&place.route()?.ask(message)?))
}

/// The name of the link with this number.
pub(crate) fn link_name(place: &Place, index: u32) -> io::Result<String> {
    let body = place.route()?.ask(Message::new(libc::RTM_GETLINK, 0, &interface(index, 0)))?;
    Ok(read_name(&body))
}

/// The names of all links.
pub(crate) fn link_names(place: &Place) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let all = Message::new(libc::RTM_GETLINK, 0, &interface(0, 0));
    place.route()?.dump(all, |body| names.push(read_name(body)))?;
    Ok(names)
}

fn read_name(body: &[u8]) -> String {
    let name = attribute(body.get(16..).unwrap_or_default(), libc::IFLA_IFNAME);
    let name = name.unwrap_or_default().strip_suffix(b"\0").unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

fn read_link(body: &[u8]) -> Link {
    let attributes = body.get(16..).unwrap_or_default();
    let statistics = attribute(attributes, libc::IFLA_STATS64).unwrap_or_default();
    let counter = |index: usize| {
        let bytes = statistics.get(index * 8..index * 8 + 8);
        bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
    };
    Link {
        index: number_u32(body, 4).unwrap_or(0),
        received: counter(2),
        sent: counter(3),
        mtu: attribute(attributes, libc::IFLA_MTU).and_then(|it| number_u32(it, 0)).unwrap_or(0),
    }
}

/// Has a link get no IPv6 address by itself, not even a link-local one, when it comes up.
pub(crate) fn without_ipv6_addresses(place: &Place, index: u32) -> io::Result<()> {
    let mut message = Message::new(libc::RTM_NEWLINK, 0, &interface(index, 0));
    message.nested(libc::IFLA_AF_SPEC, |families| {
        families.nested(family(libc::AF_INET6).into(), |settings| {
            settings.attribute(ADDRESS_GENERATION.0, &[ADDRESS_GENERATION.1]);
        });
    });
    match place.route()?.request(message) {
        // A kernel without IPv6.
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => Ok(()),
        other => other,
    }
}

/// Sets the size of a link's largest packet.
pub(crate) fn set_mtu(place: &Place, index: u32, mtu: u32) -> io::Result<()> {
    let mut message = Message::new(libc::RTM_NEWLINK, 0, &interface(index, 0));
    message.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes());
    place.route()?.request(message)
}

/// Brings a link up.
pub(crate) fn bring_up(place: &Place, index: u32) -> io::Result<()> {
    let up = libc::IFF_UP.cast_unsigned();
    place.route()?.request(Message::new(libc::RTM_NEWLINK, 0, &interface(index, up)))
}

/// Takes the link down, and with it the routes through it.
pub(crate) fn bring_down(place: &Place, index: u32) -> io::Result<()> {
    let up = libc::IFF_UP.cast_unsigned();
    place.route()?.request(Message::new(libc::RTM_NEWLINK, 0, &interface_with(index, 0, up)))
}

/// Removes a link by its name; one that is not there is no error.
pub(crate) fn remove_link(place: &Place, name: &str) -> io::Result<()> {
    let mut message = Message::new(libc::RTM_DELLINK, 0, &interface(0, 0));
    message.string(libc::IFLA_IFNAME, name);
    match place.route()?.request(message) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other,
    }
}

/// Gives a link an address, with the `prefix` first bits of its network.
pub(crate) fn add_address(
    place: &Place,
    index: u32,
    address: Ipv4Addr,
    prefix: u8,
) -> io::Result<()> {
    let mut fixed = vec![family(libc::AF_INET), prefix, 0, 0];
    fixed.extend(index.to_ne_bytes());
    let mut message = Message::new(libc::RTM_NEWADDR, CREATE, &fixed);
    message.attribute(libc::IFA_LOCAL, &address.octets());
    message.attribute(libc::IFA_ADDRESS, &address.octets());
    place.route()?.request(message)
}

/// Sends everything that has no other way through `gateway`.
pub(crate) fn add_default_route(place: &Place, index: u32, gateway: Ipv4Addr) -> io::Result<()> {
    let route = [
        family(libc::AF_INET),
        0,
        0,
        0,
        libc::RT_TABLE_MAIN,
        libc::RTPROT_BOOT,
        libc::RT_SCOPE_UNIVERSE,
        libc::RTN_UNICAST,
        0,
        0,
        0,
        0,
    ];
    let mut message = Message::new(libc::RTM_NEWROUTE, CREATE, &route);
    message.attribute(libc::RTA_OIF, &index.to_ne_bytes());
    message.attribute(libc::RTA_GATEWAY, &gateway.octets());
    place.route()?.request(message)
}

/// A route that the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Where it leads to.
    pub(crate) network: Ipv4Addr,
    /// How many first bits of the address count.
    pub(crate) prefix: u8,
    /// The link that it takes; 0 when it takes several or none.
    pub(crate) link: u32,
}

/// All IPv4 routes, of all tables.
pub(crate) fn routes(place: &Place) -> io::Result<Vec<Route>> {
    let mut fixed = vec![family(libc::AF_INET)];
    fixed.resize(12, 0);
    let mut routes = Vec::new();
    place.route()?.dump(Message::new(libc::RTM_GETROUTE, 0, &fixed), |body| {
        let attributes = body.get(12..).unwrap_or_default();
        let network = attribute(attributes, libc::RTA_DST)
            .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok())
            .map_or(Ipv4Addr::UNSPECIFIED, Ipv4Addr::from);
        let link = attribute(attributes, libc::RTA_OIF).and_then(|bytes| number_u32(bytes, 0));
        let prefix = body.get(1).copied().unwrap_or(0);
        routes.push(Route { network, prefix, link: link.unwrap_or(0) });
    })?;
    Ok(routes)
}

/// The IPv4 addresses of all links.
pub(crate) fn addresses(place: &Place) -> io::Result<Vec<Ipv4Addr>> {
    let mut fixed = vec![family(libc::AF_INET)];
    fixed.resize(8, 0);
    let mut addresses = Vec::new();
    place.route()?.dump(Message::new(libc::RTM_GETADDR, 0, &fixed), |body| {
        let attributes = body.get(8..).unwrap_or_default();
        let octets = attribute(attributes, libc::IFA_LOCAL)
            .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        addresses.extend(octets.map(Ipv4Addr::from));
    })?;
    Ok(addresses)
}

/// Limits what leaves through a link to `rate` bytes per second (a token bucket, `tc-tbf(8)`).
pub(crate) fn limit_rate(place: &Place, index: u32, rate: u64) -> io::Result<()> {
    // A fiftieth of a second, and never less than what a large packet needs to pass at all.
    let burst = u32::try_from((rate / 50).clamp(64 * 1024, 16 * 1024 * 1024)).unwrap_or(u32::MAX);
    let mut fixed = vec![0; 4];
    for number in [index, 0, ROOT, 0] {
        fixed.extend(number.to_ne_bytes());
    }
    let mut message = Message::new(libc::RTM_NEWQDISC, CREATE, &fixed);
    message.string(libc::TCA_KIND, "tbf");
    message.nested(libc::TCA_OPTIONS, |options| {
        // `struct tc_tbf_qopt`: rate and peak rate as `struct tc_ratespec` (12 bytes, of which the
        // link layer and the low 32 bits of the rate count), limit, buffer, mtu.
        let mut parameters = vec![0, 1, 0, 0, 0, 0, 0, 0];
        parameters.extend(u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
        parameters.extend([0; 12]);
        for number in [burst.saturating_mul(4), 0, 0] {
            parameters.extend(number.to_ne_bytes());
        }
        options.attribute(TBF_PARAMETERS, &parameters);
        options.attribute(TBF_BURST, &burst.to_ne_bytes());
        if rate > u64::from(u32::MAX) {
            options.attribute(TBF_RATE_64, &rate.to_ne_bytes());
        }
    });
    place.route()?.request(message)
}

/// `struct ifinfomsg`; the flags given are set, the others stay.
fn interface(index: u32, flags: u32) -> [u8; 16] {
    interface_with(index, flags, flags)
}

/// With those of `flags` that are in `changed`.
fn interface_with(index: u32, flags: u32, changed: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (place, number) in [(4, index), (8, flags), (12, changed)] {
        if let Some(place) = bytes.get_mut(place..place + 4) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
    }
    bytes
}

/// Address families are small numbers.
fn family(family: libc::c_int) -> u8 {
    u8::try_from(family).unwrap_or(0)
}
