//! Why a program ended as it did: its exit, held against what its container used.

use std::time::Duration;

use cofferdam_sandbox::{End, Exit, Limits, cgroup::Usage};

use crate::report::verdict::{Process, Verdict};

/// How a program came to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ended {
    /// By itself, or by a signal that was not ours.
    Exited(Exit),
    /// Its time was up.
    TimedOut(Duration),
    /// The user wanted it to end.
    Cancelled,
    /// Nobody reads its output any more, so it was ended.
    Unread,
    /// Its container was killed as a whole, and not by us: the kernel did it.
    Killed,
}

/// Waiting for the limit of processors is worth a word from one in so many parts of the time on.
const HELD_BACK_PART: u32 = 10;

/// The verdict; `None` where the program passed.
pub(crate) fn judge(ended: Ended, end: &End, limits: &Limits, command: &str) -> Option<Verdict> {
    match ended {
        // A program that does not notice that the kernel killed its child for memory has not
        // done what it should, whatever it says.
        Ended::Exited(exit) if exit.code() == Some(0) && end.usage.oom_kills == 0 => None,
        Ended::Unread => None,
        Ended::TimedOut(after) => {
            let held_back = end.usage.throttled_us.map(Duration::from_micros);
            let held_back = held_back.filter(|held_back| *held_back * HELD_BACK_PART >= after);
            let held_back = held_back.map(|held_back| (limits.cpus, held_back));
            Some(Verdict::Timeout { after, running: command.to_owned(), held_back })
        }
        Ended::Cancelled => Some(Verdict::Cancelled { by: "by ^C".to_owned() }),
        Ended::Exited(exit) => Some(limit_hit(end, limits).unwrap_or_else(|| plain(exit))),
        Ended::Killed => Some(limit_hit(end, limits).unwrap_or(Verdict::Lost)),
    }
}

fn plain(exit: Exit) -> Verdict {
    match (exit.code(), exit.signal()) {
        (Some(code), _) => Verdict::ExitCode(code),
        (None, Some(signal)) => Verdict::Signal(signal as i32),
        (None, None) => Verdict::ExitCode(-1),
    }
}

/// The limit that a failed program has run into; the hardest first.
fn limit_hit(end: &End, limits: &Limits) -> Option<Verdict> {
    let Usage { oom_kills, memory_peak, pids_refused, .. } = end.usage;
    if oom_kills > 0 {
        return Some(Verdict::Memory {
            limit: limits.memory,
            peak: memory_peak.unwrap_or(limits.memory),
            largest: end.largest_process.as_ref().map(|process| Process {
                name: process.name.clone(),
                pid: process.pid,
                memory: process.bytes,
            }),
        });
    }
    if end.disk_full {
        let largest = end.largest_directories.clone();
        return Some(Verdict::Disk { limit: limits.disk, largest });
    }
    if end.shm_full {
        return Some(Verdict::SharedMemory { limit: limits.shm });
    }
    if end.inodes_full {
        return Some(Verdict::Inodes { limit: limits.inodes });
    }
    (pids_refused > 0).then_some(Verdict::Pids { limit: limits.pids, refused: pids_refused })
}
