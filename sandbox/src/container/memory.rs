//! A container's memory: what is done when it runs short, and which process had most of it.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{OFlag, openat},
    sys::{stat::Mode, statvfs::fstatvfs},
};

use crate::{
    cgroup::{self, Resident},
    kernel_log,
};

/// A larger process counts for so long after it was seen: what happened before a later shortage says
/// nothing of that one.
const COUNTS_FOR: Duration = Duration::from_secs(1);

/// A process that had less than one in so many bytes of the peak may have been outlived by a larger.
const PART: u64 = 4;

/// The largest process that was seen when memory ran short.
#[derive(Clone, Debug, Default)]
pub(super) struct Largest(Arc<Mutex<Option<(Instant, Resident)>>>);

impl Largest {
    fn saw(&self, process: Resident) {
        let now = Instant::now();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let replaces = seen.as_ref().is_none_or(|(when, before)| {
            process.bytes >= before.bytes || now.duration_since(*when) > COUNTS_FOR
        });
        if replaces {
            *seen = Some((now, process));
        }
    }

    /// The process that had most memory of `group` when one of its processes was killed for it: by
    /// the kernel's account, otherwise by what was seen; `None` where neither is there. What was seen
    /// with little of the `peak` was seen too late.
    pub(super) fn when_it_ran_out(&self, group: &cgroup::Group, peak: u64) -> Option<Resident> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let seen = seen.map(|(_, process)| process);
        let Some(victim) = kernel_log::victim(group) else {
            return seen.filter(|process| process.bytes.saturating_mul(PART) >= peak);
        };
        let same = seen
            .filter(|seen| seen.outer_pid == victim.outer_pid && seen.name == victim.name)
            .and_then(|seen| seen.pid);
        Some(Resident { pid: same, ..victim }.located())
    }
}

/// A container's `/dev/shm`, which is a file system of its own.
#[derive(Debug)]
pub(super) struct SharedMemory(OwnedFd);

impl SharedMemory {
    /// That of the container whose root directory is `root`, in which nothing has run yet.
    pub(super) fn of(root: impl AsFd) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(openat(root.as_fd(), "dev/shm", flags, Mode::empty()).map(Self)?)
    }

    /// Whether a page more would be refused.
    pub(super) fn is_full(&self) -> io::Result<bool> {
        Ok(fstatvfs(&self.0)?.blocks_available() == 0)
    }
}

/// Looks at the processes each time that memory runs short. Where the kernel kills one process, the
/// container ends all the same.
pub(super) async fn watch(group: cgroup::Group, largest: Largest) {
    let short = || {
        if let Some(process) = group.largest_process() {
            largest.saw(process);
        }
    };
    if let Err(error) = group.watch_memory(short).await {
        tracing::warn!(%error, "a container's memory is no longer watched");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(name: &str, bytes: u64) -> Resident {
        Resident { name: name.to_owned(), pid: None, outer_pid: 1, bytes }
    }

    #[test]
    fn a_dying_process_does_not_hide_how_large_it_was() {
        let largest = Largest::default();
        for (name, bytes) in [("cc1", 5), ("ld", 9), ("ld", 2)] {
            largest.saw(process(name, bytes));
        }
        let seen = largest.0.lock().unwrap().clone().unwrap().1;
        assert_eq!(seen, process("ld", 9));
    }
}
