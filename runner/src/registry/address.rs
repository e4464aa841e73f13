//! Which addresses a registry may send us to: never nearer to this host than it is itself.
//!
//! A registry on the internet that redirects to `169.254.169.254` or to a service of the local
//! network would have this host make requests in its stead. So what is not the registry itself is
//! reached only at public addresses, or at addresses of the registry's own kind. Names are judged
//! by the addresses that they resolve to at the moment of connecting.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// How near an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Public,
    /// Of a local network (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// This host.
    Loopback,
    /// Link-local, multicast, unspecified, reserved: no registry has such an address, and clouds
    /// tell secrets there.
    Never,
}

impl Reach {
    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            [127, ..] => Self::Loopback,
            [10, ..] | [192, 168, ..] => Self::Private,
            [172, second, ..] if second & 0xf0 == 16 => Self::Private,
            [100, second, ..] if second & 0xc0 == 64 => Self::Private,
            // RFC 2544: benchmarking between networks of one's own.
            [198, 18 | 19, ..] => Self::Private,
            [0 | 224..=255, ..] | [169, 254, ..] | [192, 0, 0, _] => Self::Never,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        if let Some(mapped) = address.to_ipv4_mapped() {
            return Self::of_v4(mapped);
        }
        match address.segments() {
            [0, 0, 0, 0, 0, 0, 0, 1] => Self::Loopback,
            // NAT64 (RFC 6052) and 6to4 (RFC 3056) lead to the IPv4 address inside.
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Self::of_v4(v4(high, low)),
            [0x2002, high, low, ..] => Self::of_v4(v4(high, low)),
            [first, ..] if first & 0xfe00 == 0xfc00 => Self::Private,
            [first, ..] if first & 0xe000 == 0x2000 => Self::Public,
            _ => Self::Never,
        }
    }

    /// Whether something at `other` may be reached because a registry of this kind says so.
    pub(super) fn may_lead_to(self, other: Self) -> bool {
        other == Self::Public || (other == self && other != Self::Never)
    }
}

fn v4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

/// How near the registry was found to be.
///
/// A name with addresses of several kinds, at once or one after the other, is trusted with none of
/// them: who answers for it could otherwise name a near address to be led nearer, and serve from
/// afar.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Option<Reach>>);

impl Known {
    pub(super) fn add(&self, found: Reach) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(match *known {
            Some(other) if other != found => Reach::Public,
            _ => found,
        });
    }

    /// The strictest where nothing is known, as behind a proxy.
    pub(super) fn reach(&self) -> Reach {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(Reach::Public)
    }
}

/// Resolves the registry's own name, and remembers how near it is.
#[derive(Clone, Debug)]
pub(super) struct OwnResolver(Resolver);

/// Resolves names that the registry gave.
#[derive(Debug)]
pub(super) struct ForeignResolver(Resolver);

#[derive(Clone, Debug)]
struct Resolver {
    own: Arc<Known>,
    /// Names that the user gave, which may be anywhere.
    proxies: Vec<String>,
}

impl OwnResolver {
    pub(super) fn new(own: Arc<Known>, proxies: &[String]) -> Self {
        Self(Resolver { own, proxies: proxies.to_owned() })
    }
}

impl ForeignResolver {
    pub(super) fn new(own: Arc<Known>, proxies: &[String]) -> Self {
        Self(Resolver { own, proxies: proxies.to_owned() })
    }
}

impl Resolver {
    fn is_proxy(&self, name: &Name) -> bool {
        self.proxies.iter().any(|proxy| proxy.eq_ignore_ascii_case(name.as_str()))
    }
}

impl Resolve for OwnResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (own, proxy) = (Arc::clone(&self.0.own), self.0.is_proxy(&name));
        Box::pin(async move {
            let found = lookup(&name).await?;
            if proxy {
                return Ok(Box::new(found.into_iter()) as Addrs);
            }
            let allowed: Vec<_> =
                found.iter().copied().filter(|it| Reach::of(it.ip()) != Reach::Never).collect();
            if allowed.is_empty() {
                return Err(refused(&name, &found).into());
            }
            for address in &allowed {
                own.add(Reach::of(address.ip()));
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

impl Resolve for ForeignResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let own = self.0.own.reach();
        let proxy = self.0.is_proxy(&name);
        Box::pin(async move {
            let found = lookup(&name).await?;
            let allowed: Vec<_> = found
                .iter()
                .copied()
                .filter(|it| proxy || own.may_lead_to(Reach::of(it.ip())))
                .collect();
            if allowed.is_empty() {
                return Err(refused(&name, &found).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

async fn lookup(name: &Name) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.collect())
}

fn refused(name: &Name, found: &[SocketAddr]) -> io::Error {
    let why = match found.first() {
        Some(address) => {
            format!("`{}` is at {}, where no registry may send us", name.as_str(), address.ip())
        }
        None => format!("`{}` has no address", name.as_str()),
    };
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        for (address, expect) in [
            ("1.1.1.1", Reach::Public),
            ("172.15.0.1", Reach::Public),
            ("172.32.0.1", Reach::Public),
            ("100.128.0.1", Reach::Public),
            ("2606:4700::1", Reach::Public),
            ("10.0.0.1", Reach::Private),
            ("172.16.0.1", Reach::Private),
            ("172.31.255.255", Reach::Private),
            ("192.168.1.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("fd00::1", Reach::Private),
            ("::ffff:10.0.0.1", Reach::Private),
            ("64:ff9b::a00:1", Reach::Private),
            ("127.0.0.1", Reach::Loopback),
            ("127.9.9.9", Reach::Loopback),
            ("::1", Reach::Loopback),
            ("::ffff:127.0.0.1", Reach::Loopback),
            ("2002:7f00:1::", Reach::Loopback),
            ("169.254.169.254", Reach::Never),
            ("fe80::1", Reach::Never),
            ("ff02::1", Reach::Never),
            ("0.0.0.0", Reach::Never),
            ("::", Reach::Never),
            ("224.0.0.1", Reach::Never),
            ("255.255.255.255", Reach::Never),
            ("64:ff9b::a9fe:a9fe", Reach::Never),
        ] {
            assert_eq!(Reach::of(address.parse().unwrap()), expect, "{address}");
        }
    }

    #[test]
    fn a_registry_of_several_kinds_is_as_far_as_can_be() {
        use Reach::{Loopback, Private, Public};
        for (found, expect) in [
            (&[][..], Public),
            (&[Private, Private], Private),
            (&[Loopback], Loopback),
            (&[Private, Public], Public),
            (&[Public, Private], Public),
            (&[Private, Loopback], Public),
            (&[Private, Loopback, Loopback], Public),
        ] {
            let known = Known::default();
            for reach in found {
                known.add(*reach);
            }
            assert_eq!(known.reach(), expect, "{found:?}");
        }
    }

    #[test]
    fn nobody_leads_nearer_than_they_are() {
        use Reach::{Loopback, Never, Private, Public};
        for (own, other, expect) in [
            (Public, Public, true),
            (Public, Private, false),
            (Public, Loopback, false),
            (Public, Never, false),
            (Private, Private, true),
            (Private, Loopback, false),
            (Private, Never, false),
            (Loopback, Loopback, true),
            (Loopback, Private, false),
            (Loopback, Public, true),
            (Never, Never, false),
        ] {
            assert_eq!(own.may_lead_to(other), expect, "{own:?} to {other:?}");
        }
    }
}
