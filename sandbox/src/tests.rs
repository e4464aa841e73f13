//! What unit tests of all modules share.

use std::{
    io::Write as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

/// Says that a test cannot run here, past the test harness, which keeps what a passing test prints.
pub(crate) fn not_run(test: &str, reason: &str) {
    writeln!(std::io::stderr(), "NOT RUN on this host: {test}: {reason}").unwrap();
}

/// Does `work` while `one` and `other` are exchanged without a pause: whoever looks at a name first
/// and opens it afterwards finds the other one there.
pub(crate) fn exchanging<T>(one: &Path, other: &Path, work: impl FnOnce() -> T) -> T {
    /// Also where `work` panics.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let end = End(&is_over);
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let exchange = RenameFlags::RENAME_EXCHANGE;
                renameat2(AT_FDCWD, one, AT_FDCWD, other, exchange).unwrap();
            }
        });
        let done = work();
        drop(end);
        done
    })
}
