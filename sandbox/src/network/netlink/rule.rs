//! What the rules of a packet filter are made of: expressions that load parts of a packet into
//! registers, compare them, and decide (linux/netfilter/nf_tables.h).
//!
//! Numbers in attributes are in network order, those in registers as the expression leaves them.

use super::message::Message;

/// `NFTA_LIST_ELEM`
pub(super) const LIST_ELEMENT: u16 = 1;

/// Registers of 4 bytes; a name of a link takes four of them.
const R0: u32 = 8;

/// What happens to a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict<'a> {
    /// It goes on to the next chain of the hook.
    Accept,
    /// It is gone.
    Drop,
    /// This chain decides, and what it leaves open comes back.
    Jump(&'a str),
    /// This chain decides.
    Goto(&'a str),
}

/// A part of a rule. All loads are of the packet at hand.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part<'a> {
    /// Only packets that came in through a link in this set.
    FromLinkIn(&'a str),
    /// Only packets that leave through a link in this set.
    ToLinkIn(&'a str),
    /// Only packets between links whose names do not begin so.
    BetweenOtherLinks(&'a str),
    /// Only packets that are not IPv4.
    NotIpv4,
    /// Only packets whose link and source address are not in this set.
    SourceNotIn(&'a str),
    /// Decide by the link that the packet came in through, in this map.
    ByLink(&'a str),
    /// Only packets of connections that were let through before.
    Established,
    /// Only packets to what is not one host elsewhere: this host, broadcast, multicast.
    NotUnicast,
    /// Only packets to an address within this set of intervals.
    ToAddressIn(&'a str),
    /// Only packets to this network.
    ToNetwork([u8; 4], u8),
    /// Only packets of this protocol (`IPPROTO_*`).
    Protocol(u8),
    /// Only packets to this port.
    ToPort(u16),
    /// Only packets whose destination address and port are in this set.
    ToEndpointIn(&'a str),
    /// Only while more than so many connections of this rule exist.
    MoreConnectionsThan(u32),
    /// Count the packet in this set by address, protocol and port (0 without `with_port`).
    Count {
        /// The set.
        set: &'a str,
        /// Whether the protocol has ports.
        with_port: bool,
    },
    /// Translate the source address to that of the link it leaves through.
    Masquerade,
    /// Answer with a TCP reset.
    Reset,
    /// Answer that the port is unreachable.
    PortUnreachable,
    /// Answer that it is prohibited.
    Prohibited,
    /// Decide.
    Verdict(Verdict<'a>),
}

impl Verdict<'_> {
    pub(super) fn write(self, data: &mut Message) {
        let (code, chain) = match self {
            Self::Drop => (0, None),
            Self::Accept => (1, None),
            Self::Jump(chain) => (-3, Some(chain)),
            Self::Goto(chain) => (-4i32, Some(chain)),
        };
        data.nested(2, |verdict| {
            verdict.attribute(1, &code.to_be_bytes());
            if let Some(chain) = chain {
                verdict.string(2, chain);
            }
        });
    }
}

impl Part<'_> {
    pub(super) fn write(self, list: &mut Message) {
        match self {
            Self::FromLinkIn(set) => {
                meta(list, 6, R0);
                lookup(list, set, None, false);
            }
            Self::ToLinkIn(set) => {
                meta(list, 7, R0);
                lookup(list, set, None, false);
            }
            Self::BetweenOtherLinks(prefix) => {
                for key in [6, 7] {
                    meta(list, key, R0);
                    // Only as many bytes are compared as are given.
                    compare(list, true, prefix.as_bytes());
                }
            }
            Self::NotIpv4 => {
                meta(list, 15, R0);
                compare(list, true, &[2]);
            }
            Self::SourceNotIn(set) => {
                meta(list, 6, R0);
                payload(list, 1, 12, 4, R0 + 4);
                lookup(list, set, None, true);
            }
            Self::ByLink(map) => {
                meta(list, 6, R0);
                lookup(list, map, Some(0), false);
            }
            Self::Established => {
                expression(list, "ct", |data| {
                    data.attribute(1, &R0.to_be_bytes()).attribute(2, &0u32.to_be_bytes());
                });
                // ESTABLISHED is 2 and RELATED 4, as numbers of this host.
                mask(list, &6u32.to_ne_bytes());
                compare(list, true, &[0; 4]);
            }
            Self::NotUnicast => {
                expression(list, "fib", |data| {
                    data.attribute(1, &R0.to_be_bytes());
                    // The type of the destination address.
                    data.attribute(2, &3u32.to_be_bytes()).attribute(3, &2u32.to_be_bytes());
                });
                compare(list, true, &u32::from(libc::RTN_UNICAST).to_ne_bytes());
            }
            Self::ToAddressIn(set) => {
                payload(list, 1, 16, 4, R0);
                lookup(list, set, None, false);
            }
            Self::ToNetwork(network, prefix) => {
                payload(list, 1, 16, 4, R0);
                let bits = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                mask(list, &bits.to_be_bytes());
                compare(list, false, &(u32::from_be_bytes(network) & bits).to_be_bytes());
            }
            Self::Protocol(protocol) => {
                meta(list, 16, R0);
                compare(list, false, &[protocol]);
            }
            Self::ToPort(port) => {
                payload(list, 2, 2, 2, R0);
                compare(list, false, &port.to_be_bytes());
            }
            Self::ToEndpointIn(set) => {
                payload(list, 1, 16, 4, R0);
                payload(list, 2, 2, 2, R0 + 1);
                lookup(list, set, None, false);
            }
            Self::MoreConnectionsThan(count) => expression(list, "connlimit", |data| {
                data.attribute(1, &count.to_be_bytes()).attribute(2, &1u32.to_be_bytes());
            }),
            Self::Count { set, with_port } => {
                payload(list, 1, 16, 4, R0);
                meta(list, 16, R0 + 1);
                if with_port {
                    payload(list, 2, 2, 2, R0 + 2);
                } else {
                    expression(list, "immediate", |data| {
                        data.attribute(1, &(R0 + 2).to_be_bytes());
                        data.nested(2, |value| {
                            value.attribute(1, &[0; 4]);
                        });
                    });
                }
                expression(list, "dynset", |data| {
                    data.string(1, set).attribute(3, &0u32.to_be_bytes());
                    data.attribute(4, &R0.to_be_bytes());
                    data.nested(7, |counter| {
                        counter.string(1, "counter");
                    });
                });
            }
            Self::Masquerade => expression(list, "masq", |_| {}),
            Self::Reset => reject(list, 1, 0),
            Self::PortUnreachable => reject(list, 2, 1),
            Self::Prohibited => reject(list, 2, 3),
            Self::Verdict(verdict) => expression(list, "immediate", |data| {
                data.attribute(1, &0u32.to_be_bytes());
                data.nested(2, |value| verdict.write(value));
            }),
        }
    }
}

fn expression(list: &mut Message, name: &str, fill: impl FnOnce(&mut Message)) {
    list.nested(LIST_ELEMENT, |expression| {
        expression.string(1, name);
        expression.nested(2, fill);
    });
}

fn meta(list: &mut Message, key: u32, register: u32) {
    expression(list, "meta", |data| {
        data.attribute(1, &register.to_be_bytes()).attribute(2, &key.to_be_bytes());
    });
}

/// Base 1 is the network header, 2 the transport header.
fn payload(list: &mut Message, base: u32, offset: u32, length: u32, register: u32) {
    expression(list, "payload", |data| {
        for (kind, number) in [(1, register), (2, base), (3, offset), (4, length)] {
            data.attribute(kind, &number.to_be_bytes());
        }
    });
}

/// Goes on when the first register is equal to `value`, or with `not` when it is not.
fn compare(list: &mut Message, not: bool, value: &[u8]) {
    expression(list, "cmp", |data| {
        data.attribute(1, &R0.to_be_bytes()).attribute(2, &u32::from(not).to_be_bytes());
        data.nested(3, |constant| {
            constant.attribute(1, value);
        });
    });
}

fn mask(list: &mut Message, bits: &[u8]) {
    expression(list, "bitwise", |data| {
        data.attribute(1, &R0.to_be_bytes()).attribute(2, &R0.to_be_bytes());
        data.attribute(3, &4u32.to_be_bytes());
        data.nested(4, |mask| {
            mask.attribute(1, bits);
        });
        data.nested(5, |xor| {
            xor.attribute(1, &[0; 4]);
        });
    });
}

fn lookup(list: &mut Message, set: &str, target: Option<u32>, not: bool) {
    expression(list, "lookup", |data| {
        data.string(1, set).attribute(2, &R0.to_be_bytes());
        if let Some(register) = target {
            data.attribute(3, &register.to_be_bytes());
        }
        if not {
            data.attribute(5, &1u32.to_be_bytes());
        }
    });
}

fn reject(list: &mut Message, kind: u32, code: u8) {
    expression(list, "reject", |data| {
        data.attribute(1, &kind.to_be_bytes()).attribute(2, &[code]);
    });
}
