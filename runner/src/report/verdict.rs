//! Why a step or a job did not pass: one sentence, with the numbers.
//!
//! Whoever finds out what happened (the supervisor, the scheduler) says so as a type; the words
//! are chosen here alone, so that the terminal, `run.json` and JUnit say the same.

use std::time::Duration;

use super::quantity::{Bytes, Elapsed};

/// A process that is named in a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// The name of its program.
    pub(crate) name: String,
    /// Its id in the container, where that is known.
    pub(crate) pid: Option<i32>,
    /// Its bytes of memory.
    pub(crate) memory: u64,
}

/// What ended a step or a job, or kept it from starting.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// The command ended with a status other than 0.
    ExitCode(i32),
    /// The command was ended by a signal that Cofferdam did not send.
    Signal(i32),
    /// Its whole container was ended, by no limit and not by us: something of the host did it.
    Lost,
    /// The memory limit was reached and the kernel killed the job.
    Memory {
        /// The limit in bytes.
        limit: u64,
        /// The highest use in bytes.
        peak: u64,
        /// The process that had most, where that is known.
        largest: Option<Process>,
    },
    /// The disk quota was used up.
    Disk {
        /// The limit in bytes.
        limit: u64,
        /// The directories with most in them, and their bytes; the largest first.
        largest: Vec<(String, u64)>,
    },
    /// `/dev/shm` was full.
    SharedMemory {
        /// Its size in bytes.
        limit: u64,
    },
    /// The quota of files was used up.
    Inodes {
        /// How many files and directories may exist.
        limit: u64,
    },
    /// The limit of processes was reached.
    Pids {
        /// How many processes and threads may exist at once.
        limit: u64,
        /// How often a process could not be started.
        refused: u64,
    },
    /// The time was up.
    Timeout {
        /// The time that there was.
        after: Duration,
        /// What was running: a command line or a phase. Empty where that is not known.
        running: String,
        /// The limit of processors, and how long it held back processes that could have run,
        /// summed over processors; where that was much of the time.
        held_back: Option<(f64, Duration)>,
    },
    /// It was ended on request.
    Cancelled {
        /// Completes "was cancelled …", such as "by ^C" or "because job `x` failed".
        by: String,
    },
}

/// Directories that a disk verdict names.
const LARGEST_MAX: usize = 3;

impl Verdict {
    /// What happened to `subject`, such as "step `make`": one sentence without a full stop.
    pub(crate) fn sentence(&self, subject: &str) -> String {
        match self {
            Self::ExitCode(code) => format!("{subject} exited with code {code}{}", hint(*code)),
            Self::Signal(number) => format!("{subject} was killed by signal {}", signal(*number)),
            Self::Lost => format!(
                "{subject} was ended with its whole container, and no limit of the job was the cause"
            ),
            Self::Memory { limit, peak, largest } => {
                let (limit, peak) = (Bytes(*limit), Bytes(*peak));
                let who = match largest {
                    Some(Process { name, pid, memory }) => {
                        let pid = pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
                        format!("the largest process was `{name}`{pid} with {}", Bytes(*memory))
                    }
                    None => "which process had most is not known".to_owned(),
                };
                format!(
                    "{subject} was killed for memory: the limit is {limit}, the peak was {peak}, \
                     {who}"
                )
            }
            Self::Disk { limit, largest } => {
                let largest: Vec<String> = largest
                    .iter()
                    .take(LARGEST_MAX)
                    .map(|(directory, bytes)| format!("`{directory}` with {}", Bytes(*bytes)))
                    .collect();
                let most = match largest.as_slice() {
                    [] => String::new(),
                    [only] => format!(", most of it in {only}"),
                    [rest @ .., last] => {
                        format!(", most of it in {} and {last}", rest.join(", "))
                    }
                };
                format!("{subject} used up its disk quota of {}{most}", Bytes(*limit))
            }
            Self::SharedMemory { limit } => {
                format!("{subject} used up its `/dev/shm` of {}", Bytes(*limit))
            }
            Self::Inodes { limit } => {
                format!("{subject} used up its quota of {limit} files and directories")
            }
            Self::Pids { limit, refused } => {
                let times = if *refused == 1 { "once" } else { &format!("{refused} times") };
                format!(
                    "{subject} reached its limit of {limit} processes and threads and was \
                     refused another {times}"
                )
            }
            Self::Timeout { after, running, held_back } => {
                let during = if running.is_empty() {
                    String::new()
                } else {
                    format!(" while running `{running}`")
                };
                let held_back = held_back.map_or_else(String::new, |(cpus, time)| {
                    format!(
                        ", and its processes waited {} in all for its limit of {cpus} processors",
                        Elapsed(time)
                    )
                });
                format!("{subject} timed out after {}{during}{held_back}", Elapsed(*after))
            }
            Self::Cancelled { by } => format!("{subject} was cancelled {by}"),
        }
    }
}

/// What shells mean by a code (POSIX.1-2024, XCU 2.8.2).
fn hint(code: i32) -> String {
    match code {
        126 => ": the shell found the command but could not execute it".to_owned(),
        127 => ": the shell found no such command".to_owned(),
        129..=192 => format!(": a command was killed by signal {}", signal(code - 128)),
        _ => String::new(),
    }
}

/// A signal's number and, where it has one, its name.
fn signal(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number)
        .map_or_else(|_| number.to_string(), |signal| format!("{number} ({signal})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(verdict: &Verdict, expected: &str) {
        assert_eq!(verdict.sentence("step `make`"), format!("step `make` {expected}"));
    }

    #[test]
    fn endings_by_the_command_itself() {
        check(&Verdict::ExitCode(2), "exited with code 2");
        check(&Verdict::ExitCode(127), "exited with code 127: the shell found no such command");
        check(
            &Verdict::ExitCode(126),
            "exited with code 126: the shell found the command but could not execute it",
        );
        check(
            &Verdict::ExitCode(137),
            "exited with code 137: a command was killed by signal 9 (SIGKILL)",
        );
        check(&Verdict::Signal(11), "was killed by signal 11 (SIGSEGV)");
        check(&Verdict::Signal(40), "was killed by signal 40");
    }

    #[test]
    fn endings_by_a_limit_have_their_numbers() {
        let (limit, peak) = (2 << 30, (2 << 30) - 4096);
        check(
            &Verdict::Memory { limit, peak, largest: None },
            "was killed for memory: the limit is 2 GiB, the peak was 2 GiB, which process had most \
             is not known",
        );
        let largest = Some(Process { name: "cc1plus".into(), pid: Some(7), memory: 3 << 29 });
        check(
            &Verdict::Memory { limit, peak, largest },
            "was killed for memory: the limit is 2 GiB, the peak was 2 GiB, the largest process \
             was `cc1plus` (process 7) with 1.5 GiB",
        );
        check(&Verdict::Disk { limit, largest: vec![] }, "used up its disk quota of 2 GiB");
        let mut largest = vec![("/workspace/target".to_owned(), 3 << 29)];
        check(
            &Verdict::Disk { limit, largest: largest.clone() },
            "used up its disk quota of 2 GiB, most of it in `/workspace/target` with 1.5 GiB",
        );
        largest.push(("/tmp".to_owned(), 1 << 20));
        check(
            &Verdict::Disk { limit, largest },
            "used up its disk quota of 2 GiB, most of it in `/workspace/target` with 1.5 GiB and \
             `/tmp` with 1 MiB",
        );
        check(&Verdict::SharedMemory { limit: 64 << 20 }, "used up its `/dev/shm` of 64 MiB");
        check(&Verdict::Inodes { limit: 1000 }, "used up its quota of 1000 files and directories");
        check(
            &Verdict::Pids { limit: 512, refused: 1 },
            "reached its limit of 512 processes and threads and was refused another once",
        );
        check(
            &Verdict::Timeout {
                after: Duration::from_secs(90),
                running: "make test".into(),
                held_back: None,
            },
            "timed out after 1 m 30 s while running `make test`",
        );
        check(
            &Verdict::Timeout {
                after: Duration::from_secs(90),
                running: String::new(),
                held_back: Some((0.5, Duration::from_secs(40))),
            },
            "timed out after 1 m 30 s, and its processes waited 40.0 s in all for its limit of 0.5 \
             processors",
        );
    }

    #[test]
    fn what_is_not_the_jobs_doing() {
        check(&Verdict::Cancelled { by: "by ^C".into() }, "was cancelled by ^C");
        check(
            &Verdict::Lost,
            "was ended with its whole container, and no limit of the job was the cause",
        );
    }
}
