//! The init's loop: start programs, pass signals on, reap, report.
//!
//! It waits for its channel and for SIGCHLD at once, and ends when the channel closes: the kernel
//! then kills everything in the process namespace, which is the teardown.
//!
//! The child that becomes the first program is forked before anybody asks for one, while nothing
//! else runs that could do anything to it; every other when it is asked for.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal, killpg},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::Pid,
};

use super::{
    Inside,
    child::Child,
    message::{Reply, Request},
};
use crate::{channel::Channel, sys};

/// Serves until the runner closes the channel.
pub(super) fn serve(channel: &Channel, inside: &Inside) -> io::Result<()> {
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block()?;
    let signals = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    // What keeps it from being forked keeps the first program from it as well, and is told then.
    let first = Child::fork(inside).ok();
    let mut programs = Programs { first, running: HashMap::new() };
    loop {
        let mut ready = [
            PollFd::new(channel.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other?,
        };
        let [from_runner, from_children] = ready.map(|it| it.any().unwrap_or(true));
        if from_children {
            while signals.read_signal()?.is_some() {}
            programs.report_ended(channel)?;
        }
        if from_runner {
            let Some((request, descriptors)) = channel.receive::<Request>()? else {
                return Ok(());
            };
            programs.handle(channel, request, descriptors, inside)?;
        }
    }
}

/// What runs, and what is about to.
#[derive(Debug)]
struct Programs {
    /// Waits to become the first program.
    first: Option<Child>,
    /// The programs, by the numbers of their requests.
    running: HashMap<Pid, u64>,
}

impl Programs {
    /// Reaps everything that has ended, orphans included, and reports the programs among it.
    fn report_ended(&mut self, channel: &Channel) -> io::Result<()> {
        while let Some(ended) = sys::process::reap()? {
            self.first.take_if(|first| first.pid() == ended.pid);
            if let Some(id) = self.running.remove(&ended.pid) {
                let reply = Reply::Exited {
                    id,
                    status: ended.status,
                    user_us: ended.user_us,
                    system_us: ended.system_us,
                    max_rss: ended.max_rss,
                };
                channel.send(&reply, &[])?;
            }
        }
        Ok(())
    }

    fn handle(
        &mut self,
        channel: &Channel,
        request: Request,
        descriptors: Vec<OwnedFd>,
        inside: &Inside,
    ) -> io::Result<()> {
        match request {
            Request::Start { id, join, input, terminal } => {
                let child = self.first.take().map_or_else(|| Child::fork(inside), Ok);
                let started =
                    child.and_then(|child| child.start(descriptors, join, (input, terminal)));
                match started {
                    Ok((pid, master)) => {
                        self.running.insert(pid, id);
                        let master: Vec<_> = master.iter().map(AsFd::as_fd).collect();
                        channel.send(&Reply::Started { id }, &master)
                    }
                    Err(failure) => channel.send(&Reply::StartFailed { id, failure }, &[]),
                }
            }
            Request::Signal { id, signal } => {
                let target =
                    self.running.iter().find(|(_, running)| **running == id).map(|(pid, _)| *pid);
                if let (Some(pid), Ok(signal)) = (target, Signal::try_from(signal)) {
                    // The program may have ended meanwhile; its exit is on its way then.
                    killpg(pid, signal).ok();
                }
                Ok(())
            }
        }
    }
}
