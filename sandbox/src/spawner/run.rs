//! Runs a program of the host that works for containers, and that must not outlive the run.

use std::{
    ffi::{CString, OsStr},
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::Path,
};

use nix::{
    sys::signal::{SigHandler, Signal},
    unistd::Pid,
};

use crate::{
    error::{Doing as _, Error, Result},
    sys::process::{self, Cloned},
};

/// Starts it as a child of the spawner, with `output` as both of its outputs.
pub(super) fn run(
    program: &Path,
    arguments: &[String],
    output: Option<OwnedFd>,
) -> Result<(Pid, OwnedFd)> {
    let doing = || format!("run `{}`", program.display());
    let output = output.ok_or_else(|| Error::system(doing(), "a descriptor is missing"))?;
    let text = |text: &OsStr| CString::new(text.as_bytes());
    let path = text(program.as_os_str()).system(doing)?;
    let arguments: Vec<CString> = arguments
        .iter()
        .map(|argument| text(OsStr::new(argument)))
        .collect::<std::result::Result<_, _>>()
        .system(doing)?;
    match process::clone(0, None).system(doing)? {
        Cloned::Child => {
            let error = become_program(&path, &arguments, output);
            process::exit_now(error.raw_os_error().unwrap_or(1));
        }
        Cloned::Parent { pid, pidfd } => Ok((pid, pidfd)),
    }
}

/// Returns only on failure.
fn become_program(path: &CString, arguments: &[CString], output: OwnedFd) -> io::Error {
    let prepare = || -> io::Result<()> {
        process::die_with_parent()?;
        for signal in Signal::iterator() {
            if !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
                process::set_handler(signal, SigHandler::SigDfl)?;
            }
        }
        for number in 1..3 {
            process::duplicate_to(&output, number)?;
        }
        process::close_on_exec_from(3)
    };
    match prepare() {
        Ok(()) => process::execve(path, arguments, &[]),
        Err(error) => error,
    }
}
