//! The pipeline as its author wrote it: typed, with places, nothing expanded yet.
//!
//! Every key of the language has its field here. What is left out in the file is [`None`] or
//! empty: defaults are applied by the plan, so that the model always says what was written.

mod files;
mod image;
mod job;
mod limits;
mod matrix;
mod network;
mod pipeline;
pub mod quantity;
mod registries;
mod service;
mod step;
pub(crate) mod visit;

pub use files::{Artifacts, Cache, Results, When};
pub use image::{DockerBuild, ImageConfig, ImageDefinition, ImageSource};
pub use job::{AllowFailure, FromJob, Job, Need, PullPolicy, Retry, RetryCause, Workspace};
pub use limits::{IoLimits, Limits};
pub use matrix::Matrix;
pub use network::{AllowRule, Destination, Network};
pub use pipeline::{Defaults, Param, Pipeline, SecretForm, SecretUse};
pub use registries::{Registries, Registry};
pub use service::{Ready, Service};
pub(crate) use step::first_line;
pub use step::{Command, Step};

use crate::{expr::Template, source::Spanned};

/// Names and values of an environment, in the order of the file.
pub type Env = Vec<(Spanned<String>, Template)>;
