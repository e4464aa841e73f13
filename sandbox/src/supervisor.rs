//! What keeps the processes that watch over containers from being starved by them.
//!
//! They are outside of the containers' control groups, so what a job uses up is its own. What is
//! left to share with others is the host's memory and this process' descriptors.

use std::fs;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// As container engines have it for their daemons: killed late when the whole host is out of memory,
/// but not last of all.
const OOM_SCORE_ADJUSTMENT: i32 = -500;

/// Raises the soft limit of open files to the hard one: some tens are open per container, and the
/// default of many systems is 1024.
pub(crate) fn raise_open_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::debug!(%error, "the limit of open files stays at {soft}");
    }
}

/// Makes this process a late victim when the host runs out of memory, where it may: that needs
/// CAP_SYS_RESOURCE. Not for a process from which containers are cloned: the kernel would let
/// their processes go as low.
pub(crate) fn be_a_late_victim() {
    const FILE: &str = "/proc/self/oom_score_adj";
    let now = fs::read_to_string(FILE).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if now.is_some_and(|now| now > OOM_SCORE_ADJUSTMENT)
        && let Err(error) = fs::write(FILE, OOM_SCORE_ADJUSTMENT.to_string())
    {
        tracing::debug!(%error, "this process is killed as early as others when memory runs out");
    }
}
