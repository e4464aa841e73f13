//! A job.

use std::{fmt, time::Duration};

use super::{Artifacts, Cache, Env, Limits, Matrix, Network, Results, SecretUse, Service, Step};
use crate::{
    expr::{Condition, Template},
    source::{Span, Spanned},
};

/// A job, before its matrix is expanded.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its key under `jobs`.
    pub id: Spanned<String>,
    /// What people call it.
    pub name: Option<Template>,
    /// What it starts from.
    pub image: Option<Template>,
    /// When that is fetched.
    pub pull: Option<Spanned<PullPolicy>>,
    /// The job whose file system it starts from.
    pub from: Option<FromJob>,
    /// The jobs that must have ended first, `from` not included.
    pub needs: Vec<Need>,
    /// Whether it runs.
    pub condition: Option<Condition>,
    /// The combinations it runs for.
    pub matrix: Option<Matrix>,
    /// How many copies of it run.
    pub parallel: Option<Spanned<u32>>,
    /// How many of its combinations or copies run at the same time.
    pub max_parallel: Option<Spanned<u32>>,
    /// Whether one failed combination cancels the others; false unless said.
    pub fail_fast: Option<Spanned<bool>>,
    /// Environment of all its steps.
    pub env: Env,
    /// The secrets that it sees.
    pub secrets: Vec<SecretUse>,
    /// What it may use.
    pub limits: Limits,
    /// What it can reach.
    pub network: Option<Network>,
    /// Containers beside it.
    pub services: Vec<Service>,
    /// How it sees the project.
    pub workspace: Option<Spanned<Workspace>>,
    /// Who its processes are.
    pub user: Option<Template>,
    /// Where its steps start.
    pub workdir: Option<Template>,
    /// What runs `run`.
    pub shell: Option<Spanned<String>>,
    /// What it does, in order.
    pub steps: Vec<Step>,
    /// What it does afterwards, however it ended.
    pub cleanup: Vec<Step>,
    /// What later jobs can read.
    pub outputs: Env,
    /// Directories kept between runs.
    pub cache: Vec<Cache>,
    /// Files that come out.
    pub artifacts: Vec<Artifacts>,
    /// Test results that are read.
    pub results: Option<Results>,
    /// Wall time of all its steps.
    pub timeout: Option<Spanned<Duration>>,
    /// When to try again.
    pub retry: Option<Retry>,
    /// Whether its failure fails the run.
    pub allow_failure: AllowFailure,
}

/// A job that starts in another's file system.
#[derive(Clone, Debug, PartialEq)]
pub struct FromJob {
    /// Whose.
    pub job: Spanned<String>,
    /// After which step; its end if not said.
    pub step: Option<Spanned<String>>,
}

/// A job that must have ended first.
#[derive(Clone, Debug, PartialEq)]
pub struct Need {
    /// Which.
    pub job: Spanned<String>,
    /// Whether its artifacts are brought in.
    pub artifacts: bool,
}

/// When an image is fetched from its registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// When it is not here.
    #[default]
    Missing,
    /// Before every run.
    Always,
    /// Never: it has to be here.
    Never,
}

impl PullPolicy {
    /// The words for it.
    pub const WORDS: &[(&str, Self)] =
        &[("missing", Self::Missing), ("always", Self::Always), ("never", Self::Never)];
}

/// How a job sees the project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workspace {
    /// A throwaway copy of what is on disk.
    #[default]
    Cow,
    /// Not at all.
    None,
    /// A clean export of what is committed.
    Git,
}

/// When a job is tried again.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// How many times after the first.
    pub max: u32,
    /// For which causes.
    pub on: Vec<RetryCause>,
    /// How long to wait before the second try; twice as long before each further one.
    pub backoff: Duration,
    /// Where it is written.
    pub span: Span,
}

/// A cause that a job can be tried again for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryCause {
    /// The host failed.
    System,
    /// A time ran out.
    Timeout,
    /// Killed for memory.
    Memory,
    /// Any failure of a step.
    Failure,
    /// A step ended with this exit code.
    Exit(i32),
}

impl fmt::Display for RetryCause {
    /// As it is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Timeout => f.write_str("timeout"),
            Self::Memory => f.write_str("memory"),
            Self::Failure => f.write_str("failure"),
            Self::Exit(code) => write!(f, "exit:{code}"),
        }
    }
}

/// Which failures of a job do not fail the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllowFailure {
    /// None.
    #[default]
    Never,
    /// All that are the job's own.
    Always,
    /// A step that ended with one of these exit codes.
    Codes(Vec<i32>),
}
