//! The whole file.

use std::time::Duration;

use super::{Env, ImageDefinition, Job, Limits, Network, PullPolicy, Workspace};
use crate::{
    expr::{Template, Value},
    source::Spanned,
};

/// A pipeline file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pipeline {
    /// What the run is called.
    pub name: Option<Spanned<String>>,
    /// Environment of all jobs.
    pub env: Env,
    /// Names of the secrets that the caller may give.
    pub secrets: Vec<Spanned<String>>,
    /// What the caller may choose.
    pub params: Vec<Param>,
    /// What jobs have that do not say otherwise.
    pub defaults: Defaults,
    /// Images that the pipeline makes.
    pub images: Vec<ImageDefinition>,
    /// Further files, relative to this one.
    pub include: Vec<Spanned<String>>,
    /// The jobs, in the order of the file.
    pub jobs: Vec<Job>,
}

impl Pipeline {
    /// The job of this id.
    pub fn job(&self, id: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id.value == id)
    }
}

/// A choice that the caller makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// What `params.NAME` and `--param NAME=…` call it.
    pub name: Spanned<String>,
    /// Taken when the caller does not choose; without it the caller must.
    pub default: Option<Spanned<Value>>,
    /// The only values allowed; empty allows all.
    pub options: Vec<Spanned<Value>>,
    /// For people.
    pub description: Option<Spanned<String>>,
}

/// What every job has that does not say otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Defaults {
    /// The image.
    pub image: Option<Template>,
    /// When that is fetched.
    pub pull: Option<Spanned<PullPolicy>>,
    /// Limits that a job does not set.
    pub limits: Limits,
    /// Wall time of a job.
    pub timeout: Option<Spanned<Duration>>,
    /// What a job can reach.
    pub network: Option<Network>,
    /// How a job sees the project.
    pub workspace: Option<Spanned<Workspace>>,
    /// Who a job's processes are.
    pub user: Option<Template>,
    /// Where steps start.
    pub workdir: Option<Template>,
    /// What runs `run`.
    pub shell: Option<Spanned<String>>,
}

/// A declared secret that a job or step sees.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretUse {
    /// Which.
    pub name: Spanned<String>,
    /// How.
    pub form: SecretForm,
}

/// How a secret reaches a step. Never in its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretForm {
    /// As the variable of its name.
    Env,
    /// As `/run/secrets/NAME`.
    File,
}
