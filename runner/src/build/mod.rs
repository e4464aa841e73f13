//! Images from steps: each step runs in the same sandbox as a job's, and what it writes is a layer.
//!
//! A front end (the `images:` of a pipeline, a Dockerfile) says what is to be done as [`Step`]s, and
//! drives a [`Stage`] with them:
//!
//! 1. [`Engine::new`], once for all images;
//! 2. [`Engine::begin`] or [`Engine::begin_empty`] begins a stage on what it starts from;
//! 3. [`Stage::perform`], step by step. A step that was done before, by anyone, on the same files
//!    with the same instruction, is not done again: its layer is found under a key of both. Someone
//!    else who is just doing it is waited for;
//! 4. [`Stage::finish`] puts the image together; it is in the store like any other, and under the
//!    names that it is given.
//!
//! Between two steps [`Stage::configuration`] tells what the steps so far came to (environment,
//! working directory, shell), for front ends whose instructions depend on it. A further stage takes
//! files of an earlier one by [`Source::Image`] with what `finish` returned.
//!
//! **Invariant:** the same base, steps and files make the same image, to the digest: layers have no
//! file younger than the image they start from says that it is, and nothing of an image tells when
//! or where it was made.

mod cache;
mod configuration;
mod copy;
pub(crate) mod dockerfile;
mod engine;
mod forecast;
mod instruction;
pub(crate) mod kept;
mod key;
mod run;
mod stage;

pub(crate) use cache::{BuildCaches, CacheUse};
pub(crate) use configuration::{Change, Configuration};
pub(crate) use engine::Engine;
pub(crate) use forecast::{Forecast, Lookup};
pub(crate) use instruction::{Instruction, Put, Run, SecretUse, Selects, Source, Step};
pub(crate) use run::Ran;
pub(crate) use stage::{Io, Outcome, Stage};
