//! Writing to standard output and standard error where that may fail: a panic helps nobody.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use crate::{exit::Exit, problem::Problem};

/// Prints a line to standard output, in colours on a terminal. That nobody reads it any more is no failure: a pipe whose
/// reader has seen enough (`EPIPE`), a terminal that was closed (`EIO`).
pub(crate) fn standard_output(line: impl Display) -> Result<(), Problem> {
    let mut stdout = anstream::stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Err(error) if !is_unread(&error) => {
            Err(Problem::new(Exit::System, "failed to write to standard output").because(error))
        }
        _ => Ok(()),
    }
}

/// Prints a line to standard error, in colours on a terminal. When that fails, there is nowhere
/// left to say so.
pub(crate) fn standard_error(line: impl Display) {
    writeln!(anstream::stderr(), "{line}").ok();
}

fn is_unread(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::EPIPE | nix::libc::EIO))
}
