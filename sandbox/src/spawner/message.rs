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
    /// Clone an init. Descriptors: the init's channel, then its v2 control group where `cgroup`.
    Spawn {
        /// How ids inside map to ids of the host.
        map: IdMap,
        /// Whether a control group directory comes along.
        cgroup: bool,
    },
}

/// From the spawner.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// It watches.
    Watching,
    /// The init exists and its ids are mapped. Descriptor: its pidfd.
    Spawned {
        /// Its process id on the host.
        pid: i32,
    },
    /// It could not be done.
    Failed(Failure),
}
