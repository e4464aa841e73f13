//! Descriptors in tokio's event loop.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use tokio::io::{Interest, unix::AsyncFd};

/// Watches a descriptor that `object` owns for something to read.
///
/// # Panics
/// Outside of a tokio runtime.
pub(crate) fn watch<T: AsRawFd + Into<OwnedFd>>(object: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `object` owns its descriptor (it can be turned into an `OwnedFd`) and is moved into
    // the `AsyncFd`, so the number stays open, and the same, for as long as it is registered.
    unsafe { AsyncFd::register_with_interest(object, Interest::READABLE) }.map_err(io::Error::from)
}
