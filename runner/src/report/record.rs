//! The record of a run, `run.json`: what ran, how it ended, what it used.
//!
//! These are wire types of their own: the plan's and the sandbox's types can change without the
//! file changing. [`SCHEMA`] moves when a reader of the old form would be misled; new fields may
//! come without that, and readers ignore those that they do not know. Times are RFC 3339 in UTC,
//! durations in milliseconds, sizes in bytes, paths relative to the run's directory. Text must be
//! masked before it comes here.

mod file;
mod network;
mod state;

use std::{collections::BTreeMap, path::PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{junit::Totals, learned::LearnedRecord};

pub(super) use file::write_whole;
pub(crate) use file::{FILE_NAME, RecordError};
pub(crate) use network::{AttemptedDestination, NetworkRecord};
pub(crate) use state::StateRecord;

/// The version of this form.
pub(crate) const SCHEMA: u32 = 1;

/// How a run, a job or a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Conclusion {
    /// Everything did what it should.
    Passed,
    /// The job's own doing.
    Failed,
    /// The time was up.
    TimedOut,
    /// Ended on request.
    Cancelled,
    /// Not run, as the pipeline wants it.
    Skipped,
    /// The host's doing.
    SystemFault,
}

impl Conclusion {
    /// Whether something went wrong.
    pub(crate) fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut | Self::SystemFault)
    }

    /// As it is told to people.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
            Self::SystemFault => "system fault",
        }
    }

    /// One character that says the same to those who see no colour.
    pub(crate) fn symbol(self) -> char {
        match self {
            Self::Passed => '✓',
            Self::Failed | Self::TimedOut => '✗',
            Self::Cancelled => '■',
            Self::Skipped => '○',
            Self::SystemFault => '!',
        }
    }
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    /// [`SCHEMA`].
    pub(crate) schema: u32,
    /// The version of Cofferdam that wrote it.
    pub(crate) cofferdam: String,
    /// The run's id.
    pub(crate) id: String,
    /// What was run.
    pub(crate) pipeline: PipelineRecord,
    /// When the run began.
    pub(crate) started: Timestamp,
    /// When it ended; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<Timestamp>,
    /// How it ended; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) conclusion: Option<Conclusion>,
    /// The jobs, in the order of the plan.
    pub(crate) jobs: Vec<JobRecord>,
    /// Processor time, in milliseconds, of deciding what comes next and writing it down; absent while
    /// the run goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scheduling_ms: Option<u64>,
    /// Limits that the jobs went without, because the host cannot enforce them and the operator
    /// allows that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) without_limits: Vec<String>,
    /// What its jobs reached, where the run was to learn that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) learned: Option<LearnedRecord>,
    /// What the audit after the run found left over; empty when all is well.
    pub(crate) residue: Vec<String>,
}

/// The pipeline file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PipelineRecord {
    /// The pipeline's name, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// The file's path as it was given.
    pub(crate) file: String,
    /// `sha256:` and the digest of the file's bytes.
    pub(crate) digest: String,
}

/// A job of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct JobRecord {
    /// The job's id in the pipeline.
    pub(crate) id: String,
    /// The name for people, unique in the run.
    pub(crate) name: String,
    /// The values of a matrix job.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) matrix: BTreeMap<String, serde_json::Value>,
    /// What its container started from; absent if it never got so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<ImageRecord>,
    /// How it ended.
    pub(crate) conclusion: Conclusion,
    /// Why it did not pass: one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    /// It failed, and the pipeline allows that.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) failure_allowed: bool,
    /// Why it was let go: what it needs, or its `if` and what the names in it stood for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<String>,
    /// It passed on a retry.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) flaky: bool,
    /// The limits that applied.
    pub(crate) limits: LimitsRecord,
    /// Every try, the last one decides; empty if it was not run.
    pub(crate) attempts: Vec<AttemptRecord>,
    /// What came out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) artifacts: Vec<ArtifactRecord>,
    /// What was selected and cannot come out: one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) left_out: Option<String>,
    /// The project's own test results, where the job declares some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tests: Option<Totals>,
}

/// An image and what it was at that time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    /// As the pipeline names it.
    pub(crate) reference: String,
    /// The digest of its manifest; absent for the host image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
}

/// One try of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AttemptRecord {
    /// How it ended.
    pub(crate) conclusion: Conclusion,
    /// Why it did not pass: one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    /// What `retry` made of it, where it did not pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry: Option<String>,
    /// When its container was asked for.
    pub(crate) started: Timestamp,
    /// When its container was gone.
    pub(crate) ended: Timestamp,
    /// What all its steps used.
    pub(crate) usage: UsageRecord,
    /// What it did with its network; absent where it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<NetworkRecord>,
    /// The steps.
    pub(crate) steps: Vec<StepRecord>,
    /// The containers beside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) services: Vec<ServiceRecord>,
    /// Its caches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) caches: Vec<CacheRecord>,
    /// What it had written in the end; absent where that was not to be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<StateRecord>,
}

/// A cache of a try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CacheRecord {
    /// Its key.
    pub(crate) key: String,
    /// The key of what was restored; absent if there was nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) restored: Option<String>,
    /// Bytes that were kept for later runs; absent if nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) saved: Option<u64>,
    /// Why nothing was restored or kept that should have been: one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

/// A service of a try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServiceRecord {
    /// Its name.
    pub(crate) name: String,
    /// What it started from.
    pub(crate) image: ImageRecord,
    /// The exit status of its program, if that exited before the job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<i32>,
    /// The signal that ended its program, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<i32>,
    /// What it used; absent if it was not started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<UsageRecord>,
    /// Its output; absent if it was not started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<LogRecord>,
}

/// One step of a try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepRecord {
    /// The step's id in the pipeline, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// The step's name for people.
    pub(crate) name: String,
    /// How it ended.
    pub(crate) conclusion: Conclusion,
    /// Why it did not pass: one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    /// The `if` by which it was started, and what the names in it stood for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<String>,
    /// The exit status of the command, if it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<i32>,
    /// The signal that ended the command, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<i32>,
    /// When it was started; absent if it was not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) started: Option<Timestamp>,
    /// When it ended; absent if it was not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<Timestamp>,
    /// What it used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<UsageRecord>,
    /// Its output; absent if it was not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<LogRecord>,
    /// What it did with its network; absent where that is the job's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<NetworkRecord>,
    /// The path in the run's directory of what it wrote to `COFFERDAM_SUMMARY`; absent if that is
    /// nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) summary: Option<PathBuf>,
    /// Whether its layer was kept from an earlier build and, where it was not, what of the step was
    /// new; absent where it is not a step of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) layer: Option<String>,
    /// What the try had written when it had ended; absent where that was not to be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<StateRecord>,
}

/// Where a step's output is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogRecord {
    /// The log's path in the run's directory.
    pub(crate) path: PathBuf,
    /// Bytes that the step wrote.
    pub(crate) bytes: u64,
    /// Bytes of these that the log limit dropped.
    pub(crate) dropped: u64,
}

/// The limits of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LimitsRecord {
    /// Processor time per wall time.
    pub(crate) cpus: f64,
    /// Bytes of memory.
    pub(crate) memory: u64,
    /// Processes and threads at once.
    pub(crate) pids: u64,
    /// Bytes on disk.
    pub(crate) disk: u64,
    /// Files and directories.
    pub(crate) inodes: u64,
    /// Bytes of `/dev/shm`.
    #[serde(default)]
    pub(crate) shm: u64,
    /// Bytes per second from each disk, where limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) io_read: Option<u64>,
    /// Bytes per second to each disk, where limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) io_write: Option<u64>,
    /// Open files per process.
    pub(crate) nofile: u64,
    /// Bytes of log.
    pub(crate) logs: u64,
    /// Wall time.
    pub(crate) timeout_ms: u64,
}

/// What a step or a try used. Absent means that this host cannot measure it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UsageRecord {
    /// Wall time.
    pub(crate) wall_ms: u64,
    /// Processor time of all processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_ms: Option<u64>,
    /// The highest use of memory in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory_peak: Option<u64>,
    /// The highest number of processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pids_peak: Option<u64>,
    /// Bytes read from block devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) io_read: Option<u64>,
    /// Bytes written to block devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) io_written: Option<u64>,
    /// Bytes in everything writable at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disk: Option<u64>,
}

/// A file that a job handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArtifactRecord {
    /// Its path in the run's directory.
    pub(crate) path: PathBuf,
    /// Its size.
    pub(crate) bytes: u64,
    /// `sha256:` and the digest of its bytes.
    pub(crate) digest: String,
}

fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
pub(super) mod samples;

#[cfg(test)]
mod tests;
