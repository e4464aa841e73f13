//! What importing one image may use at most: every number an archive can choose has a bound here.
//!
//! The defaults are those of the security page (section 2, A2.6). They are far above what honest
//! images need and far below what hurts.

use std::sync::atomic::{AtomicU64, Ordering};

use super::problem::Problem;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The bounds of one import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportLimits {
    /// Bytes of all layers as they are stored in the source, compressed or not.
    pub image: u64,
    /// Bytes of all layers unpacked; the holes of sparse files count as if they were data.
    pub unpacked: u64,
    /// Archive members of all layers.
    pub entries: u64,
    /// How many times larger than its compressed form a layer may become...
    pub ratio: u64,
    /// ...once it has grown past this many bytes.
    pub ratio_after: u64,
    /// Directories above an entry.
    pub depth: usize,
    /// Bytes of an entry's path or link target.
    pub path: usize,
    /// Bytes of one file name.
    pub name: usize,
    /// Bytes of one PAX extended header or long name.
    pub extension: u64,
    /// Bytes of one JSON document: index, manifest or configuration.
    pub document: u64,
    /// Base-2 logarithm of the largest zstd window: the memory that decompressing may take.
    pub zstd_window_log: u32,
    /// Bytes of directory names that unpacking one layer may keep in memory.
    pub directory_names: usize,
}

impl Default for ImportLimits {
    fn default() -> Self {
        Self {
            image: 8 * GIB,
            unpacked: 16 * GIB,
            entries: 500_000,
            ratio: 200,
            ratio_after: 64 * MIB,
            depth: 256,
            path: 4096,
            name: 255,
            extension: MIB,
            document: 4 * MIB,
            zstd_window_log: 27,
            directory_names: 64 << 20,
        }
    }
}

/// What all layers of one image have used of their common limits, counted across threads.
#[derive(Debug)]
pub(crate) struct Budget<'a> {
    pub(crate) limits: &'a ImportLimits,
    unpacked: AtomicU64,
    entries: AtomicU64,
}

impl<'a> Budget<'a> {
    pub(crate) fn new(limits: &'a ImportLimits) -> Self {
        Self { limits, unpacked: AtomicU64::new(0), entries: AtomicU64::new(0) }
    }

    /// Counts `bytes` more of unpacked content, real or apparent.
    pub(crate) fn grow(&self, bytes: u64) -> Result<(), Problem> {
        let limit = self.limits.unpacked;
        if add(&self.unpacked, bytes) > limit {
            return Err(Problem::Limit { what: "bytes unpacked", limit });
        }
        Ok(())
    }

    /// Counts one more archive member.
    pub(crate) fn enter(&self) -> Result<(), Problem> {
        let limit = self.limits.entries;
        if add(&self.entries, 1) > limit {
            return Err(Problem::Limit { what: "files and directories", limit });
        }
        Ok(())
    }
}

/// Adds without wrapping, and returns the sum.
fn add(counter: &AtomicU64, amount: u64) -> u64 {
    let sum = |old: u64| old.saturating_add(amount);
    let old = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| Some(sum(old)));
    sum(old.unwrap_or(u64::MAX))
}
