//! One throwaway container: from a description to its end.

mod exit;
mod memory;
mod mounts;
mod prepare;
mod process;
mod spec;
mod takedown;
mod warm;

pub use exit::{End, Exit};
pub(crate) use prepare::prepare;
pub use process::{Container, Process};
pub use spec::{ContainerSpec, Mount, Program, ProgramFile, Streams};
pub(crate) use takedown::Takedowns;
pub(crate) use warm::Pool;
