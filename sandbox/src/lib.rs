//! Throwaway containers: images, root file systems, limits and the kernel behind them.
//!
//! This crate knows images, containers and the kernel, and nothing of pipelines or terminals.
//! Whatever it is handed by an image, an archive or a job is hostile; whatever the operator says
//! is trusted.

mod ahead;
mod block_device;
pub mod cache;
pub mod cgroup;
mod channel;
mod container;
mod devices;
pub mod error;
pub mod export;
mod host_program;
pub mod host_report;
mod ids;
pub mod image;
mod in_use;
mod init;
mod journal;
mod kept_mounts;
mod kernel_file;
mod kernel_log;
pub mod limits;
mod lock_file;
mod lower;
mod mount_table;
pub mod network;
mod own_root;
mod removal;
pub mod residue;
mod sandbox;
mod scratch;
pub mod seccomp;
pub mod spawner;
mod supervisor;
mod sys;
#[cfg(test)]
mod tests;

pub use container::{
    Container, ContainerSpec, End, Exit, Layer, Mount, Process, Program, ProgramFile, State,
    Streams,
};
pub use error::{Error, Fault, Result, with_causes};
pub use ids::{as_caller, enter as enter_user_namespace, is_root};
pub use init::WORKSPACE;
pub use limits::{IoRates, Limits};
pub use network::{ContainerNetwork, Network, SharedNetwork};
pub use residue::Residue;
pub use sandbox::{Policy, Sandbox};
pub use scratch::ScratchKind;
