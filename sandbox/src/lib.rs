//! Throwaway containers: images, root file systems, limits and the kernel behind them.
//!
//! This crate knows images, containers and the kernel, and nothing of pipelines or terminals.
//! Whatever it is handed by an image, an archive or a job is hostile; whatever the operator says
//! is trusted.

pub mod cgroup;
pub mod error;
pub mod image;
pub mod limits;
mod removal;
pub mod seccomp;
mod sys;

pub use error::{Error, Fault, Result};
pub use limits::Limits;
