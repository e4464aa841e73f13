//! Being told that the memory limit was hit, without looking again and again.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::fs::FileExt as _,
    },
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::eventfd::{EfdFlags, EventFd},
};
use tokio::io::Interest;

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

/// A descriptor that becomes ready when the group's memory limit was hit, or the group is gone.
/// Read [`super::Group::usage`] then: `oom_kills` says whether a process was killed.
#[derive(Debug)]
pub struct MemoryEvents(Source);

#[derive(Debug)]
enum Source {
    /// `memory.oom_control` of v1 writes to it.
    EventFd(EventFd),
    /// `memory.events`, and what was last read of it: the kernel reports a change as exceptional
    /// (`POLLPRI`) until it is read again. Unlike an inotify instance it is in short supply nowhere.
    File(File, Mutex<Vec<u8>>),
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
                let file = File::open(directory.join("memory.events")).system(doing)?;
                let events = Self(Source::File(file, Mutex::default()));
                // From this reading on changes are told.
                events.acknowledge().system(doing)?;
                Ok(events)
            }
            None => Err(Error::system(
                "watch the memory of a control group",
                "it has no `memory` controller",
            )),
        }
    }

    /// What the descriptor becomes when something has happened.
    pub fn interest(&self) -> Interest {
        match &self.0 {
            Source::EventFd(_) => Interest::READABLE,
            Source::File(..) => Interest::PRIORITY,
        }
    }

    /// Takes what has happened off the descriptor, so that it waits for the next event. Returns
    /// whether anything had.
    ///
    /// # Errors
    /// When the descriptor cannot be read.
    pub fn acknowledge(&self) -> io::Result<bool> {
        match &self.0 {
            Source::EventFd(event) => match event.read() {
                Ok(_) => Ok(true),
                Err(Errno::EAGAIN) => Ok(false),
                Err(error) => Err(error.into()),
            },
            Source::File(file, seen) => {
                let mut text = vec![0; 1024];
                let length = file.read_at(&mut text, 0)?;
                text.truncate(length);
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                let changed = !seen.is_empty() && *seen != text;
                *seen = text;
                Ok(changed)
            }
        }
    }
}

/// How often, and after how long each time, a kill is looked for once memory has run out: the
/// kernel tells of the one before it does the other.
const LOOKS: u32 = 200;
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);
/// A job that fills its memory with cached files is at its limit all the time, which is no event
/// to be looked at more often than this.
const BETWEEN_EVENTS: Duration = Duration::from_millis(50);

impl Group {
    /// Watches the group's memory. `short` is called each time that it runs short, before what
    /// the kernel does about it is known. On v1, where the kernel kills one process, the rest is
    /// killed as well: half a job gives wrong results. Returns when that is done, or the group is
    /// found to be gone, and at once where it has no limit of memory.
    ///
    /// # Errors
    /// When the group's files cannot be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime with timers.
    pub async fn watch_memory(&self, mut short: impl FnMut()) -> Result<()> {
        let (directory, kills_one) = match self.directories.home(Controller::Memory) {
            Some(Home::V1(directory)) => (directory, true),
            Some(Home::V2(directory)) => (directory, false),
            None => return Ok(()),
        };
        let doing = || format!("watch the memory of `{}`", directory.display());
        let events = self.memory_events()?;
        let interest = events.interest();
        let events = sys::readiness::watch_for(events, interest).system(doing)?;
        // What happened before the watch began is told by nobody.
        while !(kills_one && self.ended_for_memory(directory)?) {
            let mut ready = events.ready(interest).await.system(doing)?;
            short();
            if events.get_ref().acknowledge().is_err() && !directory.exists() {
                return Ok(());
            }
            ready.clear_ready();
            if !kills_one {
                tokio::time::sleep(BETWEEN_EVENTS).await;
                continue;
            }
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
            Source::File(file, _) => file.into(),
        }
    }
}

impl AsFd for MemoryEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Source::EventFd(event) => event.as_fd(),
            Source::File(file, _) => file.as_fd(),
        }
    }
}

impl AsRawFd for MemoryEvents {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
