//! The parts of a plan.

use std::{sync::Arc, time::Duration};

use crate::{
    expr::Value,
    model::{Env, ImageDefinition, Job, Limits, Network, PullPolicy, Workspace},
};

/// Everything that will run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The name of the pipeline.
    pub name: Option<String>,
    /// The environment of all jobs.
    pub env: Env,
    /// The secrets that the pipeline declares.
    pub secrets: Vec<String>,
    /// The contexts `params`, `run` and `git`.
    pub params: Value,
    /// See `params`.
    pub run: Value,
    /// See `params`.
    pub git: Value,
    /// The images that the pipeline makes.
    pub images: Vec<ImageDefinition>,
    /// The jobs of the file, each after those it needs.
    pub groups: Vec<Group>,
    /// What these expand to, in the order of the groups.
    pub jobs: Vec<PlannedJob>,
}

impl Plan {
    /// The group of an index of this plan.
    pub fn group(&self, index: usize) -> Option<&Group> {
        self.groups.get(index)
    }
}

/// A job of the file with all that it expands to.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its id in the file.
    pub id: String,
    /// As the file says it.
    pub source: Arc<Job>,
    /// What must have ended first, `from` included.
    pub needs: Vec<GroupNeed>,
    /// Its jobs: indexes into [`Plan::jobs`].
    pub jobs: std::ops::Range<usize>,
    /// How long it is from its start to the end of the last group that waits for it: what has
    /// most before it starts first.
    pub weight: Duration,
}

/// A group that must have ended first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupNeed {
    /// Index into [`Plan::groups`]; always smaller than that of the group that needs it.
    pub group: usize,
    /// Whether its artifacts are brought in.
    pub artifacts: bool,
    /// Whether it makes an image that the one that needs it uses. A job whose image cannot be made
    /// fails; its `if` and its expressions know nothing of it.
    pub image: bool,
}

/// One job to run.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedJob {
    /// Unique in the plan and fit for a file name: `build`, or `test~2` for the second of a matrix
    /// (`~` cannot be part of a name in the file).
    pub id: String,
    /// For people: `test (2, slow)`.
    pub name: String,
    /// Index into [`Plan::groups`].
    pub group: usize,
    /// As the file says it.
    pub source: Arc<Job>,
    /// This combination; an empty map without a matrix.
    pub matrix: Value,
    /// Which of its group it is, from 1.
    pub index: u32,
    /// How many there are in its group.
    pub total: u32,
    /// What it starts from; [`None`] for the built-in image, and with `from`.
    pub image: Option<String>,
    /// When that is fetched.
    pub pull: PullPolicy,
    /// The job whose file system it starts from.
    pub from: Option<PlannedFrom>,
    /// What it may use; what is [`None`] is for the runner's own defaults.
    pub limits: Limits,
    /// What it can reach.
    pub network: Network,
    /// How it sees the project.
    pub workspace: Workspace,
    /// Who its processes are: `USER[:GROUP]`, names or numbers.
    pub user: Option<String>,
    /// Where its steps start.
    pub workdir: Option<String>,
    /// What runs `run` where a step does not say.
    pub shell: Option<String>,
    /// Wall time of all its steps.
    pub timeout: Duration,
    /// The containers beside it.
    pub services: Vec<PlannedService>,
    /// The image of each of its steps that has one of its own; cleanup steps come after the others.
    pub step_images: Vec<Option<String>>,
    /// The image that it makes, where it is no job of the file but one of `images`: its steps run
    /// each in a container of its own, over what those before have written.
    pub build: Option<PlannedBuild>,
}

/// The making of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedBuild {
    /// Index into [`Plan::images`].
    pub image: usize,
    /// What containers of it start with.
    pub config: PlannedConfig,
    /// What it is made from, where that is a Dockerfile; the first step of the job stands for it.
    pub dockerfile: Option<PlannedDockerfile>,
}

/// A build from a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedDockerfile {
    /// The directory that `COPY` reads, relative to the project.
    pub context: String,
    /// The file, relative to the context.
    pub dockerfile: String,
    /// The stage to stop at.
    pub target: Option<String>,
    /// Values of `ARG`, with expressions replaced.
    pub args: Vec<(String, String)>,
    /// The secrets that its instructions can ask for.
    pub secrets: Vec<String>,
}

impl PlannedDockerfile {
    /// The file, relative to the project.
    pub fn path(&self) -> String {
        match self.context.trim_end_matches('/') {
            "." => self.dockerfile.clone(),
            context => format!("{context}/{}", self.dockerfile),
        }
    }
}

/// What containers of an image start with, with expressions replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlannedConfig {
    /// Environment, over that of the image that it starts from.
    pub env: Vec<(String, String)>,
    /// What is said about it.
    pub labels: Vec<(String, String)>,
    /// Where programs start.
    pub workdir: Option<String>,
    /// Who programs are.
    pub user: Option<String>,
    /// What a command is passed to.
    pub entrypoint: Vec<String>,
    /// The command.
    pub cmd: Vec<String>,
}

impl PlannedJob {
    /// The Dockerfile that it builds, where it does that.
    pub fn dockerfile(&self) -> Option<&PlannedDockerfile> {
        self.build.as_ref()?.dockerfile.as_ref()
    }

    /// The image of a step that has one of its own.
    pub fn step_image(&self, cleanup: bool, index: usize) -> Option<&str> {
        let before = if cleanup { self.source.steps.len() } else { 0 };
        self.step_images.get(before + index)?.as_deref()
    }
}

/// A container beside a job.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedService {
    /// Its name, also as a host.
    pub name: String,
    /// What it starts from.
    pub image: String,
    /// What it may use; where it does not say, as much as its job.
    pub limits: Limits,
}

/// Where a job with `from` starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedFrom {
    /// Index into [`Plan::jobs`].
    pub job: usize,
    /// After which step; its end if not said.
    pub step: Option<String>,
}
