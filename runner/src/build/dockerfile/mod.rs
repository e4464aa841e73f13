//! Dockerfiles as a front end of the build engine: instructions become steps, stages are built side
//! by side, and only those that the target needs.
//!
//! `cofferdam_jobs::dockerfile` has read and checked the text; [`Project`] is that with the files
//! around it. Variables are put in when their stage gets there, because an image's own variables
//! are among them.

mod drive;
mod files;
mod forecast;
mod lower;
mod metadata;
mod mounts;
mod progress;
mod sources;
mod stage;
mod variables;

pub(crate) use drive::{Built, Failure, build, wanted};
pub(crate) use files::Project;
pub(crate) use forecast::{Foreseen, forecast};
pub(crate) use progress::Progress;

use std::collections::BTreeMap;

use cofferdam_jobs::dockerfile;
use cofferdam_sandbox::{Limits, image::Reference, network::Network};

use crate::log::secret::Secret;

/// What the caller wants of a Dockerfile.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The stage, and the values of `ARG`.
    pub(crate) selection: dockerfile::Request,
    /// What `RUN` can reach.
    pub(crate) network: Network,
    /// What each `RUN` may use.
    pub(crate) limits: Limits,
    /// How many stages are built at the same time; the programs of each have these limits.
    pub(crate) side_by_side: usize,
    /// What the image is called.
    pub(crate) names: Vec<Reference>,
    /// The secrets that `RUN` can ask for, by what the Dockerfile calls them.
    pub(crate) secrets: BTreeMap<String, Secret>,
}
