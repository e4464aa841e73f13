//! What the runner tells the run.

use super::{Demand, Timer};

/// Something that happened. `job` is an index into [`crate::plan::Plan::jobs`].
///
/// An event that does not fit the state of its job, such as a timer that fired while it was being
/// disarmed, changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The container is up.
    JobStarted {
        /// Which job.
        job: usize,
    },
    /// The container could not be put up, and nothing is left of it.
    JobStartFailed {
        /// Which job.
        job: usize,
        /// Whose doing it is.
        fault: Fault,
        /// One sentence for the user.
        message: String,
    },
    /// A service has ended, and its job is not at its end.
    ServiceEnded {
        /// Which job.
        job: usize,
        /// One sentence for the user, with its name.
        message: String,
    },
    /// The file system of a job is kept as it was after a step, and a container stands that starts
    /// in it; or not (`Err`), and there is no container any more.
    JobSealed {
        /// Which job.
        job: usize,
        /// What is kept takes so much.
        sealed: Result<Kept, (Fault, String)>,
    },
    /// A background step is up, or will not be (`Err`, one sentence); it still runs.
    StepReady {
        /// Which job.
        job: usize,
        /// Which step.
        step: StepRef,
        /// Whether it is up.
        ready: Result<(), String>,
    },
    /// A step's processes are gone.
    StepEnded {
        /// Which job.
        job: usize,
        /// Which step.
        step: StepRef,
        /// How.
        end: StepEnd,
    },
    /// The time of a timer is over.
    TimerFired(Timer),
    /// Files are collected and the container is gone.
    JobFinished {
        /// Which job.
        job: usize,
        /// What went wrong on the way, such as an artifact that is missing.
        fault: Option<(Fault, String)>,
        /// What is kept for others to start from takes so much.
        kept: Kept,
    },
    /// What other runs of the machine hold just now. Jobs start in answer to this where
    /// [`Settings::machine`](super::Settings::machine) bounds anything; nobody else may decide in
    /// between.
    Room(Elsewhere),
    /// The user wants the run to end in order: steps are stopped, cleanup steps run.
    CancelRequested,
    /// The user wants the run to end now: steps are killed, nothing starts any more.
    KillRequested,
}

/// What other runs of the machine hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// All of them together.
    pub used: Demand,
    /// Those that hold anything, by id.
    pub runs: Vec<String>,
    /// The run that waits as well and goes first.
    pub first: Option<String>,
    /// All of them wait for what others keep, nobody runs anything, and of those who wait this run
    /// is to give way.
    pub stuck: bool,
}

/// What a file system takes that is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of disk.
    pub disk: u64,
}

/// Whose doing a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The pipeline's: it fails everywhere.
    Pipeline,
    /// The system's: it may work elsewhere or later.
    System,
}

/// A step of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepRef {
    /// In which list.
    pub part: Part,
    /// Index into that list.
    pub index: usize,
}

/// The lists of steps that a job has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// `steps`
    Steps,
    /// `cleanup`
    Cleanup,
}

/// How a step ended, and what it said through its files.
#[derive(Clone, Debug, PartialEq)]
pub struct StepEnd {
    /// How.
    pub end: End,
    /// One sentence with numbers that says why, where there is more to say than `end` does.
    pub message: Option<String>,
    /// Names and values from `COFFERDAM_OUTPUT`.
    pub outputs: Vec<(String, String)>,
    /// Names and values from `COFFERDAM_ENV`.
    pub env: Vec<(String, String)>,
}

impl StepEnd {
    /// An end without outputs.
    pub fn new(end: End) -> Self {
        Self { end, message: None, outputs: Vec::new(), env: Vec::new() }
    }
}

/// How the processes of a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// With an exit code.
    Exit(i32),
    /// By a signal that no limit explains.
    Signal(i32),
    /// By a limit.
    Limit(Limit),
    /// They could not be started for a reason that is the pipeline's: no such program.
    NotStarted,
    /// By a fault of the system.
    System,
}

/// The limits that end a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Bytes of memory.
    Memory,
    /// Processes.
    Pids,
    /// Bytes or files on disk.
    Disk,
    /// A denied system call or capability.
    Policy,
}
