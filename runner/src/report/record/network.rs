//! What a record says of networks.

use std::sync::Arc;

use cofferdam_sandbox::network::{Attempt, NetworkUse};
use serde::{Deserialize, Serialize};

use crate::log::needles::Needles;

/// What a container did with its network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkRecord {
    /// Bytes received.
    pub(crate) received: u64,
    /// Bytes sent.
    pub(crate) sent: u64,
    /// What it tried to reach and may not, the most often tried first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) denied: Vec<AttemptedDestination>,
    /// What it reached, where that is recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) reached: Vec<AttemptedDestination>,
    /// Why its way out was gone before its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lost: Option<String>,
}

/// A destination and how often it was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AttemptedDestination {
    /// A name or an address.
    pub(crate) host: String,
    /// Absent when it did not come to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<u16>,
    /// Connections, or questions for the name.
    pub(crate) times: u64,
}

impl From<NetworkUse> for NetworkRecord {
    fn from(used: NetworkUse) -> Self {
        let list = |attempts: Vec<Attempt>| {
            let each = attempts
                .into_iter()
                .map(|Attempt { host, port, times }| AttemptedDestination { host, port, times });
            each.collect()
        };
        let NetworkUse { received, sent, denied, reached, lost } = used;
        Self { received, sent, denied: list(denied), reached: list(reached), lost }
    }
}

impl NetworkRecord {
    /// With secrets hidden: a job chooses the names that it asks for.
    pub(crate) fn masked(mut self, needles: &Arc<Needles>) -> Self {
        for attempt in self.denied.iter_mut().chain(&mut self.reached) {
            attempt.host = needles.mask_text(&attempt.host);
        }
        self
    }
}
