//! What one container may use at most. Every limit is always set but that of disks' bandwidth, which
//! not all hosts can enforce.
//!
//! The caller lowers or raises the defaults within what the operator allows, but not below what the
//! container's own init needs: it would fail in ways that say nothing of the limit.

use std::time::Duration;

use crate::error::{Error, Result};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// The least memory with which a container stands, with room to spare on every kernel.
const MEMORY_MIN: u64 = 4 * MIB;
/// The init and one program.
const PIDS_MIN: u64 = 2;
/// The init opens a few files of its own while it builds the container.
const NOFILE_MIN: u64 = 16;

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
    /// Bytes per second from and to disks; without one, as fast as they go.
    pub io: IoRates,
    /// Bytes of output kept per job; what comes after is counted and dropped.
    pub logs: u64,
    /// Wall time from the first step to the end of the last.
    pub timeout: Duration,
}

/// Bytes per second of each block device that a container's files are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoRates {
    /// Read from it.
    pub read: Option<u64>,
    /// Written to it.
    pub write: Option<u64>,
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
            io: IoRates::default(),
            logs: 100 * MIB,
            timeout: Duration::from_secs(15 * 60),
        }
    }
}

impl Limits {
    /// Refuses limits with which no container can stand: a fault of the pipeline.
    pub(crate) fn check(&self) -> Result<()> {
        for (name, limit, least, written) in [
            ("memory", self.memory, MEMORY_MIN, "4MiB"),
            ("pids", self.pids, PIDS_MIN, "2"),
            ("nofile", self.nofile, NOFILE_MIN, "16"),
        ] {
            if limit < least {
                return Err(Error::pipeline(
                    format!("put a container up with the limit `{name}` {limit}"),
                    "the container itself needs more",
                )
                .remedy(format!("allow at least {written}")));
            }
        }
        Ok(())
    }
}
