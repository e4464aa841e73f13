//! Keeps `^C` out of the lines of progress.
//!
//! A terminal shows the keys of control characters where the cursor is: at the end of the last line
//! of progress. The line wraps, the next drawing begins a row too low, and an outdated line stays on
//! the screen. Only that echo is turned off and not all of it, so that a terminal which is never set
//! back, because this process was killed, still shows what is typed.

use std::os::fd::{AsFd as _, OwnedFd};

use nix::{
    sys::termios::{self, LocalFlags, SetArg},
    unistd,
};

/// The echo of control characters is off until this is dropped; see termios(3), `ECHOCTL`.
#[derive(Debug)]
pub(crate) struct ControlEchoOff(OwnedFd);

impl ControlEchoOff {
    /// Turns it off on `terminal`; `None` where it is off, or where the terminal is another's.
    pub(crate) fn on(terminal: &std::io::Stderr) -> Option<Self> {
        let terminal = terminal.as_fd().try_clone_to_owned().ok()?;
        set(&terminal, false).then(|| Self(terminal))
    }
}

impl Drop for ControlEchoOff {
    fn drop(&mut self) {
        set(&self.0, true);
    }
}

/// Sets the flag; says whether that was a change.
fn set(terminal: &OwnedFd, on: bool) -> bool {
    // A process in the background would be stopped for the attempt; the shell has the say there.
    if unistd::tcgetpgrp(terminal) != Ok(unistd::getpgrp()) {
        return false;
    }
    let Ok(mut settings) = termios::tcgetattr(terminal) else { return false };
    if settings.local_flags.contains(LocalFlags::ECHOCTL) == on {
        return false;
    }
    settings.local_flags.set(LocalFlags::ECHOCTL, on);
    termios::tcsetattr(terminal, SetArg::TCSANOW, &settings).is_ok()
}
