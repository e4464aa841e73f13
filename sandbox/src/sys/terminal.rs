//! Pseudo-terminals (`pty(7)`), as `ioctl_tty(2)` describes them.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
};

use super::{check, process::take_descriptor};

/// Unlocks the slave of `master` and opens it, without a path (`TIOCSPTLCK`, `TIOCGPTPEER`).
pub(crate) fn unlock_and_open_peer(master: impl AsFd) -> io::Result<OwnedFd> {
    let raw = master.as_fd().as_raw_fd();
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads an int through the pointer, which outlives the call.
    check(unsafe { libc::ioctl(raw, libc::TIOCSPTLCK, &raw const unlocked) }.into())?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags as a number.
    let peer = check(unsafe { libc::ioctl(raw, libc::TIOCGPTPEER, flags) }.into())?;
    i32::try_from(peer).map(take_descriptor).map_err(io::Error::other)
}

/// Makes `terminal` the controlling terminal of this process's new session (`TIOCSCTTY`).
pub(crate) fn make_controlling(terminal: impl AsFd) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes a number.
    let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) };
    check(result.into()).map(drop)
}

/// Sets the window size of a pseudo-terminal (`TIOCSWINSZ`).
pub(crate) fn set_window_size(terminal: impl AsFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let raw = terminal.as_fd().as_raw_fd();
    // SAFETY: TIOCSWINSZ reads a `winsize` through the pointer, which outlives the call.
    check(unsafe { libc::ioctl(raw, libc::TIOCSWINSZ, &raw const size) }.into()).map(drop)
}
