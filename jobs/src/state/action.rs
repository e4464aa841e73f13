//! What the run wants the runner to do.

use std::time::Duration;

use super::{Conclusion, StepRef};

/// Something to do. `job` is an index into [`crate::plan::Plan::jobs`].
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put up the container of a job.
    StartJob(StartJob),
    /// Run a step in the container of its job.
    StartStep {
        /// Which job.
        job: usize,
        /// Which step.
        step: StepRef,
        /// What to run.
        resolved: Box<ResolvedStep>,
    },
    /// End the processes of a step.
    StopStep {
        /// Which job.
        job: usize,
        /// Which step.
        step: StepRef,
        /// How.
        stop: Stop,
        /// Why, for the log.
        reason: StopReason,
    },
    /// Give up putting a container up; [`super::Event::JobStartFailed`] comes sooner, or
    /// [`super::Event::JobStarted`] was on its way.
    AbortStart {
        /// Which job.
        job: usize,
    },
    /// Keep the file system of a job as it is now, and go on in a container that starts from it; no
    /// step of the job runs.
    SealJob {
        /// Which job.
        job: usize,
        /// The step that has just ended, where others start from its state or the run keeps it.
        step: Option<usize>,
        /// The step whose network the container has; the job's if not said.
        network: Option<StepRef>,
    },
    /// Nothing starts from the file systems of this job any more.
    DropStates {
        /// Which job.
        job: usize,
    },
    /// Send [`super::Event::TimerFired`] after this time.
    ArmTimer {
        /// Which timer.
        timer: Timer,
        /// How long from now.
        after: Duration,
    },
    /// The timer is no longer wanted.
    DisarmTimer(Timer),
    /// Collect the files of a job and take its container down.
    FinishJob {
        /// Which job.
        job: usize,
        /// Which try, from 1.
        attempt: u32,
        /// What to collect.
        collect: Collect,
    },
    /// The job has ended for good; the reason is in [`super::Run::job`].
    JobEnded {
        /// Which job.
        job: usize,
        /// How.
        conclusion: Conclusion,
    },
    /// All jobs have ended; the last action of a run.
    RunEnded {
        /// How.
        conclusion: Conclusion,
    },
}

/// A job whose container is to be put up.
#[derive(Clone, Debug, PartialEq)]
pub struct StartJob {
    /// Which job; its image, limits and network are in the plan.
    pub job: usize,
    /// Which try, from 1.
    pub attempt: u32,
    /// Caches to restore.
    pub caches: Vec<ResolvedCache>,
    /// Jobs whose artifacts are brought in.
    pub artifacts_of: Vec<usize>,
    /// The containers beside it, in the order of the file.
    pub services: Vec<ResolvedService>,
    /// Whose file system it starts in.
    pub from: Option<StartFrom>,
    /// Whether other jobs may start from its file system.
    pub keep: bool,
}

/// A file system that a job starts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartFrom {
    /// Whose.
    pub job: usize,
    /// After which of its steps; its end if not said.
    pub step: Option<usize>,
}

/// A container beside a job, with its expressions replaced. Its image and limits are in the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedService {
    /// Index into [`crate::plan::PlannedJob::services`].
    pub index: usize,
    /// Its name.
    pub name: String,
    /// What it runs; the image's own command if not said.
    pub command: Option<ResolvedCommand>,
    /// Its environment.
    pub env: Vec<EnvVar>,
    /// Who its processes are, if not the image's own user.
    pub user: Option<String>,
    /// When it is up; at once if not said.
    pub ready: Option<ResolvedReady>,
}

/// A secret that is placed as a file.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// The name of the file.
    pub name: String,
    /// The content.
    pub value: String,
}

impl std::fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretFile").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A cache with its expressions replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedCache {
    /// What the content depends on.
    pub key: String,
    /// Beginnings of keys that will do as well.
    pub restore: Vec<String>,
    /// What is kept.
    pub paths: Vec<String>,
}

/// A step with its expressions replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedStep {
    /// Its id, where the file gives one.
    pub id: Option<String>,
    /// For people.
    pub name: String,
    /// What to run.
    pub command: ResolvedCommand,
    /// What the pipeline sets, later layers over earlier ones; the runner adds its own.
    pub env: Vec<EnvVar>,
    /// Where it starts; the workspace if not said.
    pub workdir: Option<String>,
    /// Who its processes are; as the job if not said.
    pub user: Option<String>,
    /// The image it runs in, if not the job's.
    pub image: Option<String>,
    /// Whether it stays up while later steps run.
    pub background: bool,
    /// When a background step is up.
    pub ready: Option<ResolvedReady>,
    /// Secrets to place under `/run/secrets`, for as long as this step runs.
    pub secret_files: Vec<SecretFile>,
}

/// What is run inside until it passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedReady {
    /// What is run.
    pub command: ResolvedCommand,
    /// How long it may take until it passes.
    pub timeout: Duration,
    /// How long to wait between two tries.
    pub interval: Duration,
}

/// What a step runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolvedCommand {
    /// A script.
    Script {
        /// The shell and its options; the script is its last argument or its file.
        shell: Vec<String>,
        /// The text.
        text: String,
    },
    /// A program and its arguments.
    Exec(Vec<String>),
}

/// One variable.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether a secret is in the value.
    pub secret: bool,
}

impl std::fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = if self.secret { "***" } else { &self.value };
        write!(f, "{}={value:?}", self.name)
    }
}

/// How a step is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// SIGTERM, a time of grace, then SIGKILL to all that is left.
    Gently,
    /// SIGKILL.
    Now,
}

/// Why a step is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// Its own time is up.
    StepTimeout,
    /// The time of its job is up.
    JobTimeout,
    /// The time for cleanup is up.
    CleanupTimeout,
    /// The run, or its matrix by `fail-fast`, is cancelled.
    Cancelled,
    /// It is a background step and its job needs it no longer.
    Done,
    /// It is a background step and did not get ready, or its job failed.
    NotReady,
    /// A service of its job has ended.
    ServiceEnded,
}

/// A time that the run waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The wall time of a job's steps.
    Job {
        /// Which job.
        job: usize,
        /// Which try: a timer of an earlier one means nothing.
        attempt: u32,
    },
    /// The wall time of a step.
    Step {
        /// Which job.
        job: usize,
        /// Which try.
        attempt: u32,
        /// Which step.
        step: StepRef,
    },
    /// The wall time of a job's cleanup steps.
    Cleanup {
        /// Which job.
        job: usize,
        /// Which try.
        attempt: u32,
    },
    /// The wait before another try.
    Retry {
        /// Which job.
        job: usize,
        /// The try that has ended.
        attempt: u32,
    },
}

/// What is collected from a job that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collect {
    /// Files that come out.
    pub artifacts: Vec<CollectArtifacts>,
    /// Globs of JUnit files.
    pub junit: Vec<String>,
    /// Caches to save.
    pub caches: Vec<ResolvedCache>,
}

/// Files that come out of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectArtifacts {
    /// Globs relative to the working directory.
    pub paths: Vec<String>,
    /// Whether it is no fault that a glob matches nothing.
    pub optional: bool,
}
