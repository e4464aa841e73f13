//! The files of an image as a container sees them: all of its layers as one tree.
//!
//! The tree is walked, never built: what is kept in memory is the names of the directories on the
//! way to where the walk is, so an image of any size can be compared or copied.

mod compare;
mod entry;
mod walk;
mod write_out;

pub use compare::{Difference, Kind};
use entry::Entry;
pub(crate) use walk::Walk;
pub use write_out::Written;
