//! What runner and spawner say to each other.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{ids::IdMap, init::message::Failure};

/// From the runner.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Watch over this run from now on. Descriptors: the run's lock, and the lock file of id ranges
    /// where there is one, kept open until the spawner has cleaned up.
    Watch {
        /// The run's journal.
        journal: PathBuf,
    },
    /// Map the ids of the runner, whose user namespace is new.
    MapIds {
        /// The runner's process id.
        pid: i32,
        /// How ids there map to ids of the host.
        map: IdMap,
    },
    /// Clone an init. Descriptors: the init's channel, then its v2 control group where `cgroup`,
    /// its network namespace where `network`, and the owner of that.
    Spawn {
        /// How ids inside map to ids of the host.
        map: IdMap,
        /// Whether a control group directory comes along.
        cgroup: bool,
        /// Whether it gets no network namespace of its own.
        network: Option<Joined>,
    },
    /// Clone a process that makes network namespaces. Descriptors: its channel, and the user namespace
    /// that it shall be in, if there is one.
    KeepNetworks {
        /// How ids of the containers map to ids of the host.
        map: IdMap,
    },
    /// Let go of what inits are cloned from; there is no reply. The kernel lets nobody have that done
    /// without a wait, and at the end of a run nothing else would be left to wait for.
    Rest,
    /// Run a program of the host, which ends with the spawner. Descriptor: its output.
    Run {
        /// Its path.
        program: PathBuf,
        /// Its arguments, the name it goes by first.
        arguments: Vec<String>,
    },
}

/// A network namespace that comes along.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Joined {
    /// Whether the user namespace that owns it comes along too; otherwise it is the spawner's.
    pub(super) owner: bool,
}

/// From the spawner.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// It watches.
    Watching,
    /// They are mapped.
    Mapped,
    /// The process exists, and its ids are mapped where it has its own. Descriptor: its pidfd.
    Spawned {
        /// Its process id on the host.
        pid: i32,
    },
    /// It could not be done.
    Failed(Failure),
}
