//! A child of the init that becomes a program: forked, told what to run, and followed until it has.
//!
//! What it is told goes through the init as descriptors only, so that the init never holds a secret.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{SigSet, Signal, kill},
    unistd::{Pid, pipe2},
};

use super::{
    Inside,
    message::{Become, Failure},
    program,
};
use crate::{channel::Channel, sys};

/// How long a child may take to become its program.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest report of a failure, in bytes.
const REPORT_MAX: usize = 64 * 1024;

/// A child that waits to be told what to become.
#[derive(Debug)]
pub(super) struct Child {
    pid: Pid,
    channel: Channel,
    /// Closes when it has become its program, or has said why not.
    report: OwnedFd,
}

impl Child {
    /// Forks one.
    pub(super) fn fork(inside: &Inside) -> Result<Self, Failure> {
        let (channel, its_channel) = Channel::pair().map_err(fail("make a channel"))?;
        let (report, its_report) =
            pipe2(OFlag::O_CLOEXEC).map_err(|error| fail("make a pipe")(error.into()))?;
        let fork = sys::process::fork().map_err(|error| {
            // The limit of processes and that of memory are the container's own, and used up by the
            // job.
            let used_up = matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM));
            Failure { pipeline: used_up, ..fail("fork")(error) }
        });
        let Some(pid) = fork? else {
            // Its own copies would keep it from hearing that the init has let go of it.
            drop((channel, report));
            unblock_signals();
            program::become_program(&its_channel, inside, its_report);
        };
        Ok(Self { pid, channel, report })
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Tells it what to run, and waits until it does, or says why not. Returns the other side of its
    /// terminal, where it gets one.
    pub(super) fn start(
        self,
        descriptors: Vec<OwnedFd>,
        join: usize,
        (input, terminal): (bool, bool),
    ) -> Result<(Pid, Option<OwnedFd>), Failure> {
        let Self { pid, channel, report } = self;
        let mut descriptors = descriptors.into_iter();
        let mut next =
            || descriptors.next().ok_or_else(|| io::Error::other("a descriptor is missing"));
        let mut passed = vec![next().map_err(fail("take the program"))?];
        let mut master = None;
        if terminal {
            let (ours, its) = program::open_terminal().map_err(fail("open a terminal"))?;
            master = Some(ours);
            passed.push(its);
        } else {
            let mut stream = || next().map_err(fail("take the streams"));
            passed.push(if input {
                stream()?
            } else {
                // The host's is shared by all: a lock on it would be a channel between jobs.
                File::open("/dev/null").map_err(fail("open `/dev/null`"))?.into()
            });
            passed.extend([stream()?, stream()?]);
        }
        passed.extend(descriptors.take(join));
        let passed_on: Vec<_> = passed.iter().map(OwnedFd::as_fd).collect();
        let told = channel.send(&Become { terminal }, &passed_on);
        // It waits for this.
        drop(channel);
        // One that was killed meanwhile is reaped as any other, and its end is its program's.
        if let Err(error) = told
            && error.raw_os_error() != Some(libc::EPIPE)
        {
            return Err(fail("tell a child what to run")(error));
        }
        drop(passed);
        let said = read_report(report).map_err(fail("wait for the program to start"))?;
        let Some(bytes) = said else {
            // Whatever holds it up may hold up anything; a process that has ended needs no signal.
            kill(pid, Signal::SIGKILL).ok();
            return Err(Failure {
                doing: "start a program".to_owned(),
                errno: 0,
                cause: format!(
                    "something in the container has held its process up for {} s",
                    PATIENCE.as_secs()
                ),
                pipeline: true,
            });
        };
        if bytes.is_empty() {
            return Ok((pid, master));
        }
        // The child that failed is reaped with everything else.
        Err(postcard::from_bytes(&bytes).unwrap_or_else(|error| {
            fail("read why the program did not start")(io::Error::other(error))
        }))
    }
}

fn fail(doing: &'static str) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure {
        doing: doing.to_owned(),
        errno: error.raw_os_error().unwrap_or(0),
        cause: error.to_string(),
        pipeline: false,
    }
}

/// What a child says of its failure, which is nothing when it has become its program; `None` when
/// it does neither in time. Until it has, it is a process of the container like others: one that
/// was started before it may stop it for good.
fn read_report(report: OwnedFd) -> io::Result<Option<Vec<u8>>> {
    let deadline = Instant::now() + PATIENCE;
    let mut report = File::from(report);
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while bytes.len() < REPORT_MAX {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(report.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(nix::errno::Errno::EINTR) => continue,
            Ok(0) => return Ok(None),
            other => other?,
        };
        match report.read(&mut buffer)? {
            0 => break,
            read => bytes.extend_from_slice(buffer.get(..read).unwrap_or_default()),
        }
    }
    Ok(Some(bytes))
}

fn unblock_signals() {
    // Cannot fail with a valid set (sigprocmask(2)).
    SigSet::empty().thread_set_mask().ok();
}
