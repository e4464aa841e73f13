//! What a job or step may use.

use crate::source::Spanned;

/// Limits; what is [`None`] comes from the defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Processor time per wall time, in thousandths of a processor.
    pub millicpus: Option<Spanned<u64>>,
    /// Bytes of memory.
    pub memory: Option<Spanned<u64>>,
    /// Processes and threads at the same time.
    pub pids: Option<Spanned<u64>>,
    /// Bytes in everything writable.
    pub disk: Option<Spanned<u64>>,
    /// Files, directories and links in everything writable.
    pub inodes: Option<Spanned<u64>>,
    /// Bytes of `/dev/shm`.
    pub shm: Option<Spanned<u64>>,
    /// Bytes per second to and from disks.
    pub io: Option<Spanned<IoLimits>>,
    /// Open files per process.
    pub nofile: Option<Spanned<u64>>,
    /// Bytes of output that are kept.
    pub logs: Option<Spanned<u64>>,
}

impl Limits {
    /// These limits, and those of `lower` where these say nothing.
    #[must_use]
    pub fn or(&self, lower: &Self) -> Self {
        Self {
            millicpus: self.millicpus.clone().or_else(|| lower.millicpus.clone()),
            memory: self.memory.clone().or_else(|| lower.memory.clone()),
            pids: self.pids.clone().or_else(|| lower.pids.clone()),
            disk: self.disk.clone().or_else(|| lower.disk.clone()),
            inodes: self.inodes.clone().or_else(|| lower.inodes.clone()),
            shm: self.shm.clone().or_else(|| lower.shm.clone()),
            io: match (self.io.clone(), &lower.io) {
                (Some(own), Some(lower)) => Some(own.map(|own| own.or(lower.value))),
                (own, lower) => own.or_else(|| lower.clone()),
            },
            nofile: self.nofile.clone().or_else(|| lower.nofile.clone()),
            logs: self.logs.clone().or_else(|| lower.logs.clone()),
        }
    }
}

/// Bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoLimits {
    /// From disks.
    pub read: Option<u64>,
    /// To disks.
    pub write: Option<u64>,
}

impl IoLimits {
    /// These rates, and those of `lower` where these say nothing: one that is named does not lift
    /// the other.
    fn or(self, lower: Self) -> Self {
        Self { read: self.read.or(lower.read), write: self.write.or(lower.write) }
    }
}
