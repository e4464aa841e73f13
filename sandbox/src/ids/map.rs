//! How ids inside a container map to ids of the host, as `user_namespaces(7)` writes it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::range;

/// The map of one container. Ids inside always begin at 0 and have no gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum IdMap {
    /// Ids 0 to 65 535 are those from `first` on; needs root.
    Range {
        /// The host id that 0 is.
        first: u32,
    },
    /// Id 0 is the user's own; those from 1 on are subordinate ids (subuid(5), subgid(5)).
    Subordinate {
        /// The user's own id.
        user: u32,
        /// The user's own group.
        group: u32,
        /// First subordinate user id.
        users: u32,
        /// First subordinate group id.
        groups: u32,
        /// How many of each.
        count: u32,
    },
    /// Id 0 is the user's own, and there is no other.
    Single {
        /// The user's own id.
        user: u32,
        /// The user's own group.
        group: u32,
    },
}

/// One line of `uid_map` or `gid_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// First id inside.
    pub(crate) inside: u32,
    /// The id that it is outside.
    pub(crate) outside: u32,
    /// How many follow each other.
    pub(crate) count: u32,
}

impl Line {
    /// The same ids, each as itself: how a namespace sees them whose parent has these lines.
    pub(crate) fn unchanged(lines: &[Self]) -> Vec<Self> {
        lines.iter().map(|line| Self { outside: line.inside, ..*line }).collect()
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.inside, self.outside, self.count)
    }
}

impl IdMap {
    /// The lines of `uid_map`.
    pub(crate) fn users(&self) -> Vec<Line> {
        match *self {
            Self::Range { first } => whole(first),
            Self::Subordinate { user, users, count, .. } => own_and(user, users, count),
            Self::Single { user, .. } => own(user),
        }
    }

    /// The lines of `gid_map`.
    pub(crate) fn groups(&self) -> Vec<Line> {
        match *self {
            Self::Range { first } => whole(first),
            Self::Subordinate { group, groups, count, .. } => own_and(group, groups, count),
            Self::Single { group, .. } => own(group),
        }
    }

    /// The highest id inside.
    pub(crate) fn highest(&self) -> u32 {
        match *self {
            Self::Range { .. } => range::SIZE - 1,
            Self::Subordinate { count, .. } => count,
            Self::Single { .. } => 0,
        }
    }

    /// The user of the host who is to own the user namespace, where that can be an id that is nobody
    /// else's: the highest.
    pub(crate) fn owner(&self) -> Option<u32> {
        match *self {
            Self::Range { first } => first.checked_add(self.highest()),
            Self::Subordinate { .. } | Self::Single { .. } => None,
        }
    }

    /// Whether `map`, the text of a map file, says just this.
    pub(crate) fn is_written(lines: &[Line], map: &str) -> bool {
        let numbers = lines.iter().flat_map(|line| [line.inside, line.outside, line.count]);
        map.split_whitespace().map(str::parse).eq(numbers.map(Ok))
    }

    /// Whether root made it; otherwise everything that needs privileges outside of the container
    /// has to be done by its init, with those that it has inside.
    pub(crate) fn is_privileged(&self) -> bool {
        matches!(self, Self::Range { .. })
    }
}

fn whole(first: u32) -> Vec<Line> {
    vec![Line { inside: 0, outside: first, count: range::SIZE }]
}

fn own(id: u32) -> Vec<Line> {
    vec![Line { inside: 0, outside: id, count: 1 }]
}

fn own_and(id: u32, first: u32, count: u32) -> Vec<Line> {
    vec![Line { inside: 0, outside: id, count: 1 }, Line { inside: 1, outside: first, count }]
}
