//! Images end to end: made here, imported, and looked at in the store.

mod fixture;
mod formats;
