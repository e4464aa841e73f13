//! What a container may reach.

use std::net::IpAddr;

/// The network of a container. Whatever it is, the namespace is the container's own, other
/// containers cannot reach it, and it cannot reach this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Nothing but its own loopback.
    #[default]
    None,
    /// Every host but private ones, this one, and link-local services such as a cloud's metadata.
    Full,
    /// What the rules name.
    Allow {
        /// Any one of these is enough.
        rules: Vec<Rule>,
        /// Bits per second, in each direction.
        bandwidth: Option<u64>,
    },
    /// As [`Self::Full`], and everything that is reached is recorded.
    Learn {
        /// Private addresses and this host's own are reachable where the address blocks of these
        /// rules name them; names add nothing to what is reachable already.
        rules: Vec<Rule>,
        /// Bits per second, in each direction.
        bandwidth: Option<u64>,
    },
}

/// One destination that a container may reach, by TCP and UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which hosts.
    pub destination: Destination,
    /// Which port.
    pub port: u16,
}

/// The hosts of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// This name, in lower case. What it resolves to is reachable only if it is neither private
    /// nor this host: a name's owner decides what it resolves to.
    Name(String),
    /// All names below this one, in lower case and without the `*.`; as above.
    Below(String),
    /// All addresses that share this many first bits, private ones and this host's too.
    Block(IpAddr, u8),
}

impl Network {
    /// Whether there is anything but loopback.
    pub fn is_connected(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// What is reachable although it would not be by itself.
    pub(crate) fn rules(&self) -> &[Rule] {
        match self {
            Self::Allow { rules, .. } | Self::Learn { rules, .. } => rules,
            Self::None | Self::Full => &[],
        }
    }

    /// Bits per second in each direction, where that is limited.
    pub(crate) fn bandwidth(&self) -> Option<u64> {
        match self {
            Self::Allow { bandwidth, .. } | Self::Learn { bandwidth, .. } => *bandwidth,
            Self::None | Self::Full => None,
        }
    }
}

/// What a container did with its network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkUse {
    /// Bytes that it received.
    pub received: u64,
    /// Bytes that it sent.
    pub sent: u64,
    /// What it tried to reach and may not, the most often tried first; bounded.
    pub denied: Vec<Attempt>,
    /// What it reached, where that is recorded ([`Network::Learn`]), in the same order. It is at most
    /// [`REACHED`](super::REACHED); a run that has so many may have reached more.
    pub reached: Vec<Attempt>,
    /// Why its way out was gone before its end, where it was: not its own doing.
    pub lost: Option<String>,
}

/// A destination that was tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt {
    /// The name by which it was asked for, where that is known, or else the address.
    pub host: String,
    /// The port; `None` when it did not come to that, or the protocol has none.
    pub port: Option<u16>,
    /// How often: connections, packets without a connection, or questions for the name.
    pub times: u64,
}
