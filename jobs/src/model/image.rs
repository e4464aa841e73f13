//! Images that a pipeline makes.

use std::time::Duration;

use super::{AllowFailure, Command, Env, Job, Limits, Network, SecretUse, Step};
use crate::{
    expr::Template,
    source::{Span, Spanned},
};

/// An image made from another by steps, or from a Dockerfile.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageDefinition {
    /// What jobs call it.
    pub name: Spanned<String>,
    /// How it is made.
    pub from: Spanned<ImageSource>,
    /// What the steps may use.
    pub limits: Limits,
    /// What the steps can reach.
    pub network: Option<Network>,
    /// Wall time of all its steps.
    pub timeout: Option<Spanned<Duration>>,
    /// What is done to it.
    pub steps: Vec<Step>,
    /// What containers of it start with.
    pub config: ImageConfig,
}

impl ImageDefinition {
    /// Its making as a job, which is how it is run. The first step of one that is made from a
    /// Dockerfile stands for all of that.
    pub(crate) fn as_job(&self) -> Job {
        let first = match &self.from.value {
            ImageSource::Dockerfile(build) => Some(build.as_step(self.from.span)),
            ImageSource::Image(_) => None,
        };
        Job {
            id: Spanned::new(format!("image {}", self.name.value), self.name.span),
            name: None,
            image: None,
            pull: None,
            from: None,
            needs: Vec::new(),
            condition: None,
            matrix: None,
            parallel: None,
            max_parallel: None,
            fail_fast: None,
            env: Env::new(),
            secrets: Vec::new(),
            limits: self.limits.clone(),
            network: self.network.clone(),
            services: Vec::new(),
            workspace: None,
            user: None,
            workdir: None,
            shell: None,
            steps: first.into_iter().chain(self.steps.iter().cloned()).collect(),
            cleanup: Vec::new(),
            outputs: Env::new(),
            cache: Vec::new(),
            artifacts: Vec::new(),
            results: None,
            timeout: self.timeout.clone(),
            retry: None,
            allow_failure: AllowFailure::Never,
        }
    }
}

/// What an image is made from.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageSource {
    /// Another image.
    Image(Template),
    /// A Dockerfile.
    Dockerfile(DockerBuild),
}

/// A build from a Dockerfile.
#[derive(Clone, Debug, PartialEq)]
pub struct DockerBuild {
    /// The directory that `COPY` reads, relative to the project.
    pub context: String,
    /// The file, relative to the context.
    pub dockerfile: String,
    /// The stage to stop at.
    pub target: Option<String>,
    /// Values of `ARG`.
    pub args: Env,
    /// What `RUN --mount=type=secret` can ask for.
    pub secrets: Vec<SecretUse>,
}

impl DockerBuild {
    /// What is shown of it as a step: the command that would do the same.
    fn as_step(&self, span: Span) -> Step {
        let mut words = vec!["cofferdam", "image", "build", "--file", &self.dockerfile];
        if let Some(target) = &self.target {
            words.extend(["--target", target]);
        }
        words.push(&self.context);
        let literal = |word: &str| Template::literal(word, span);
        Step {
            id: None,
            name: Some(literal(&self.dockerfile)),
            command: Command::Exec(words.into_iter().map(literal).collect()),
            condition: None,
            env: Env::new(),
            secrets: Vec::new(),
            workdir: None,
            shell: None,
            user: None,
            timeout: None,
            image: None,
            limits: Limits::default(),
            network: None,
            background: None,
            ready: None,
            continue_on_error: None,
            span,
        }
    }
}

/// What containers of an image start with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageConfig {
    /// Environment.
    pub env: Env,
    /// What is said about it.
    pub labels: Env,
    /// Where steps start.
    pub workdir: Option<Template>,
    /// Who the processes are.
    pub user: Option<Template>,
    /// The program that is run.
    pub entrypoint: Vec<Template>,
    /// Its arguments.
    pub cmd: Vec<Template>,
}
