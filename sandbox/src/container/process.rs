//! A standing container, the programs in it, and its end.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::{signal::Signal, stat::fstat},
    unistd::{UnlinkatFlags, unlinkat},
};
use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    ContainerSpec, Program, State, Streams,
    exit::{End, Exit},
    memory::{self, Largest, SharedMemory},
    prepare::Prepared,
    replies::{Waiting, not_started, receive_replies},
    takedown::LetGo,
};
use crate::{
    cgroup,
    channel::{self, Channel},
    error::{Doing as _, Error, Result},
    ids::{HeldIds, IdMap},
    in_use::InUse,
    init::message::Request,
    network::SharedNetwork,
    sandbox::Shared,
    sys,
};

/// How long the end of a killed container is waited for before that is reported.
const PATIENCE: Duration = Duration::from_secs(20);

/// A container that stands. Dropping it kills what runs in it, and waits for nothing.
#[derive(Debug)]
pub struct Container {
    shared: InUse<Shared>,
    prepared: Arc<Prepared>,
    /// Dropped after `prepared`, which says that it is.
    let_go: LetGo,
    pump: JoinHandle<()>,
    memory_guard: JoinHandle<()>,
    largest: Largest,
    shared_memory: SharedMemory,
    waiting: Arc<Mutex<Waiting>>,
    next: AtomicU64,
    /// What it had used when it ended.
    ended: OnceLock<End>,
}

/// A program that was started in a container.
#[derive(Debug)]
pub struct Process {
    id: u64,
    exit: oneshot::Receiver<Exit>,
    /// Its end, once that is known.
    ended: Option<Exit>,
    /// The master side of its terminal, where it was given one.
    pub terminal: Option<OwnedFd>,
}

impl Process {
    /// Waits until it has ended. Cancel-safe, and can be asked again.
    ///
    /// # Errors
    /// When the whole container has ended, by [`Container::kill`], by the kernel for memory, or
    /// by a system fault.
    pub async fn wait(&mut self) -> Result<Exit> {
        if let Some(ended) = self.ended {
            return Ok(ended);
        }
        let lost = || Error::system("wait for a program", "its container was ended as a whole");
        // A receiver that has had its answer must not be polled again.
        if self.exit.is_terminated() {
            return Err(lost());
        }
        let ended = (&mut self.exit).await.map_err(|_| lost())?;
        self.ended = Some(ended);
        Ok(ended)
    }
}

impl Container {
    pub(crate) fn new(shared: InUse<Shared>, prepared: Prepared) -> Result<Self> {
        for place in [&prepared.root, &prepared.workspace] {
            let found = fstat(place).system(|| "look at the container's root directory")?;
            shared.trail.has_overlay(found.st_dev);
        }
        prepared.channel.set_nonblocking().system(|| "watch the container's init")?;
        let receiving = prepared
            .channel
            .as_fd()
            .try_clone_to_owned()
            .and_then(|copy| sys::readiness::watch(Channel::from(copy)))
            .system(|| "watch the container's init")?;
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let pump = tokio::spawn(receive_replies(receiving, Arc::clone(&waiting)));
        let shared_memory =
            SharedMemory::of(&prepared.root).system(|| "open the container's `/dev/shm`")?;
        let largest = Largest::default();
        let watch = memory::watch(prepared.group.group.clone(), largest.clone());
        let memory_guard = tokio::spawn(watch);
        Ok(Self {
            shared,
            prepared: Arc::new(prepared),
            let_go: LetGo::new(),
            pump,
            memory_guard,
            largest,
            shared_memory,
            waiting,
            next: AtomicU64::new(0),
            ended: OnceLock::new(),
        })
    }

    /// Its description.
    pub fn spec(&self) -> &ContainerSpec {
        &self.prepared.spec
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).ended
    }

    /// Starts a program; `group` is its own control group where its use shall be told apart.
    ///
    /// # Errors
    /// With [`crate::Fault::Pipeline`] when the program cannot be run as described: the kernel's
    /// error is the source then.
    pub async fn start(
        &self,
        program: Program,
        streams: Streams,
        group: Option<&cgroup::Group>,
    ) -> Result<Process> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (started, start) = oneshot::channel();
        let (exited, exit) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.ended {
                return Err(Error::system("start a program", "its container has ended"));
            }
            waiting.started.insert(id, started);
            waiting.exited.insert(id, exited);
        }
        let size = match self.request_start(id, program, streams, group) {
            Ok(size) => size,
            Err(error) => {
                // Nothing was asked for, so nothing will be answered.
                self.waiting.lock().unwrap_or_else(PoisonError::into_inner).forget(id);
                return Err(error);
            }
        };
        let terminal = match start.await {
            Ok(answer) => answer.map_err(not_started)?,
            // It may have run already, so whoever waits for its end is told.
            Err(_) if size.is_none() => None,
            Err(_) => return Err(Error::system("start a program", "its container has ended")),
        };
        if let (Some(terminal), Some((rows, columns))) = (&terminal, size) {
            sys::terminal::set_window_size(terminal, rows, columns)
                .system(|| "set the size of the terminal")?;
        }
        Ok(Process { id, exit, ended: None, terminal })
    }

    /// Sends the request; returns the size of the terminal, where one is wanted.
    fn request_start(
        &self,
        id: u64,
        program: Program,
        streams: Streams,
        group: Option<&cgroup::Group>,
    ) -> Result<Option<(u16, u16)>> {
        let body = postcard::to_allocvec(&program.into_message())
            .system(|| "describe a program to the init")?;
        let body = channel::memory_file(&body).pipeline(|| "describe a program to the init")?;
        let join = match group {
            Some(group) => group.entrance_of_a_process()?,
            None => Vec::new(),
        };
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![body.as_fd()];
        let terminal = match &streams {
            Streams::Plain { stdin, stdout, stderr } => {
                descriptors.extend(stdin.as_ref().map(OwnedFd::as_fd));
                descriptors.extend([stdout.as_fd(), stderr.as_fd()]);
                None
            }
            Streams::Terminal { rows, columns } => Some((*rows, *columns)),
        };
        descriptors.extend(join.iter().map(OwnedFd::as_fd));
        let input = matches!(&streams, Streams::Plain { stdin: Some(_), .. });
        let terminal_wanted = terminal.is_some();
        let request = Request::Start { id, join: join.len(), input, terminal: terminal_wanted };
        self.prepared.channel.send(&request, &descriptors).system(|| "talk to the init")?;
        Ok(terminal)
    }

    /// Sends `signal` to a program and its process group.
    ///
    /// # Errors
    /// When the init cannot be reached any more.
    pub fn signal(&self, process: &Process, signal: Signal) -> Result<()> {
        let request = Request::Signal { id: process.id, signal: signal as i32 };
        self.prepared.channel.send(&request, &[]).system(|| "send a signal through the init")
    }

    /// Sets the size of a program's terminal.
    ///
    /// # Errors
    /// When it has none.
    pub fn resize(&self, process: &Process, rows: u16, columns: u16) -> Result<()> {
        let terminal = process
            .terminal
            .as_ref()
            .ok_or_else(|| Error::system("set the size of a terminal", "there is none"))?;
        sys::terminal::set_window_size(terminal, rows, columns)
            .system(|| "set the size of the terminal")
    }

    /// A control group of its own for a program, within the container's.
    ///
    /// # Errors
    /// When it cannot be made, or a limit cannot be set.
    pub fn step_group(&self, name: &str, limits: &cgroup::StepLimits) -> Result<cgroup::Group> {
        self.prepared.group.group.step_limited(name, limits)
    }

    /// What the container has used so far.
    ///
    /// # Errors
    /// When the control groups or the scratch file system cannot be read.
    pub fn used(&self) -> Result<End> {
        let used = self.prepared.scratch.used().system(|| "read the scratch's use")?;
        let largest = if used.is_full { self.prepared.scratch.largest() } else { Vec::new() };
        let group = &self.prepared.group.group;
        let usage = group.usage()?;
        let out_of_memory = usage.oom_kills > 0;
        let peak = usage.memory_peak.unwrap_or(0);
        Ok(End {
            usage,
            largest_process: out_of_memory
                .then(|| self.largest.when_it_ran_out(group, peak))
                .flatten(),
            disk_bytes: used.bytes,
            disk_inodes: used.inodes,
            disk_full: used.is_full,
            shm_full: self.shared_memory.is_full().system(|| "read the use of `/dev/shm`")?,
            inodes_full: used.is_out_of_inodes,
            largest_directories: largest,
            network: None,
        })
    }

    /// Kills everything in the container at once.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&self) -> Result<()> {
        match sys::process::pidfd_send_signal(&self.prepared.init.0.pidfd, libc::SIGKILL) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other.system(|| "kill the container"),
        }
    }

    /// The container's root directory, to be read after its end; links in it are not to be
    /// trusted.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.prepared.root.as_fd()
    }

    /// The container's `/workspace`, to be read after its end.
    pub fn workspace(&self) -> BorrowedFd<'_> {
        self.prepared.workspace.as_fd()
    }

    /// The directory with `cofferdam` and `secrets`, which are shown at `/run/cofferdam` and
    /// `/run/secrets`; links in it are not to be trusted.
    pub fn control(&self) -> BorrowedFd<'_> {
        self.prepared.control.as_fd()
    }

    /// Removes the file of a secret, `/run/secrets/NAME`; nothing happens where there is none.
    ///
    /// # Errors
    /// When something that cannot be removed has taken its place.
    pub fn remove_secret(&self, name: &str) -> Result<()> {
        let remove = || -> std::io::Result<()> {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
            let secrets = sys::beneath::open_beneath(self.control(), "secrets", flags)?;
            match unlinkat(&secrets, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => Ok(()),
                Err(error) => Err(error.into()),
            }
        };
        if name.contains('/') {
            return Err(Error::system("remove a secret", "its name is a path"));
        }
        remove().pipeline(|| format!("remove `/run/secrets/{name}`"))
    }

    /// Kills what still runs and waits until every process of the container is gone. Its files
    /// can be read until it is dropped.
    ///
    /// # Errors
    /// When its processes do not end.
    pub async fn stop(&self) -> Result<End> {
        if let Some(end) = self.ended.get() {
            return Ok(end.clone());
        }
        self.kill()?;
        let pidfd = self
            .prepared
            .init
            .0
            .pidfd
            .try_clone()
            .and_then(sys::readiness::watch)
            .system(|| "wait for the container's end")?;
        let ended = tokio::time::timeout(PATIENCE, pidfd.readable()).await;
        let ready = ended.system(|| "wait for the container's end: a process cannot be killed")?;
        ready.system(|| "wait for the container's end")?.retain_ready();
        let mut end = self.used()?;
        if let Some(network) = &*self.network() {
            end.network = network.used()?;
        }
        Ok(self.ended.get_or_init(|| end).clone())
    }

    /// The host's id that is root inside, where it has a range of ids of its own.
    pub(crate) fn first_id(&self) -> Option<u32> {
        match self.prepared.ids.map() {
            IdMap::Range { first } => Some(first),
            _ => None,
        }
    }

    /// The ids of its processes.
    pub(super) fn ids(&self) -> &Arc<HeldIds> {
        &self.prepared.ids
    }

    /// Its workspace as a mount of its own, for one container beside it.
    pub(super) fn take_workspace(&self) -> Result<OwnedFd> {
        let copies = &self.prepared.workspace_copies;
        let copy = copies.lock().unwrap_or_else(PoisonError::into_inner).pop();
        copy.ok_or_else(|| {
            Error::system("share a workspace", "no further container was expected beside this one")
        })
    }

    /// What it has written, for other containers to start from, once it was stopped; where that was
    /// asked for.
    ///
    /// # Errors
    /// When it was not.
    pub fn state(&self) -> Result<Arc<State>> {
        let kept = self.prepared.kept.clone().ok_or_else(|| {
            Error::system("keep what a container has written", "this was not asked for")
        })?;
        let spec = &self.prepared.spec;
        let (room, image) = (Arc::clone(&self.prepared.scratch), Arc::clone(&spec.image));
        let has_workspace = spec.workspace.is_some();
        Ok(Arc::new(State::new(kept, room, has_workspace, image, spec.layers.clone())))
    }

    /// As [`Self::stop`], and lets go of its network. What is left of it is removed once this is
    /// dropped, in the background: [`crate::Sandbox::close`] waits for that, and says what could not
    /// be.
    ///
    /// # Errors
    /// When its processes do not end.
    pub async fn end(&self) -> Result<End> {
        let end = self.stop().await?;
        // Unless others are still in it, this is its end.
        drop(self.network().take());
        Ok(end)
    }
}

impl Container {
    fn network(&self) -> MutexGuard<'_, Option<SharedNetwork>> {
        self.prepared.network.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.pump.abort();
        self.memory_guard.abort();
        if let Err(error) = self.kill() {
            tracing::warn!(%error, "a container is left for the end of the run");
        }
        self.shared.takedowns.begin(Arc::clone(&self.prepared), &mut self.let_go);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_can_be_waited_for_again() {
        for end in [Some(Exit::new(7 << 8, 0, 0, 0)), None] {
            let (sender, exit) = oneshot::channel();
            let mut process = Process { id: 0, exit, ended: None, terminal: None };
            match end {
                Some(end) => sender.send(end).unwrap(),
                None => drop(sender),
            }
            for _ in 0..2 {
                assert_eq!(process.wait().await.ok(), end);
            }
        }
    }
}
