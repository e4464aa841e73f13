//! How programs and containers end.

use std::time::Duration;

use nix::sys::{signal::Signal, wait::WaitStatus};

use crate::{
    cgroup::{Resident, Usage},
    network::NetworkUse,
};

/// How a program ended, and what it and the children it waited for used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    status: i32,
    /// Processor time in user mode.
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
    /// Largest resident memory of any one of its processes, in bytes.
    pub max_rss: u64,
}

impl Exit {
    pub(super) fn new(status: i32, user_us: u64, system_us: u64, max_rss: u64) -> Self {
        Self {
            status,
            user: Duration::from_micros(user_us),
            system: Duration::from_micros(system_us),
            max_rss,
        }
    }

    fn status(self) -> Option<WaitStatus> {
        WaitStatus::from_raw(nix::unistd::Pid::from_raw(1), self.status).ok()
    }

    /// The exit code, unless a signal ended it.
    pub fn code(self) -> Option<i32> {
        match self.status()? {
            WaitStatus::Exited(_, code) => Some(code),
            _ => None,
        }
    }

    /// The signal that ended it, unless it exited by itself.
    pub fn signal(self) -> Option<Signal> {
        match self.status()? {
            WaitStatus::Signaled(_, signal, _) => Some(signal),
            _ => None,
        }
    }
}

/// What a container has used, so far or at its end.
#[derive(Clone, Debug, Default)]
pub struct End {
    /// As the control groups counted.
    pub usage: Usage,
    /// Where a process was killed for memory, the one that had most of it, if that is known.
    pub largest_process: Option<Resident>,
    /// Bytes in everything writable.
    pub disk_bytes: u64,
    /// Inodes in everything writable.
    pub disk_inodes: u64,
    /// Whether the limit `disk` is used up: the next write is refused.
    pub disk_full: bool,
    /// Whether the limit `shm` is used up: the next write to `/dev/shm` is refused.
    pub shm_full: bool,
    /// Whether the limit `inodes` is used up: the next file is refused.
    pub inodes_full: bool,
    /// Where the disk is full, the directories with most in them and their bytes, largest first.
    pub largest_directories: Vec<(String, u64)>,
    /// What it did with its network, once it has ended; `None` where it had none.
    pub network: Option<NetworkUse>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses_are_read_as_wait_2_defines_them() {
        let exit = |status| Exit::new(status, 0, 0, 0);
        assert_eq!((exit(0).code(), exit(0).signal()), (Some(0), None));
        assert_eq!((exit(7 << 8).code(), exit(7 << 8).signal()), (Some(7), None));
        assert_eq!((exit(9).code(), exit(9).signal()), (None, Some(Signal::SIGKILL)));
        assert_eq!((exit(0x8b).code(), exit(0x8b).signal()), (None, Some(Signal::SIGSEGV)));
    }
}
