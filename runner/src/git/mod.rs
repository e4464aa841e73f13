//! What is checked out in a project, read from git's own files (gitrepository-layout(5)).
//!
//! No git runs for it: git obeys the configuration of the repository that it looks at, which may
//! name programs. A project's `.git` is hostile in other ways, too: its files may be links to what
//! the caller can read and others cannot, pipes that nobody writes to, or without an end. So only
//! regular files below the repository are read, never through a link and never more than a bound,
//! and only what is a commit, a branch or a tag by git's own rules is passed on.

mod checkout;
mod object;
mod order;
mod pack;
mod reference;
mod repository;

pub(crate) use checkout::{commit, context};
pub(crate) use repository::{Linked, linked};
