//! The spawner: a small process that clones the containers' inits and outlives the runner.
//!
//! It is forked before the runner starts a thread or reads a secret, so forking from it is cheap
//! and safe. It is also the safety net: when the runner ends, however it ends, the spawner kills
//! every container that is left and undoes what the run's journal names. When the spawner ends,
//! the kernel kills every init.

mod bare;
mod client;
mod join;
mod map_ids;
mod message;
mod owner;
mod run;
mod serve;

use std::os::fd::OwnedFd;

use nix::{
    sys::signal::{SigHandler, Signal},
    unistd::{Pid, setsid},
};

pub use client::Spawner;
pub(crate) use client::{Namespaces, Spawned, Started};

use crate::{
    channel::Channel,
    error::{Doing as _, Error, Result},
    supervisor, sys,
};

/// Forks the spawner. Call this first of all in `main`, before any thread exists.
///
/// # Errors
/// When the process has more than one thread already, or cannot be copied.
pub fn start() -> Result<Spawner> {
    let (ours, theirs) = Channel::pair().system(|| "make the spawner's channel")?;
    let cloned = sys::process::clone(0, None).map_err(|error| {
        Error::system("fork the spawner", error).remedy(
            "run it on the host itself: a container engine around it forbids clone3(2), which \
             every container needs",
        )
    })?;
    match cloned {
        sys::process::Cloned::Parent { pid, .. } => Ok(Spawner::new(ours, pid)),
        sys::process::Cloned::Child => {
            drop(ours);
            run(theirs)
        }
    }
}

fn run(channel: Channel) -> ! {
    let status = match become_spawner(channel).and_then(serve::serve) {
        Ok(()) => 0,
        Err(_) => 1,
    };
    sys::process::exit_now(status)
}

/// Detaches from the caller's terminal, environment, descriptors, signals and working directory.
fn become_spawner(channel: Channel) -> std::io::Result<Channel> {
    sys::process::erase_start_strings(b"cofferdam: spawner")?;
    sys::process::set_name(c"cofferdam-spawn")?;
    setsid()?;
    supervisor::raise_open_files();
    std::env::set_current_dir("/")?;
    // The keyboard's signals are for the runner, and ended children need no burial.
    for signal in
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGCHLD]
    {
        sys::process::set_handler(signal, SigHandler::SigIgn)?;
    }
    let null = OwnedFd::from(std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?);
    for number in 0..3 {
        sys::process::duplicate_to(&null, number)?;
    }
    drop(null);
    channel.isolate()
}

/// Waits until a child of this process has ended.
fn wait_for(pid: Pid) -> nix::Result<()> {
    loop {
        match nix::sys::wait::waitpid(pid, None) {
            Err(nix::errno::Errno::EINTR) => {}
            Ok(_) | Err(nix::errno::Errno::ECHILD) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
