//! How steps, jobs and runs end, and why.

use std::{fmt, time::Duration};

use super::{Limit, StopReason};
use crate::{
    diagnostic::quoted,
    expr::Judged,
    model::{RetryCause, quantity::written_duration},
};

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Conclusion {
    /// All went well.
    Passed,
    /// It failed by its own doing.
    Failed,
    /// A time was up.
    TimedOut,
    /// It was stopped, or not started, because of a cancel.
    Cancelled,
    /// Its condition did not hold.
    Skipped,
    /// It failed through a fault of the system.
    System,
}

impl Conclusion {
    /// As expressions, reports and people see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
            Self::System => "system-fault",
        }
    }

    /// What something did that ended so, as in "the job … failed".
    fn in_past(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
            Self::Cancelled => "was cancelled",
            Self::Skipped => "was skipped",
            Self::System => "failed through a fault of the system",
        }
    }
}

impl fmt::Display for Conclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What made a step or a job end badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// An exit code.
    Exit(i32),
    /// A signal.
    Signal(i32),
    /// A limit.
    Limit(Limit),
    /// A time was up.
    Timeout,
    /// It could not be started, by the pipeline's doing.
    NotStarted,
    /// An expression had no value.
    Expression,
    /// Files that should come out are missing.
    Files,
    /// A background step did not get ready.
    NotReady,
    /// A service ended, or did not get ready.
    Service,
    /// What is kept of other jobs leaves no room.
    NoRoom,
    /// The system.
    System,
    /// A cancel.
    Cancel,
}

/// Why a step or a job ended as it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It ran, and all went well.
    Done,
    /// Its `if` does not hold.
    Condition(Judged),
    /// A job that it needs did not pass.
    Need {
        /// Its name.
        name: String,
        /// How that ended.
        conclusion: Conclusion,
    },
    /// An image that it uses could not be made.
    Image {
        /// What makes it.
        name: String,
        /// What made that end badly.
        cause: Option<Cause>,
        /// The reason in words.
        why: String,
    },
    /// An earlier step did not pass.
    Before {
        /// Its name.
        name: String,
        /// How that ended.
        conclusion: Conclusion,
    },
    /// The step of this name ended badly.
    Step {
        /// Its name.
        name: String,
        /// What made it.
        cause: Cause,
        /// The runner's sentence, where it has one.
        message: Option<String>,
    },
    /// Something beside the steps went wrong.
    Fault {
        /// What.
        cause: Cause,
        /// One sentence.
        message: String,
    },
    /// A time was up.
    Timeout {
        /// Whose time.
        of: StopReason,
        /// How long it was.
        limit: Duration,
        /// The step that was running.
        name: String,
    },
    /// The run is cancelled.
    RunCancelled,
    /// Another job of its matrix failed.
    FailFast {
        /// The other's name.
        name: String,
    },
    /// Its job ended before its turn.
    JobEnded,
    /// It makes an image, and no job that uses that runs.
    Unused,
}

impl Reason {
    /// What made it, where it ended badly.
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::Done
            | Self::Condition(_)
            | Self::Need { .. }
            | Self::Before { .. }
            | Self::JobEnded
            | Self::Unused => None,
            Self::Step { cause, .. } | Self::Fault { cause, .. } => Some(*cause),
            Self::Image { cause, .. } => *cause,
            Self::Timeout { .. } => Some(Cause::Timeout),
            Self::RunCancelled | Self::FailFast { .. } => Some(Cause::Cancel),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("all steps passed"),
            Self::Condition(judged) => write!(f, "its `if` does not hold: {judged}"),
            Self::Before { name, conclusion } => {
                write!(f, "{} {}", quoted(name), conclusion.in_past())
            }
            Self::Need { name, conclusion } => {
                write!(f, "needs {}, which {}", quoted(name), conclusion.in_past())
            }
            Self::Image { name, why, .. } => write!(f, "the {name} was not made: {why}"),
            Self::Step { name, message: Some(message), .. } => {
                write!(f, "step {}: {message}", quoted(name))
            }
            Self::Step { name, cause, message: None } => {
                write!(f, "step {}: {cause}", quoted(name))
            }
            Self::Fault { message, .. } => f.write_str(message),
            Self::Timeout { of, limit, name } => {
                let whose = match of {
                    StopReason::StepTimeout => "its",
                    StopReason::CleanupTimeout => "the cleanup's",
                    _ => "the job's",
                };
                let limit = written_duration(*limit);
                write!(f, "step {}: timed out, {whose} limit is {limit}", quoted(name))
            }
            Self::RunCancelled => f.write_str("the run was cancelled"),
            Self::FailFast { name } => {
                write!(f, "{} failed, and `fail-fast` cancels the others", quoted(name))
            }
            Self::JobEnded => f.write_str("the job ended before"),
            Self::Unused => f.write_str("no job that uses it runs"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::Limit(Limit::Memory) => f.write_str("killed for memory"),
            Self::Limit(Limit::Pids) => f.write_str("too many processes"),
            Self::Limit(Limit::Disk) => f.write_str("no space left on its disk"),
            Self::Limit(Limit::Policy) => f.write_str("blocked system call"),
            Self::Timeout => f.write_str("timed out"),
            Self::NotStarted => f.write_str("could not be started"),
            Self::Expression => f.write_str("an expression has no value"),
            Self::Files => f.write_str("files are missing"),
            Self::NotReady => f.write_str("did not get ready"),
            Self::Service => f.write_str("a service ended"),
            Self::NoRoom => f.write_str("no room is left"),
            Self::System => f.write_str("a fault of the system"),
            Self::Cancel => f.write_str("cancelled"),
        }
    }
}

/// One try of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which, from 1.
    pub number: u32,
    /// How it ended.
    pub conclusion: Conclusion,
    /// Why.
    pub reason: Reason,
    /// What `retry` made of that, where the job has one and the try did not pass.
    pub retry: Option<Retry>,
}

/// What `retry` makes of a try that did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// There is another one, for this cause.
    Again(RetryCause),
    /// There were as many tries as it allows.
    UsedUp(u32),
    /// It names no cause that this ended for.
    OtherCause,
    /// The run, or the job, was cancelled.
    Cancelled,
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Again(cause) => write!(f, "tried again, as `retry` names `{cause}`"),
            Self::UsedUp(max) => write!(f, "not tried again: `retry` has `max: {max}`"),
            Self::OtherCause => f.write_str("not tried again: `retry` names no such cause"),
            Self::Cancelled => f.write_str("not tried again: it was cancelled"),
        }
    }
}
