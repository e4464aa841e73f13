//! The private addresses of containers: four per container, from a block that the host does not
//! use otherwise.
//!
//! A container's place in the block is the number of its range of ids, which is locked machine-wide
//! already: no two containers of the machine share an address, and nothing else must be locked.

use std::net::Ipv4Addr;

use super::{LINK_PREFIX, netlink::route::Route};

/// Bits that the blocks share: 16 384 addresses, for 4 096 containers.
const PREFIX: u8 = 18;
/// Bits that the four addresses of a container share: network, host, container, broadcast.
pub(super) const LINK_PREFIX_LENGTH: u8 = 30;

/// Blocks that are tried in this order: rarely used parts of the private ranges (RFC 1918).
const BLOCKS: [[u8; 4]; 6] = [
    [10, 213, 64, 0],
    [172, 29, 192, 0],
    [192, 168, 192, 0],
    [10, 87, 128, 0],
    [172, 23, 64, 0],
    [10, 250, 0, 0],
];

/// The two ends of a container's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    /// The host's end, which is the container's way out.
    pub(super) host: Ipv4Addr,
    /// The container's.
    pub(super) container: Ipv4Addr,
}

/// The first block that no route of the host touches, apart from default routes and those through
/// `ours`, the links of containers.
pub(super) fn choose(routes: &[Route], ours: impl Fn(u32) -> bool) -> Option<Ipv4Addr> {
    BLOCKS.into_iter().map(Ipv4Addr::from).find(|block| {
        !routes.iter().any(|route| {
            let bits = PREFIX.min(route.prefix);
            route.prefix > 1
                && super::table::contains(block.octets(), bits, route.network)
                && !ours(route.link)
        })
    })
}

/// Networks that [`ends`] gives addresses to beside [`uplink`].
pub(super) const BESIDE_UPLINK: u32 = 4032;

/// The last 256 addresses of a block, for the way out where that is a program.
pub(super) fn uplink(block: Ipv4Addr) -> Ipv4Addr {
    (u32::from(block) + BESIDE_UPLINK * 4).into()
}

/// The ends of the container with this number.
pub(super) fn ends(block: Ipv4Addr, number: u32) -> Ends {
    let first = u32::from(block) + (number % 4096) * 4;
    Ends { host: (first + 1).into(), container: (first + 2).into() }
}

/// The link's name on the host; the instance makes it one that no ending container still has.
pub(super) fn link_name(number: u32, instance: &str) -> String {
    format!("{LINK_PREFIX}{:03x}{}", number % 4096, short(instance))
}

/// As much of an instance's name as a link's name has room for.
pub(super) fn short(instance: &str) -> &str {
    instance.get(..8).unwrap_or(instance)
}

/// The shortened instance in the name of a link, where it is one of ours.
pub(super) fn instance_of(link: &str) -> Option<&str> {
    let (number, instance) = link.strip_prefix(LINK_PREFIX)?.split_at_checked(3)?;
    let is_hexadecimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (instance.len() == 8 && is_hexadecimal(number) && is_hexadecimal(instance)).then_some(instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(network: &str, prefix: u8, link: u32) -> Route {
        Route { network: network.parse().unwrap(), prefix, link }
    }

    #[test]
    fn a_block_that_the_host_uses_is_passed_over() {
        let first = Some(Ipv4Addr::new(10, 213, 64, 0));
        let second = Some(Ipv4Addr::new(172, 29, 192, 0));
        for (routes, expect) in [
            (vec![], first),
            (vec![route("0.0.0.0", 0, 1)], first),
            // A VPN's two halves of everything.
            (vec![route("0.0.0.0", 1, 1), route("128.0.0.0", 1, 1)], first),
            (vec![route("10.213.0.0", 16, 1)], second),
            (vec![route("10.213.100.7", 32, 1)], second),
            (vec![route("10.213.100.4", 30, 9)], first),
            (
                vec![route("10.0.0.0", 8, 1), route("172.16.0.0", 12, 1)],
                Some([192, 168, 192, 0].into()),
            ),
            (
                vec![
                    route("10.0.0.0", 8, 1),
                    route("172.16.0.0", 12, 1),
                    route("192.168.0.0", 16, 1),
                ],
                None,
            ),
        ] {
            assert_eq!(choose(&routes, |link| link == 9), expect, "{routes:?}");
        }
    }

    #[test]
    fn ends_and_names() {
        let block = Ipv4Addr::new(10, 213, 64, 0);
        assert_eq!(ends(block, 0).container, Ipv4Addr::new(10, 213, 64, 2));
        assert_eq!(ends(block, 4095).host, Ipv4Addr::new(10, 213, 127, 253));
        assert_eq!(uplink(block), Ipv4Addr::new(10, 213, 127, 0));
        assert_eq!(ends(block, BESIDE_UPLINK - 1).host, Ipv4Addr::new(10, 213, 126, 253));
        let name = link_name(4095, "0123456789ab");
        assert_eq!(name, "cfdfff01234567");
        assert!(name.len() < 16);
        assert_eq!(instance_of(&name), Some(short("0123456789ab")));
        for foreign in ["eth0", "cfd", "cfdfff0123456", "cfdfff012345678", "cfdxyz01234567", "cfé"]
        {
            assert_eq!(instance_of(foreign), None, "{foreign}");
        }
    }
}
