//! One throwaway container: from a description to its end.

mod ahead;
mod exit;
mod host_mounts;
mod memory;
mod mounts;
mod prepare;
mod process;
mod replies;
mod spec;
pub(crate) mod state;
mod takedown;
mod warm;

pub(crate) use ahead::Standing;
pub use exit::{End, Exit};
pub(crate) use prepare::prepare;
pub use process::{Container, Process};
pub use spec::{ContainerSpec, Layer, Mount, Program, ProgramFile, Streams};
pub use state::State;
pub(crate) use takedown::Takedowns;
pub(crate) use warm::Pool;
