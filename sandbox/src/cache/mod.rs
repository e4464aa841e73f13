//! Directories that are kept between runs.
//!
//! What is kept is a tree that stands for a container's `/`, so that it can be shown as a layer
//! ([`crate::Layer::Tree`]) as it stands: restoring costs a mount. It is written beside its place
//! and moved there whole, so whoever looks finds all of it or nothing; under its key it is never
//! changed. What comes from a job stays the job's: no set-user-id bit, no device, no extended
//! attribute is kept, and nothing of it is ever followed or run by the host.

mod copy;
mod list;
mod store;

pub use list::Listed;
pub use store::{Caches, Entry, Found, Saved};
