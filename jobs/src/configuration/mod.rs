//! What the operator of a machine decides for all runs: the configuration file.
//!
//! It is trusted where pipelines are not: it alone, and the command line, can widen what a job may
//! do. It is read as strictly as a pipeline, with the same words for the same things, because a
//! misspelt ceiling that is passed over would be no ceiling.

mod allowance;
mod model;

pub use allowance::{Allowance, Excess};
pub use model::{Configuration, Downgrade, Scratch, parse};
