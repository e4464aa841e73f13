//! Packet filter tables by netlink (linux/netfilter/nf_tables.h): chains with hooks, sets, and what
//! is in them; `rule` says what rules are made of.
//!
//! Only what our tables need. Everything is of the `inet` family, and numbers in attributes are in
//! network order.

use std::io;

use super::{
    message::{Message, attribute, attributes},
    rule::{LIST_ELEMENT, Part, Verdict},
    socket::Place,
};

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NLM_F_CREATE`
const CREATE: u16 = 0x400;
/// `NLM_F_CREATE | NLM_F_APPEND`
const APPEND: u16 = 0xc00;
/// `NFPROTO_INET`
const INET: u8 = 1;

/// Several changes that hold together or not at all.
#[derive(Debug)]
pub(crate) struct Batch {
    table: String,
    messages: Vec<Message>,
}

/// Where and when a base chain sees packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook {
    /// `filter` or `nat`.
    pub(crate) kind: &'static str,
    /// `NF_INET_*`: 0 prerouting, 1 input, 2 forward, 4 postrouting.
    pub(crate) number: u32,
    /// Lower comes earlier.
    pub(crate) priority: i32,
}

/// What a set is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SetKind {
    /// `NFT_SET_*` flags.
    pub(crate) flags: u32,
    /// The types of the parts of a key, as `nft list` shows them.
    pub(crate) types: &'static [u32],
    /// Bytes of a key.
    pub(crate) key: u32,
    /// Most elements; 0 for no bound.
    pub(crate) size: u32,
}

/// `NFT_SET_INTERVAL`, `NFT_SET_MAP`, `NFT_SET_TIMEOUT`, `NFT_SET_EVAL`, `NFT_SET_CONCAT`.
pub(crate) const INTERVAL: u32 = 0x4;
pub(crate) const MAP: u32 = 0x8;
pub(crate) const TIMEOUT: u32 = 0x10;
pub(crate) const EVALUATED: u32 = 0x20;

/// Types of keys as `nft` numbers them.
pub(crate) const IPV4_ADDRESS: u32 = 7;
pub(crate) const PROTOCOL: u32 = 12;
pub(crate) const PORT: u32 = 13;
pub(crate) const LINK_NAME: u32 = 41;

impl Batch {
    /// Changes of the table `table`.
    pub(crate) fn new(table: impl Into<String>) -> Self {
        Self { table: table.into(), messages: Vec::new() }
    }

    /// Makes all of it true, or nothing.
    pub(crate) fn commit(self, place: &Place) -> io::Result<()> {
        if self.messages.is_empty() {
            return Ok(());
        }
        let frame = |kind| Message::new(kind, 0, &header_of(0, 10));
        place.netfilter()?.batch(frame(BATCH_BEGIN), self.messages, frame(BATCH_END))
    }

    fn add(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Message, &str)) -> &mut Self {
        let mut message = Message::new(SUBSYSTEM | kind, flags, &header());
        fill(&mut message, &self.table);
        self.messages.push(message);
        self
    }

    /// Makes the table.
    pub(crate) fn make_table(&mut self) -> &mut Self {
        self.add(0, CREATE, |message, table| {
            message.string(1, table).attribute(2, &0u32.to_be_bytes());
        })
    }

    /// Removes the table and all that is in it.
    pub(crate) fn remove_table(&mut self) -> &mut Self {
        self.add(2, 0, |message, table| {
            message.string(1, table);
        })
    }

    /// Makes a chain.
    pub(crate) fn make_chain(&mut self, name: &str, hook: Option<Hook>) -> &mut Self {
        self.add(3, CREATE, |message, table| {
            message.string(1, table).string(3, name);
            if let Some(hook) = hook {
                message.nested(4, |place| {
                    place.attribute(1, &hook.number.to_be_bytes());
                    place.attribute(2, &hook.priority.to_be_bytes());
                });
                message.string(7, hook.kind);
            }
        })
    }

    /// Removes a chain and its rules; nothing may lead to it any more.
    pub(crate) fn remove_chain(&mut self, name: &str) -> &mut Self {
        self.add(8, 0, |message, table| {
            message.string(1, table).string(2, name);
        });
        self.add(5, 0, |message, table| {
            message.string(1, table).string(3, name);
        })
    }

    /// Adds a rule at the end of a chain.
    pub(crate) fn rule(&mut self, chain: &str, parts: &[Part<'_>]) -> &mut Self {
        self.add(6, APPEND, |message, table| {
            message.string(1, table).string(2, chain);
            message.nested(4, |list| {
                for part in parts {
                    part.write(list);
                }
            });
        })
    }

    /// Makes a set.
    pub(crate) fn make_set(&mut self, name: &str, kind: SetKind) -> &mut Self {
        let key_type = kind.types.iter().fold(0, |sum, each| sum << 6 | each);
        let identity = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        self.add(9, CREATE, |message, table| {
            message.string(1, table).string(2, name);
            message.attribute(3, &kind.flags.to_be_bytes());
            message.attribute(4, &key_type.to_be_bytes());
            message.attribute(5, &kind.key.to_be_bytes());
            if kind.flags & MAP != 0 {
                // `NFT_DATA_VERDICT`
                message.attribute(6, &0xffff_ff00u32.to_be_bytes());
            }
            if kind.size > 0 {
                message.nested(9, |description| {
                    description.attribute(1, &kind.size.to_be_bytes());
                });
            }
            message.attribute(10, &identity.to_be_bytes());
        })
    }

    /// Removes a set that no rule uses any more.
    pub(crate) fn remove_set(&mut self, name: &str) -> &mut Self {
        self.add(11, 0, |message, table| {
            message.string(1, table).string(2, name);
        })
    }

    /// Adds a key to a set, or to a map with what it leads to.
    pub(crate) fn insert(
        &mut self,
        set: &str,
        key: &[u8],
        verdict: Option<Verdict<'_>>,
    ) -> &mut Self {
        self.element(12, CREATE, set, key, |element| {
            if let Some(verdict) = verdict {
                element.nested(2, |data| verdict.write(data));
            }
        })
    }

    /// Adds a range to a set of intervals: from `first` up to, and not with, `end`.
    pub(crate) fn insert_range(
        &mut self,
        set: &str,
        first: &[u8],
        end: Option<&[u8]>,
    ) -> &mut Self {
        self.element(12, CREATE, set, first, |_| {});
        if let Some(end) = end {
            // `NFT_SET_ELEM_INTERVAL_END`
            self.element(12, CREATE, set, end, |element| {
                element.attribute(3, &1u32.to_be_bytes());
            });
        }
        self
    }

    /// Adds a key for `milliseconds`; one that is there already gets that time anew.
    pub(crate) fn insert_for(&mut self, set: &str, key: &[u8], milliseconds: u64) -> &mut Self {
        // `NFT_MSG_DESTROYSETELEM`: older kernels do not give an element a new time in place.
        self.element(30, 0, set, key, |_| {});
        self.element(12, CREATE, set, key, |element| {
            element.attribute(4, &milliseconds.to_be_bytes());
        })
    }

    /// Removes a key from a set; it must be there.
    pub(crate) fn remove(&mut self, set: &str, key: &[u8]) -> &mut Self {
        self.element(14, 0, set, key, |_| {})
    }

    /// Removes all keys of a set.
    pub(crate) fn clear(&mut self, set: &str) -> &mut Self {
        self.add(14, 0, |message, table| {
            message.string(1, table).string(2, set);
        })
    }

    fn element(
        &mut self,
        kind: u16,
        flags: u16,
        set: &str,
        key: &[u8],
        more: impl FnOnce(&mut Message),
    ) -> &mut Self {
        self.add(kind, flags, |message, table| {
            message.string(1, table).string(2, set);
            message.nested(3, |list| {
                list.nested(LIST_ELEMENT, |element| {
                    element.nested(1, |value| {
                        value.attribute(1, key);
                    });
                    more(element);
                });
            });
        })
    }
}

/// The names of all tables of the family.
pub(crate) fn tables(place: &Place) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    place.netfilter()?.dump(Message::new(SUBSYSTEM | 1, 0, &header()), |body| {
        let name = attribute(body.get(4..).unwrap_or_default(), 1).unwrap_or_default();
        let name = name.strip_suffix(b"\0").unwrap_or_default();
        found.push(String::from_utf8_lossy(name).into_owned());
    })?;
    Ok(found)
}

/// The keys of a set that counts, with their numbers of packets.
pub(crate) fn counted(place: &Place, table: &str, set: &str) -> io::Result<Vec<(Vec<u8>, u64)>> {
    let mut message = Message::new(SUBSYSTEM | 13, 0, &header());
    message.string(1, table).string(2, set);
    let mut found = Vec::new();
    place.netfilter()?.dump(message, |body| {
        let elements = attribute(body.get(4..).unwrap_or_default(), 3).unwrap_or_default();
        for (_, element) in attributes(elements) {
            let key = attribute(element, 1).and_then(|key| attribute(key, 1));
            let packets = attribute(element, 7)
                .and_then(|counter| attribute(counter, 2))
                .and_then(|data| attribute(data, 2))
                .and_then(|packets| packets.try_into().ok())
                .map_or(0, u64::from_be_bytes);
            found.extend(key.map(|key| (key.to_vec(), packets)));
        }
    })?;
    Ok(found)
}

/// `struct nfgenmsg`.
fn header() -> [u8; 4] {
    header_of(INET, 0)
}

fn header_of(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}
