//! What will run: every job of every matrix, in order, with its defaults filled in.
//!
//! A plan depends on the pipeline and on what the caller chose, on nothing else: the same inputs
//! give the same plan. What only a run can know (`needs`, `steps`, secrets) stays in templates,
//! which [`crate::state`] renders when the time has come.

mod build;
mod expand;
mod feature;
mod hashes;
mod images;
mod inputs;
mod types;

pub use build::plan;
pub use feature::Feature;
pub use inputs::Inputs;
pub use types::{
    Group, GroupNeed, Plan, PlannedBuild, PlannedConfig, PlannedDockerfile, PlannedFrom,
    PlannedJob, PlannedService,
};

pub(crate) use build::{needs, needs_cycle};
pub(crate) use expand::expand;
pub(crate) use images::cycle as image_cycle;
