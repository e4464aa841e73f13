//! What the tasks of a run tell its driver.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use cofferdam_jobs::state::{Event, Fault, StepEnd, StepRef};
use cofferdam_sandbox::{cgroup::Usage, image::Image};

use super::{
    build::Build,
    job::{
        Collected,
        seal::{Sealed, Unsealed},
        service::ServiceReport,
        start::Up,
    },
};
use crate::{
    build::Forecast,
    log::{index::Stream, recorder::Kept},
};

/// A step of a try of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct StepId {
    /// Index of the job in the plan.
    pub(super) job: usize,
    /// Which try, from 1.
    pub(super) attempt: u32,
    /// Which step.
    pub(super) step: StepRef,
}

/// Output of a step, masked. It comes on a way of its own, because it has to wait when the display
/// does, and nothing else may.
#[derive(Debug)]
pub(super) struct StepOutput {
    /// Which step.
    pub(super) step: StepId,
    /// Which stream.
    pub(super) stream: Stream,
    /// The bytes.
    pub(super) bytes: Vec<u8>,
}

/// Something that a task has done or seen.
#[derive(Debug)]
pub(super) enum Message {
    /// The container of a job stands, and its services are up.
    Started {
        /// Index of the job.
        job: usize,
        /// What stands.
        up: Box<Up>,
    },
    /// The making of an image has begun.
    Building {
        /// Index of the job.
        job: usize,
        /// The image so far.
        build: Build,
        /// What it starts from; [`None`] for a Dockerfile.
        base: Option<Arc<Image>>,
    },
    /// They could not be put up, and nothing is left of them.
    StartFailed {
        /// Index of the job.
        job: usize,
        /// Whose doing it is.
        fault: Fault,
        /// One sentence for the user.
        message: String,
        /// What there is to tell of the services.
        services: Vec<ServiceReport>,
    },
    /// What a job has written is kept, and a container stands that starts in it.
    Sealed {
        /// Index of the job.
        job: usize,
        /// After which step, where others start from there.
        step: Option<usize>,
        /// The step whose network that is in, where it is not the job's.
        network: Option<StepRef>,
        /// What stands, or why nothing does.
        sealed: Result<Box<Sealed>, Unsealed>,
    },
    /// The process of a step has ended.
    StepEnded {
        /// Which step.
        step: StepId,
        /// What is known of it.
        report: Box<StepReport>,
    },
    /// A job's files are collected, and its container is gone.
    JobFinished {
        /// Index of the job.
        job: usize,
        /// Which try.
        attempt: u32,
        /// What came out.
        collected: Box<Collected>,
    },
    /// Nothing but the event itself.
    Event(Event),
}

/// How a step went.
#[derive(Debug)]
pub(super) struct StepReport {
    /// For the state machine.
    pub(super) end: StepEnd,
    /// When it was started.
    pub(super) started: SystemTime,
    /// When its process had ended.
    pub(super) ended: SystemTime,
    /// Its exit code.
    pub(super) exit_code: Option<i32>,
    /// The signal that killed it.
    pub(super) signal: Option<i32>,
    /// What its control group counted.
    pub(super) usage: Option<Usage>,
    /// Where its summary is kept, if it wrote one.
    pub(super) summary: Option<PathBuf>,
    /// Whether its layer was there already, where it is an image's.
    pub(super) layer: Option<Forecast>,
}

/// The log of a step, when its job has ended.
#[derive(Debug)]
pub(super) struct ClosedLog {
    /// Which step.
    pub(super) step: StepRef,
    /// What was kept.
    pub(super) kept: Kept,
}

/// A file that came out of a job.
#[derive(Debug)]
pub(super) struct CollectedFile {
    /// Where it is now, relative to the run's directory.
    pub(super) path: PathBuf,
    /// Bytes.
    pub(super) bytes: u64,
    /// `sha256:` and the digest of its bytes.
    pub(super) digest: String,
    /// Whether it is a link to another of them, or to nothing.
    pub(super) is_link: bool,
}
