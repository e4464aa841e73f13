//! A room that is made while the rest of its container is.
//!
//! One on disk takes a few milliseconds, most of them waiting for the kernel; a thread spends them
//! while the control groups and the init are made, so that they are not on the path of a job.

use std::{
    path::Path,
    thread::{self, JoinHandle},
};

use super::{
    choice::{self, Availability, Backend, ScratchKind},
    disk, memory, project,
    room::Room,
};
use crate::{
    Limits,
    error::{Doing as _, Error, Result},
    ids::Numbers,
};

/// A room that is on its way. Dropped before it is there, it goes again by itself.
#[derive(Debug)]
pub(crate) enum Making {
    /// Made when asked for: that takes no time.
    Memory(Limits),
    /// Being made by a thread; with limits, one in memory will do as well, bounded alike.
    OnDisk {
        thread: JoinHandle<Result<Room>>,
        instead: Option<Limits>,
        /// Whether a loop device is in use for it.
        on_loop_device: bool,
    },
}

impl Making {
    /// Decides what the room will be, and begins to make it; a file for it is made in `files`, and
    /// what all runs share is kept below `state`. `projects` are for quotas, where this user may
    /// set any.
    pub(crate) fn start(
        kind: ScratchKind,
        limits: &Limits,
        state: &Path,
        files: &Path,
        projects: Option<&Numbers>,
    ) -> Result<Self> {
        let host = Availability::of_host(state);
        let backend = choice::choose(kind, limits, &host)?;
        if backend == Backend::Memory {
            return Ok(Self::Memory(limits.clone()));
        }
        let either = kind == ScratchKind::Auto && host.memory.is_ok();
        let instead = either.then(|| limits.clone());
        let (limits, state, files) = (limits.clone(), state.to_owned(), files.to_owned());
        let projects = projects.filter(|_| backend == Backend::Project).cloned();
        let on_loop_device = projects.is_none();
        thread::Builder::new()
            .name("scratch".to_owned())
            .spawn(move || match projects {
                Some(projects) => project::make(&limits, &files, &projects),
                None => disk::make(&limits, &state, &files),
            })
            .map(|thread| Self::OnDisk { thread, instead, on_loop_device })
            .system(|| "start a thread for the scratch file system")
    }

    /// Whether it may come to be on a loop device.
    pub(crate) fn is_on_loop_device(&self) -> bool {
        matches!(self, Self::OnDisk { on_loop_device: true, .. })
    }

    /// Waits until it is there.
    pub(crate) fn finish(self) -> Result<Room> {
        let (thread, instead) = match self {
            Self::Memory(limits) => return in_memory(&limits),
            Self::OnDisk { thread, instead, .. } => (thread, instead),
        };
        let room = thread.join().unwrap_or_else(|_| {
            Err(Error::system("make the scratch file system on disk", "its thread panicked"))
        });
        match (room, instead) {
            // A host may have all that is needed and still not be able to, such as one whose file
            // system refuses direct access.
            (Err(error), Some(limits)) => {
                let cause = crate::with_causes(&error);
                tracing::warn!(cause, "files are kept in memory instead of on disk");
                in_memory(&limits)
            }
            (room, _) => room,
        }
    }
}

fn in_memory(limits: &Limits) -> Result<Room> {
    memory::in_memory(limits.disk, limits.inodes)
        .and_then(Room::in_memory)
        .system(|| "make the scratch file system in memory")
}
