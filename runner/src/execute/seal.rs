//! Keeps what a job has written so far, and puts up a container that goes on from there.
//!
//! The upper directories of a mounted overlay cannot become a layer, so the container ends and the
//! next one starts over its upper directories as they stand: no byte is copied. Processes that steps
//! have left running end with it.

use std::sync::Arc;

use cofferdam_jobs::state::{Fault, Kept};
use cofferdam_sandbox::{Container, End, Sandbox, State};

use super::{
    job::{fault_of, in_words},
    start::Base,
};

/// The least that the next container must be able to write.
const DISK_MIN: u64 = 1024 * 1024;

/// A container that went on from another's end.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) container: Container,
    pub(super) base: Base,
    /// What the one before has written.
    pub(super) state: Arc<State>,
    pub(super) kept: Kept,
    /// What the one before has used.
    pub(super) used: End,
}

/// Ends `container`, and puts up one like `base` over what it has written.
pub(super) async fn seal(
    sandbox: Sandbox,
    container: Arc<Container>,
    mut base: Base,
) -> Result<Box<Sealed>, (Fault, String)> {
    let failed = |error: cofferdam_sandbox::Error| (fault_of(&error), in_words(&error));
    container.stop().await.map_err(failed)?;
    let state = container.state().map_err(failed)?;
    let used = container.end().await.map_err(failed)?;
    let kept = kept(&state).map_err(failed)?;
    drop(container);
    base.layers = state.layers();
    // All containers of a job share its limit.
    let size = kept.memory.saturating_add(kept.disk);
    base.limits.disk = base.limits.disk.saturating_sub(size).max(DISK_MIN);
    base.limits.inodes = base.limits.inodes.saturating_sub(used.disk_inodes).max(64);
    let container = sandbox.create(base.spec()).await.map_err(failed)?;
    Ok(Box::new(Sealed { container, base, state, kept, used }))
}

/// What keeping `state` takes.
pub(super) fn kept(state: &Arc<State>) -> cofferdam_sandbox::Result<Kept> {
    Ok(match state.size()? {
        (memory, true) => Kept { memory, disk: 0 },
        (disk, false) => Kept { memory: 0, disk },
    })
}

/// What all containers of a try used together.
pub(super) fn together(segments: Vec<End>, last: End) -> End {
    let add = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (None, None) => None,
        (one, other) => Some(one.unwrap_or(0).saturating_add(other.unwrap_or(0))),
    };
    segments.into_iter().fold(last, |mut sum, before| {
        let (usage, other) = (&mut sum.usage, before.usage);
        usage.cpu_user_us = add(usage.cpu_user_us, other.cpu_user_us);
        usage.cpu_system_us = add(usage.cpu_system_us, other.cpu_system_us);
        usage.throttled_us = add(usage.throttled_us, other.throttled_us);
        usage.memory_peak = usage.memory_peak.max(other.memory_peak);
        usage.oom_kills = usage.oom_kills.saturating_add(other.oom_kills);
        usage.pids_peak = usage.pids_peak.max(other.pids_peak);
        usage.pids_refused = usage.pids_refused.saturating_add(other.pids_refused);
        usage.io_read = add(usage.io_read, other.io_read);
        usage.io_written = add(usage.io_written, other.io_written);
        sum.disk_bytes = sum.disk_bytes.saturating_add(before.disk_bytes);
        sum.disk_inodes = sum.disk_inodes.saturating_add(before.disk_inodes);
        if sum.network.is_none() {
            sum.network = before.network;
        }
        sum
    })
}
