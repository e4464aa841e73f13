//! The writable part of a container: upper and work directories within a hard bound.
//!
//! Root makes the file system outside of the container and id-maps it, so its files have natural
//! ids and an upper directory can serve as a lower layer later. Which kind of file system it is, is
//! decided in [`choice`]; `docs/decisions/scratch.md` has the measurements behind that.

mod choice;
mod disk;
mod geometry;
mod largest;
mod making;
mod memory;
mod project;
mod room;
mod rooms;
mod template;

pub use choice::ScratchKind;
pub(crate) use choice::{Availability, is_at_least};
pub(crate) use disk::{detach as detach_loop_device, loop_devices};
pub(crate) use making::Making;
pub(crate) use memory::in_memory;
pub(crate) use project::remove_all as remove_projects;
pub(crate) use room::Room;
pub(crate) use rooms::{Rooms, Site};
