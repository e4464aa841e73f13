//! What keeps the processes that watch over containers from being starved by them.
//!
//! They are outside of the containers' control groups, so what a job uses up is its own. What is
//! left to share with others is the host's memory and this process' descriptors.

use std::fs;

use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::Pid,
};

use crate::ids;

/// As container engines have it for their daemons: killed late when the whole host is out of memory,
/// but not last of all.
pub(crate) const OOM_SCORE_ADJUSTMENT: i32 = -500;
/// What containers have: when the host is short of memory, jobs go first.
pub(crate) const EARLY_VICTIM: &str = "500";
const OOM_SCORE_FILE: &str = "/proc/self/oom_score_adj";
/// The capability to lower it (capabilities(7)).
const CAP_SYS_RESOURCE: u32 = 24;

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
    if oom_score().is_some_and(|now| now > OOM_SCORE_ADJUSTMENT)
        && let Err(error) = fs::write(OOM_SCORE_FILE, OOM_SCORE_ADJUSTMENT.to_string())
    {
        tracing::debug!(%error, "this process is killed as early as others when memory runs out");
    }
}

/// Keeps a container's processes early victims. Nobody gets below what a process with CAP_SYS_RESOURCE
/// has set last; without that, the init could be asked to set it, and its job would take it back.
pub(crate) fn keep_early_victim(init: Pid) {
    let path = format!("/proc/{init}/oom_score_adj");
    if let Err(error) = fs::write(path, EARLY_VICTIM) {
        tracing::debug!(%error, "the container's processes may become later victims");
    }
}

/// Whether [`be_a_late_victim`] makes this process one, or it is one already.
pub(crate) fn can_be_a_late_victim() -> bool {
    oom_score().is_some_and(|now| now <= OOM_SCORE_ADJUSTMENT)
        || (ids::in_first_namespace().unwrap_or(false) && has_capability(CAP_SYS_RESOURCE))
}

fn oom_score() -> Option<i32> {
    fs::read_to_string(OOM_SCORE_FILE).ok()?.trim().parse().ok()
}

fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << number) != 0)
}
