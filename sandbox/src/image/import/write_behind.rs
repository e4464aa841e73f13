//! Has the kernel write to disk what was unpacked while the rest is still being unpacked.
//!
//! An import ends with everything on disk. Left to itself the kernel begins to write some seconds
//! later, which is when most imports are done, and then all of it is waited for at once.

use std::{
    fs::File,
    io,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use nix::unistd::syncfs;

/// Bytes of archives, as they are compressed, that are read between two writings.
const STEP: u64 = 16 * 1024 * 1024;

/// Counts what is unpacked, and has it written step by step.
#[derive(Debug)]
pub(in crate::image) struct WriteBehind {
    read: AtomicU64,
    wake: SyncSender<()>,
}

impl WriteBehind {
    /// Does `work`, and meanwhile has the file system of `directory` written to disk again and again.
    ///
    /// # Errors
    /// When the disk fails: the kernel tells of that once, so it may not be passed over here.
    pub(super) fn during<T>(directory: &File, work: impl FnOnce(&Self) -> T) -> io::Result<T> {
        let (wake, woken) = sync_channel(1);
        thread::scope(|scope| {
            let writer = scope.spawn(move || woken.iter().try_for_each(|()| syncfs(directory)));
            let write_behind = Self { read: AtomicU64::new(0), wake };
            let done = work(&write_behind);
            // The writer ends when nobody can wake it any more.
            drop(write_behind);
            match writer.join() {
                Ok(written) => Ok(written.map(|()| done)?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// So many bytes more of an archive were read.
    pub(super) fn count(&self, bytes: u64) {
        let before = self.read.fetch_add(bytes, Ordering::Relaxed);
        if before / STEP != before.saturating_add(bytes) / STEP {
            // It may still be at the last step, or have failed, which is told in the end.
            self.wake.try_send(()).ok();
        }
    }
}
