//! A room that is on its way while the rest of its container is made.

use std::{
    path::PathBuf,
    thread::{self, JoinHandle},
};

use super::{choice::Backend, disk, memory, project, room::Room, rooms::Site};
use crate::{
    Limits,
    ahead::Reserved,
    error::{Doing as _, Error, Result},
    ids::Numbers,
};

/// What rooms on disk differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    /// Otherwise in a directory with a quota.
    on_loop_device: bool,
    disk: u64,
    inodes: u64,
}

impl Size {
    /// `None` in memory.
    pub(super) fn on_disk(backend: Backend, limits: &Limits) -> Option<Self> {
        let on_loop_device = match backend {
            Backend::Memory => return None,
            Backend::Disk => true,
            Backend::Project => false,
        };
        Some(Self { on_loop_device, disk: limits.disk, inodes: limits.inodes })
    }

    pub(super) fn is_on_loop_device(self) -> bool {
        self.on_loop_device
    }
}

/// All that it takes to make one on disk.
#[derive(Debug)]
pub(super) struct Order {
    size: Size,
    state: PathBuf,
    files: PathBuf,
    projects: Option<Numbers>,
}

impl Order {
    pub(super) fn new(size: Size, site: Site<'_>) -> Self {
        let Site { state, files, projects } = site;
        let projects = projects.cloned();
        Self { size, state: state.to_owned(), files: files.to_owned(), projects }
    }

    /// Makes it, blocking.
    pub(super) fn make(&self) -> Result<Room> {
        let Size { on_loop_device, disk, inodes } = self.size;
        let limits = Limits { disk, inodes, ..Limits::default() };
        match &self.projects {
            Some(projects) if !on_loop_device => project::make(&limits, &self.files, projects),
            _ => disk::make(&limits, &self.state, &self.files),
        }
    }
}

/// A room that is on its way. Dropped before it is there, it goes again by itself.
#[derive(Debug)]
pub(crate) struct Making {
    source: Source,
    /// With these limits one in memory will do as well.
    instead: Option<Limits>,
}

#[derive(Debug)]
enum Source {
    /// Made when asked for: that takes no time.
    Memory(Limits),
    /// Made before anyone asked, or in the making; should that be in vain, made when asked for.
    Ahead(Reserved<Size, Room>, Order),
    /// Being made for this container, with a loop device or without.
    Thread(JoinHandle<Result<Room>>, Size),
}

impl Making {
    pub(super) fn in_memory(limits: &Limits) -> Self {
        Self { source: Source::Memory(limits.clone()), instead: None }
    }

    pub(super) fn ahead(
        reserved: Reserved<Size, Room>,
        order: Order,
        instead: Option<Limits>,
    ) -> Self {
        Self { source: Source::Ahead(reserved, order), instead }
    }

    pub(super) fn by_a_thread(order: Order, instead: Option<Limits>) -> Result<Self> {
        let size = order.size;
        thread::Builder::new()
            .name("scratch".to_owned())
            .spawn(move || order.make())
            .map(|thread| Self { source: Source::Thread(thread, size), instead })
            .system(|| "start a thread for the scratch file system")
    }

    /// Whether it may come to be on a loop device.
    pub(crate) fn is_on_loop_device(&self) -> bool {
        match &self.source {
            Source::Memory(_) => false,
            Source::Ahead(_, Order { size, .. }) | Source::Thread(_, size) => size.on_loop_device,
        }
    }

    /// Whether it was not begun for this container alone.
    #[cfg(test)]
    pub(super) fn is_ahead(&self) -> bool {
        matches!(self.source, Source::Ahead(..))
    }

    /// Waits until it is there.
    pub(crate) fn finish(self) -> Result<Room> {
        let room = match self.source {
            Source::Memory(limits) => return in_memory(&limits),
            Source::Ahead(reserved, order) => reserved.wait().map_or_else(|| order.make(), Ok),
            Source::Thread(thread, _) => thread.join().unwrap_or_else(|_| {
                Err(Error::system("make the scratch file system on disk", "its thread panicked"))
            }),
        };
        match (room, self.instead) {
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
