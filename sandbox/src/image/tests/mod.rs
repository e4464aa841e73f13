//! Images end to end: made here, imported, and looked at in the store.

mod archives;
mod collect;
mod documents;
mod fixture;
mod formats;
mod hostile;
mod merged;
mod seal;
mod sources;
mod store;
mod tools;
