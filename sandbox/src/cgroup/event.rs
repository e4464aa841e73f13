//! Being told that the memory limit was hit, without looking again and again.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
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
};
use crate::error::{Doing as _, Error, Result};

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

impl AsFd for MemoryEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Source::EventFd(event) => event.as_fd(),
            Source::Inotify(inotify) => inotify.as_fd(),
        }
    }
}

impl std::os::fd::AsRawFd for MemoryEvents {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.as_fd().as_raw_fd()
    }
}
