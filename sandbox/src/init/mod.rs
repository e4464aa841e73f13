//! The init: process 1 of a container.
//!
//! It starts as a copy of the spawner in fresh namespaces, builds the root file system, enters
//! it, gives up what it may not keep, checks that all of this came true, and then starts and
//! reaps processes until its channel to the runner closes. It has one thread, holds no secret,
//! cannot be traced, and shares nothing with the runner but that channel.

pub(crate) mod message;

mod child;
mod ground;
mod own_mounts;
mod privilege;
mod procfs;
mod program;
mod rootfs;
mod serve;
mod tree;
mod user;
mod verify;

pub(crate) use procfs::{make_proc, make_sys};
pub use rootfs::WORKSPACE;
pub(crate) use user::ids_of;
pub(crate) use verify::NAMESPACES;

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use nix::sys::signal::{SigHandler, SigSet, Signal};
use serde::de::DeserializeOwned;

use crate::{
    channel::Channel,
    error::{Doing as _, Error, Fault, Result},
    sys::process,
};
use message::{Begin, Failure, Reply, Setup};

/// What the init knows of the container that stands.
#[derive(Debug)]
struct Inside {
    /// It has the ids from 0 to this one.
    highest_id: u32,
    /// The directories of the steps' own files.
    control: OwnedFd,
}

/// Runs the init in the process that was just cloned; ends with the process.
///
/// `sys` is its mount for `/sys`, where its network is not its own.
pub(crate) fn run(channel: Channel, sys: Option<OwnedFd>) -> ! {
    let status = match channel.isolate_with(sys) {
        Ok((channel, sys)) => match receive_and_build(&channel, sys) {
            Ok(inside) => match serve::serve(&channel, &inside) {
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

fn receive_and_build(channel: &Channel, mut sys: Option<OwnedFd>) -> Result<Inside> {
    reset_signals().system(|| "reset the init's signals")?;
    process::set_name(c"init")
        .and_then(|()| process::erase_start_strings(b"init"))
        .system(|| "hide the runner's command line")?;
    let (begin, descriptors) = receive::<Begin>(channel)?;
    let mut devices = ground::enter(&begin, descriptors)?.into_iter();
    let early = devices.next().map(|devices| ground::make(&begin, devices, Vec::new(), sys.take()));
    let early = early.transpose()?;
    let (setup, mut descriptors) = receive::<Setup>(channel)?;
    // It comes first, where it comes.
    let shared = (setup.workspace_shared && !descriptors.is_empty()).then(|| descriptors.remove(0));
    let mut own_scratch = None;
    let ground = match (early, &setup.own_mounts) {
        (Some(ground), _) => ground,
        (None, Some(wanted)) => {
            ground::leave_host()?;
            // Before the host's groups are left, which may be what opens the way to the project.
            let made = own_mounts::make(wanted, descriptors)?;
            descriptors = made.mounts;
            own_scratch = made.scratch;
            ground::make(&begin, made.devices, made.nodes, sys)?
        }
        (None, None) => {
            return Err(Error::system("receive the container's description", "it has no devices"));
        }
    };
    let built = rootfs::build(ground, &setup, shared, descriptors)?;
    privilege::drop_all(&setup)?;
    verify::verify(&begin, &setup)?;
    let mut shown = vec![built.root.as_fd(), built.workspace.as_fd(), built.control.as_fd()];
    shown.extend(built.copies.iter().map(OwnedFd::as_fd));
    shown.extend(own_scratch.as_ref().map(OwnedFd::as_fd));
    channel.send(&Reply::Ready, &shown).system(|| "report that the container is ready")?;
    Ok(Inside { highest_id: begin.ids.highest(), control: built.control })
}

fn receive<T: DeserializeOwned>(channel: &Channel) -> Result<(T, Vec<OwnedFd>)> {
    let doing = || "receive the container's description";
    channel.receive().system(doing)?.ok_or_else(|| Error::system(doing(), "runner ended"))
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
