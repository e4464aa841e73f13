//! The init: process 1 of a container.
//!
//! It starts as a copy of the spawner in fresh namespaces, builds the root file system, enters
//! it, gives up what it may not keep, checks that all of this came true, and then starts and
//! reaps processes until its channel to the runner closes. It has one thread, holds no secret,
//! cannot be traced, and shares nothing with the runner but that channel.

pub(crate) mod message;

mod own_mounts;
mod privilege;
mod procfs;
mod program;
mod rootfs;
mod serve;
mod tree;
mod user;
mod verify;

pub(crate) use procfs::make_sys;
pub use rootfs::WORKSPACE;
pub(crate) use verify::NAMESPACES;

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use nix::sys::signal::{SigHandler, SigSet, Signal};

use crate::{
    channel::Channel,
    error::{Doing as _, Error, Fault, Result},
    sys::process,
};
use message::{Failure, Reply, Setup};

/// Runs the init in the process that was just cloned; ends with the process.
///
/// `sys` is its mount for `/sys`, where its network is not its own.
pub(crate) fn run(channel: Channel, sys: Option<OwnedFd>) -> ! {
    let status = match channel.isolate_with(sys) {
        Ok((channel, sys)) => match receive_and_build(&channel, sys) {
            Ok(highest_id) => match serve::serve(&channel, highest_id) {
                Ok(()) => 0,
                Err(_) => 1,
            },
            Err(error) => {
                // When the runner is gone, nobody is left to tell.
                drop(channel.send(&Reply::SetupFailed(Failure::from_error(&error)), &[]));
                1
            }
        },
        Err(_) => 1,
    };
    process::exit_now(status)
}

/// Returns the highest id that the container has.
fn receive_and_build(channel: &Channel, sys: Option<OwnedFd>) -> Result<u32> {
    reset_signals().system(|| "reset the init's signals")?;
    process::set_name(c"init")
        .and_then(|()| process::erase_start_strings(b"init"))
        .system(|| "hide the runner's command line")?;
    let (setup, descriptors) = channel
        .receive::<Setup>()
        .system(|| "receive the container's description")?
        .ok_or_else(|| Error::system("receive the container's description", "runner ended"))?;
    let built = rootfs::build(&setup, descriptors, sys)?;
    privilege::drop_all(&setup)?;
    verify::verify(&setup)?;
    let mut shown = vec![built.root.as_fd(), built.workspace.as_fd(), built.control.as_fd()];
    shown.extend(built.scratch.as_ref().map(OwnedFd::as_fd));
    channel.send(&Reply::Ready, &shown).system(|| "report that the container is ready")?;
    Ok(setup.ids.highest())
}

/// The spawner ignores signals that the programs in a container must not.
fn reset_signals() -> io::Result<()> {
    for signal in Signal::iterator() {
        if !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
            process::set_handler(signal, SigHandler::SigDfl)?;
        }
    }
    SigSet::empty().thread_set_mask()?;
    Ok(())
}

impl Failure {
    /// Flattens an error into what can be sent.
    pub(crate) fn from_error(error: &Error) -> Self {
        let mut cause = String::new();
        let mut errno = 0;
        let mut source = std::error::Error::source(error);
        while let Some(error) = source {
            if !cause.is_empty() {
                cause.push_str(": ");
            }
            cause.push_str(&error.to_string());
            if let Some(error) = error.downcast_ref::<io::Error>() {
                errno = error.raw_os_error().unwrap_or(0);
            }
            if let Some(error) = error.downcast_ref::<nix::errno::Errno>() {
                errno = *error as i32;
            }
            source = error.source();
        }
        Self {
            doing: error.doing().to_owned(),
            errno,
            cause,
            pipeline: error.fault() == Fault::Pipeline,
        }
    }

    /// The error again, on the runner's side.
    pub(crate) fn into_error(self) -> Error {
        let fault = if self.pipeline { Fault::Pipeline } else { Fault::System };
        let cause: Box<dyn std::error::Error + Send + Sync> = if self.errno == 0 {
            self.cause.into()
        } else {
            Box::new(io::Error::from_raw_os_error(self.errno))
        };
        Error::new(self.doing, fault, cause)
    }
}
