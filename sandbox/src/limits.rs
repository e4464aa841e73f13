//! What one container may use at most. Every limit is always set: there is no "unlimited".
//!
//! The defaults are those of the security page (section 3.6); the caller lowers or raises them
//! within what the operator allows.

use std::time::Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// The hard limits of one container.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Processor time per wall time: 1.5 is one and a half processors (cgroup `cpu.max`).
    pub cpus: f64,
    /// Bytes of memory, page cache of its own files included; swap is always 0.
    pub memory: u64,
    /// Processes and threads at the same time (cgroup `pids.max`).
    pub pids: u64,
    /// Bytes in everything writable: the root, `/tmp`, `/workspace`.
    pub disk: u64,
    /// Files, directories and links in everything writable.
    pub inodes: u64,
    /// Open files per process (`RLIMIT_NOFILE`, soft and hard).
    pub nofile: u64,
    /// Bytes of `/dev/shm`.
    pub shm: u64,
    /// Bytes of output kept per job; what comes after is counted and dropped.
    pub logs: u64,
    /// Wall time from the first step to the end of the last.
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpus: 1.0,
            memory: 2 * GIB,
            pids: 512,
            disk: 4 * GIB,
            inodes: 1_000_000,
            nofile: 4096,
            shm: 64 * MIB,
            logs: 100 * MIB,
            timeout: Duration::from_secs(15 * 60),
        }
    }
}
