//! Layers that are made here: of what a container has written, and of files that are copied in.
//!
//! Each is written as an archive, in one order and with clamped times, and that archive is taken
//! into the store by the very code that takes in layers of strangers: so nothing is in a layer that
//! could not have been pulled, its archive can be made again for others, and the same files come
//! to the same diff id. What is sealed is as hostile as any image: a build step is code of
//! strangers.

mod attributes;
mod copy;
mod links;
mod look;
mod place;
mod publish;
mod source;
mod state;
mod unpacked;
mod upper;

pub use copy::{CopyFrom, Copying, SeenCopy};
pub use look::Seen;
pub use publish::{Aside, Sealing};
pub use state::WrittenLayer;
