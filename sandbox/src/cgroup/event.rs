//! Being told that the memory limit was hit, without looking again and again.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::Path,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        eventfd::{EfdFlags, EventFd},
        inotify::{AddWatchFlags, InitFlags, Inotify},
    },
};

use super::{
    controller::{Controller, Directories, Home},
    file,
    group::Group,
    usage,
};
use crate::{
    error::{Doing as _, Error, Result},
    sys,
};

/// A descriptor that becomes readable when the group's memory limit was hit, or the group is gone.
/// Read [`super::Group::usage`] then: `oom_kills` says whether a process was killed.
#[derive(Debug)]
pub struct MemoryEvents(Source);

#[derive(Debug)]
enum Source {
    /// `memory.oom_control` of v1 writes to it.
    EventFd(EventFd),
    /// The kernel reports each change of `memory.events` as a modification.
    Inotify(Inotify),
}

impl MemoryEvents {
    pub(super) fn watch(directories: &Directories) -> Result<Self> {
        match directories.home(Controller::Memory) {
            Some(Home::V1(directory)) => {
                let doing = || format!("watch the memory of `{}`", directory.display());
                let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
                let event = EventFd::from_value_and_flags(0, flags)
                    .map_err(io::Error::from)
                    .system(doing)?;
                let control = File::open(directory.join("memory.oom_control")).system(doing)?;
                let request = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
                file::write(&directory.join("cgroup.event_control"), &request)?;
                Ok(Self(Source::EventFd(event)))
            }
            Some(Home::V2(directory)) => {
                let doing = || format!("watch the memory of `{}`", directory.display());
                let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
                    .map_err(io::Error::from)
                    .system(doing)?;
                inotify
                    .add_watch(&directory.join("memory.events"), AddWatchFlags::IN_MODIFY)
                    .map_err(io::Error::from)
                    .system(doing)?;
                Ok(Self(Source::Inotify(inotify)))
            }
            None => Err(Error::system(
                "watch the memory of a control group",
                "it has no `memory` controller",
            )),
        }
    }

    /// Takes what has happened off the descriptor, so that it waits for the next event. Returns
    /// whether anything had.
    ///
    /// # Errors
    /// When the descriptor cannot be read.
    pub fn acknowledge(&self) -> io::Result<bool> {
        let result = match &self.0 {
            Source::EventFd(event) => event.read().map(|_| ()),
            Source::Inotify(inotify) => inotify.read_events().map(|_| ()),
        };
        match result {
            Ok(()) => Ok(true),
            Err(Errno::EAGAIN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// How often, and after how long each time, a kill is looked for once memory has run out: the
/// kernel tells of the one before it does the other.
const LOOKS: u32 = 200;
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

impl Group {
    /// Waits until the kernel has killed a process of the group because memory ran out, and then
    /// kills the rest: half a job gives wrong results. Returns when that is done, when the group is
    /// gone, and at once where the kernel does it by itself (`memory.oom.group`).
    ///
    /// # Errors
    /// When the group's files cannot be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime with timers.
    pub async fn kill_when_out_of_memory(&self) -> Result<()> {
        let Some(directory) = self.directories.v1(Controller::Memory) else { return Ok(()) };
        let doing = || format!("watch the memory of `{}`", directory.display());
        let events = sys::readiness::watch(self.memory_events()?).system(doing)?;
        // What happened before the watch began is told by nobody.
        while !self.ended_for_memory(directory)? {
            let mut ready = events.readable().await.system(doing)?;
            events.get_ref().acknowledge().system(doing)?;
            ready.clear_ready();
            for _ in 0..LOOKS {
                if self.ended_for_memory(directory)? {
                    return Ok(());
                }
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        }
        Ok(())
    }

    /// Kills the group when a process of it was killed for memory. Whether it was, or is gone.
    fn ended_for_memory(&self, directory: &Path) -> Result<bool> {
        if usage::oom_kills(&self.directories)? > 0 {
            return self.kill().map(|()| true);
        }
        Ok(!directory.exists())
    }
}

impl From<MemoryEvents> for OwnedFd {
    fn from(events: MemoryEvents) -> Self {
        match events.0 {
            Source::EventFd(event) => event.into(),
            Source::Inotify(inotify) => inotify.into(),
        }
    }
}

impl AsFd for MemoryEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Source::EventFd(event) => event.as_fd(),
            Source::Inotify(inotify) => inotify.as_fd(),
        }
    }
}

impl AsRawFd for MemoryEvents {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
