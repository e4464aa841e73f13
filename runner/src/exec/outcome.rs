//! What became of an `exec`, for scripts.

use std::{fs::File, io::Write as _, sync::Arc, time::Duration};

use cofferdam_sandbox::{End, Residue, export::Exported};
use serde::Serialize;

use crate::{
    exit::Exit, log::needles::Needles, problem::Problem, report::record::NetworkRecord,
    report::verdict::Verdict, supervise::Ended,
};

/// Version of the JSON form; higher ones may add fields.
const SCHEMA: u32 = 1;

/// How a command ended.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    schema: u32,
    /// The exit status of `cofferdam exec`.
    pub(super) status: u8,
    /// The command's own exit code.
    exit: Option<i32>,
    /// The number of the signal that killed it.
    signal: Option<i32>,
    /// Why it did not pass, in one sentence.
    pub(super) cause: Option<String>,
    usage: Used,
    /// What it did with its network; absent where it had none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) network: Option<NetworkRecord>,
    artifacts: Vec<Artifact>,
    /// What the audit afterwards found left over; empty when all is well.
    residue: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Used {
    wall_ms: u64,
    cpu_user_us: Option<u64>,
    cpu_system_us: Option<u64>,
    memory_peak: Option<u64>,
    pids_peak: Option<u64>,
    io_read: Option<u64>,
    io_written: Option<u64>,
    disk_bytes: u64,
    disk_inodes: u64,
}

#[derive(Debug, Serialize)]
struct Artifact {
    path: String,
    bytes: u64,
}

impl Outcome {
    pub(super) fn new(
        ended: Ended,
        verdict: Option<Verdict>,
        end: End,
        wall: Duration,
        artifacts: Vec<Exported>,
    ) -> Self {
        let (exit, signal) = match ended {
            Ended::Exited(exit) => (exit.code(), exit.signal().map(|signal| signal as i32)),
            Ended::Killed => (None, Some(9)),
            Ended::TimedOut(_) | Ended::Cancelled | Ended::Unread => (None, None),
        };
        let status = match ended {
            Ended::TimedOut(_) => Exit::TimedOut.code(),
            Ended::Cancelled => Exit::Cancelled.code(),
            Ended::Unread => Exit::Unread.code(),
            _ if matches!(verdict, Some(Verdict::Memory { .. })) => 128 + 9,
            // The same as a container that could not be put up: a fault of the host.
            _ if matches!(verdict, Some(Verdict::Lost)) => Exit::NotStarted.code(),
            Ended::Exited(_) | Ended::Killed => {
                let number = exit.unwrap_or_else(|| 128 + signal.unwrap_or(9));
                u8::try_from(number).unwrap_or(u8::MAX)
            }
        };
        // An exit code speaks for itself; everything else needs a word.
        let cause = verdict
            .filter(|verdict| !matches!(verdict, Verdict::ExitCode(_)))
            .map(|verdict| verdict.sentence("the command"));
        Self {
            schema: SCHEMA,
            status,
            exit,
            signal,
            cause,
            usage: Used {
                wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
                cpu_user_us: end.usage.cpu_user_us,
                cpu_system_us: end.usage.cpu_system_us,
                memory_peak: end.usage.memory_peak,
                pids_peak: end.usage.pids_peak,
                io_read: end.usage.io_read,
                io_written: end.usage.io_written,
                disk_bytes: end.disk_bytes,
                disk_inodes: end.disk_inodes,
            },
            network: end.network.map(NetworkRecord::from),
            artifacts: artifacts
                .into_iter()
                .map(|it| Artifact { path: it.path.display().to_string(), bytes: it.bytes })
                .collect(),
            residue: Vec::new(),
        }
    }

    /// With what the container left behind, which makes it a failure of the host.
    pub(super) fn with_residue(mut self, residue: &[Residue]) -> Self {
        if !residue.is_empty() {
            self.status = Exit::System.code();
        }
        self.residue = residue.iter().map(ToString::to_string).collect();
        self
    }

    /// With secrets hidden: a job chooses the names of its files and directories.
    pub(super) fn masked(mut self, needles: &Arc<Needles>) -> Self {
        self.cause = self.cause.map(|cause| needles.mask_text(&cause));
        for artifact in &mut self.artifacts {
            artifact.path = needles.mask_text(&artifact.path);
        }
        self.network = self.network.map(|network| network.masked(needles));
        self
    }
}

/// Where the outcome shall be written, opened before anything runs.
#[derive(Debug)]
pub(super) struct Target(File);

impl Target {
    /// A file's path, or the number of an open descriptor.
    pub(super) fn open(said: Option<&str>) -> Result<Option<Self>, Problem> {
        let Some(said) = said else { return Ok(None) };
        let opened = match said.parse::<u32>() {
            // Opening it anew by its name works for pipes and files alike, and needs no unsafe code.
            Ok(number) => File::options().append(true).open(format!("/proc/self/fd/{number}")),
            Err(_) => File::create(said),
        };
        opened.map(|file| Some(Self(file))).map_err(|error| {
            Problem::new(Exit::NoInput, format!("failed to open `{said}` for `--json`"))
                .because(error)
        })
    }

    /// Writes the outcome as one line.
    pub(super) fn write(mut self, outcome: &Outcome) -> Result<(), Problem> {
        let mut line = serde_json::to_vec(outcome).unwrap_or_default();
        line.push(b'\n');
        self.0
            .write_all(&line)
            .map_err(|error| Problem::new(Exit::System, "failed to write `--json`").because(error))
    }
}
