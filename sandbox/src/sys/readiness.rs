//! Descriptors that become readable: in tokio's event loop, or waited for.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Instant,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::{Interest, unix::AsyncFd};

/// Watches a descriptor that `object` owns for something to read.
///
/// # Panics
/// Outside of a tokio runtime.
pub(crate) fn watch<T: AsRawFd + Into<OwnedFd>>(object: T) -> io::Result<AsyncFd<T>> {
    watch_for(object, Interest::READABLE)
}

/// Watches a descriptor that `object` owns.
///
/// # Panics
/// Outside of a tokio runtime.
pub(crate) fn watch_for<T: AsRawFd + Into<OwnedFd>>(
    object: T,
    interest: Interest,
) -> io::Result<AsyncFd<T>> {
    // SAFETY: `object` owns its descriptor (it can be turned into an `OwnedFd`) and is moved into
    // the `AsyncFd`, so the number stays open, and the same, for as long as it is registered.
    unsafe { AsyncFd::register_with_interest(object, interest) }.map_err(io::Error::from)
}

/// Waits until there is something to read from a descriptor, or its other end is closed; `false` when
/// that has not come about by then.
pub(crate) fn wait(descriptor: impl AsFd, until: Instant) -> io::Result<bool> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(nix::errno::Errno::EINTR) => {}
            other => return Ok(other? > 0),
        }
    }
}
