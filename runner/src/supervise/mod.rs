//! Watching over programs in containers: their output, their time, their end.

mod judge;
mod output;
mod signals;

pub(crate) use judge::{Ended, judge};
pub(crate) use output::{CHUNK_MAX, Chunk, OutputPipes};
pub(crate) use signals::Interrupts;

use std::time::Duration;

/// Where programs are looked for when the image does not say.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Between the polite signal (SIGTERM) and the last one (SIGKILL).
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// How long output is read after the last process that could write it is gone. The pipes end by
/// then; the bound is for a bug of ours or the kernel's.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(5);
