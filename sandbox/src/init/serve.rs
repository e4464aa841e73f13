//! The init's loop: start programs, pass signals on, reap, report.
//!
//! It waits for its channel and for SIGCHLD at once, and ends when the channel closes: the kernel
//! then kills everything in the process namespace, which is the teardown.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal, kill, killpg},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::{Pid, pipe2},
};

use super::{
    Inside,
    message::{Failure, Reply, Request},
    program::{self, Streams},
};
use crate::{channel::Channel, sys};

/// How long a child may take to become its program.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest report of a failure, in bytes.
const REPORT_MAX: usize = 64 * 1024;

/// Serves until the runner closes the channel.
pub(super) fn serve(channel: &Channel, inside: &Inside) -> io::Result<()> {
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block()?;
    let signals = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mut running: HashMap<Pid, u64> = HashMap::new();
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
            report_ended(channel, &mut running)?;
        }
        if from_runner {
            let Some((request, descriptors)) = channel.receive::<Request>()? else {
                return Ok(());
            };
            handle(channel, request, descriptors, inside, &mut running)?;
        }
    }
}

/// Reaps everything that has ended, orphans included, and reports the programs among it.
fn report_ended(channel: &Channel, running: &mut HashMap<Pid, u64>) -> io::Result<()> {
    while let Some(ended) = sys::process::reap()? {
        if let Some(id) = running.remove(&ended.pid) {
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
    channel: &Channel,
    request: Request,
    descriptors: Vec<OwnedFd>,
    inside: &Inside,
    running: &mut HashMap<Pid, u64>,
) -> io::Result<()> {
    match request {
        Request::Start { id, join, input, terminal } => {
            match start(descriptors, join, (input, terminal), inside) {
                Ok((pid, master)) => {
                    running.insert(pid, id);
                    let master: Vec<_> = master.iter().map(AsFd::as_fd).collect();
                    channel.send(&Reply::Started { id }, &master)
                }
                Err(failure) => channel.send(&Reply::StartFailed { id, failure }, &[]),
            }
        }
        Request::Signal { id, signal } => {
            let target = running.iter().find(|(_, running)| **running == id).map(|(pid, _)| *pid);
            if let (Some(pid), Ok(signal)) = (target, Signal::try_from(signal)) {
                // The program may have ended meanwhile; its exit is on its way then.
                killpg(pid, signal).ok();
            }
            Ok(())
        }
    }
}

/// Forks a child that becomes the program; waits until it has, or says why not.
fn start(
    descriptors: Vec<OwnedFd>,
    join: usize,
    (input, terminal): (bool, bool),
    inside: &Inside,
) -> Result<(Pid, Option<OwnedFd>), Failure> {
    let fail = |doing: &str| {
        let doing = doing.to_owned();
        move |error: io::Error| Failure {
            doing,
            errno: error.raw_os_error().unwrap_or(0),
            cause: error.to_string(),
            pipeline: false,
        }
    };
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or_else(|| io::Error::other("a descriptor is missing"));
    let program = next().map_err(fail("take the program"))?;
    let (streams, master) = if terminal {
        let (master, slave) = program::open_terminal().map_err(fail("open a terminal"))?;
        (Streams::Terminal(slave), Some(master))
    } else {
        let mut stream = || next().map_err(fail("take the streams"));
        let stdin = if input {
            stream()?
        } else {
            // The host's is shared by all: a lock on it would be a channel between jobs.
            File::open("/dev/null").map_err(fail("open `/dev/null`"))?.into()
        };
        (Streams::Plain([stdin, stream()?, stream()?]), None)
    };
    let groups: Vec<OwnedFd> = descriptors.take(join).collect();
    let (report, report_in_child) =
        pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|error| fail("make a pipe")(error.into()))?;
    let fork = sys::process::fork().map_err(|error| {
        // The limit of processes and that of memory are the container's own, and used up by the job.
        let used_up = matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM));
        Failure { pipeline: used_up, ..fail("fork")(error) }
    });
    let Some(pid) = fork? else {
        drop(report);
        unblock_signals();
        program::become_program(program, streams, groups, inside, report_in_child);
    };
    drop((program, streams, groups, report_in_child));
    let Some(bytes) = read_report(report).map_err(fail("wait for the program to start"))? else {
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
