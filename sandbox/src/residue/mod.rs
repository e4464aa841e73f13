//! What a run may leave behind on the host: nothing. What is there all the same is found by the
//! run's name, told, and removed.
//!
//! [`collect`] does so for runs that could not do it themselves.
//!
//! After each run an audit looks for what is still there of *this* run (`audit`). It goes by names
//! and numbers that are the run's own and never by a difference between before and after: other runs
//! come and go beside it.

mod audit;
mod gc;
mod live;
mod mounts;

use std::fmt;

pub(crate) use audit::{Ended, Trail};
pub use gc::{Collected, collect};

/// What kind of thing was left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A process.
    Process,
    /// A control group.
    ControlGroup,
    /// A mount in the host's mount table.
    Mount,
    /// A descriptor of a container's namespace.
    Namespace,
    /// The host's end of a container's link.
    Link,
    /// The packet filter of a run.
    PacketFilter,
    /// The host passes packets on (`ip_forward`), or a note says that it does so for containers.
    Forwarding,
    /// A loop device with a container's files.
    LoopDevice,
    /// A range of host ids.
    IdRange,
    /// A run's journal of what must be undone.
    Journal,
}

impl Kind {
    /// As it is told to people and machines.
    pub fn word(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::ControlGroup => "control group",
            Self::Mount => "mount",
            Self::Namespace => "namespace",
            Self::Link => "link",
            Self::PacketFilter => "packet filter",
            Self::Forwarding => "forwarding",
            Self::LoopDevice => "loop device",
            Self::IdRange => "id range",
            Self::Journal => "journal",
        }
    }
}

/// One thing that was left behind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Residue {
    /// What it is.
    pub kind: Kind,
    /// Which one: a path, a name or a number.
    pub name: String,
    /// Why it is still there, where that is known.
    pub why: Option<String>,
}

impl Residue {
    pub(crate) fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into(), why: None }
    }

    pub(crate) fn because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }
}

impl fmt::Display for Residue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind.word(), self.name)?;
        self.why.as_ref().map_or(Ok(()), |why| write!(f, ": {why}"))
    }
}
