//! The host ids that a container's ids are, and who holds them.
//!
//! Root gives each container a range that no one else has ([`range`]). An unprivileged user has
//! one user id and perhaps subordinate ids ([`subordinate`]), which all of the user's containers
//! share: they are kept apart by their namespaces alone.

mod entered;
mod map;
mod numbers;
pub(crate) mod range;
pub(crate) mod subordinate;

use std::{os::fd::BorrowedFd, path::Path};

pub use entered::{as_caller, enter, is_root};
pub(crate) use entered::{caller, in_first_namespace, map, own_namespace, owner};
pub(crate) use map::{IdMap, Line};
pub(crate) use numbers::{Number, Numbers};
use range::{IdRange, IdRanges};

use crate::error::Result;

/// Where what root's runs share is locked: one place for the whole machine.
pub(crate) const LOCKS: &str = "/run/cofferdam";

/// What this user has to give to containers.
#[derive(Debug)]
pub(crate) enum Ids {
    /// Ranges, one per container.
    Ranges(IdRanges),
    /// The user's own ids, the same for all of the user's containers.
    User(IdMap),
}

/// The ids of one container, given back when dropped.
#[derive(Debug)]
pub(crate) struct HeldIds {
    map: IdMap,
    range: Option<IdRange>,
}

impl Ids {
    /// What the calling user has.
    pub(crate) fn open() -> Result<Self> {
        if is_root() {
            return Ok(Self::Ranges(IdRanges::open(Path::new(LOCKS))?));
        }
        Ok(Self::User(map()))
    }

    /// Takes the ids of one container.
    pub(crate) fn acquire(&self) -> Result<HeldIds> {
        match self {
            Self::Ranges(ranges) => {
                let range = ranges.acquire()?;
                let map = IdMap::Range { first: range.first() };
                Ok(HeldIds { map, range: Some(range) })
            }
            Self::User(map) => Ok(HeldIds { map: *map, range: None }),
        }
    }

    /// The ranges that are not given back yet.
    pub(crate) fn held(&self) -> Vec<u32> {
        match self {
            Self::Ranges(ranges) => ranges.held(),
            Self::User(_) => Vec::new(),
        }
    }

    /// The machine's projects of disk quotas; `None` for who may not set any.
    pub(crate) fn projects(&self) -> Option<&Numbers> {
        match self {
            Self::Ranges(ranges) => Some(ranges.projects()),
            Self::User(_) => None,
        }
    }

    /// The file whose description holds locks, to be shared with the spawner.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Ranges(ranges) => Some(ranges.descriptor()),
            Self::User(_) => None,
        }
    }
}

impl HeldIds {
    /// How they map.
    pub(crate) fn map(&self) -> IdMap {
        self.map
    }

    /// Which of the machine's ranges they are, where they are one.
    pub(crate) fn number(&self) -> Option<u32> {
        self.range.as_ref().map(IdRange::number)
    }
}
