//! What a record says of what is kept of jobs.

use serde::{Deserialize, Serialize};

/// What was written so far, as it is kept in the image store until that needs the room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateRecord {
    /// The id of the image that it is kept as; absent where it could not be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
    /// Bytes of the layers that were written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    /// Why it could not be kept: one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}
