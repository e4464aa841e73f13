//! Images that a pipeline makes.

use super::{Env, Limits, Network, Step};
use crate::{expr::Template, source::Spanned};

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
    /// What is done to it.
    pub steps: Vec<Step>,
    /// What containers of it start with.
    pub config: ImageConfig,
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
}

/// What containers of an image start with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageConfig {
    /// Environment.
    pub env: Env,
    /// Where steps start.
    pub workdir: Option<Template>,
    /// Who the processes are.
    pub user: Option<Template>,
    /// The program that is run.
    pub entrypoint: Vec<Template>,
    /// Its arguments.
    pub cmd: Vec<Template>,
}
