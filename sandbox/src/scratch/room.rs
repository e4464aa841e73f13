//! One container's writable file system, what is used of it, and its end.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{
    NixPath,
    fcntl::{OFlag, openat},
    sys::{
        stat::{FchmodatFlags, Mode, fchmodat, mkdirat},
        statvfs::fstatvfs,
    },
};

use super::{choice::Backend, largest, project::Project};
use crate::sys::loop_device::shut_down_ext4;

/// Directories of a scratch file system: upper and work directory of the root and the workspace.
const DIRECTORIES: [&str; 4] = ["root", "root.work", "workspace", "workspace.work"];

/// Bytes that may be left when a write was refused all the same. tmpfs takes a write page by page;
/// ext4 takes it folio by folio, of 2 MiB at most, and refuses one that does not fit as a whole.
const fn slack(backend: Backend) -> u64 {
    match backend {
        Backend::Memory => 64 * 1024,
        Backend::Disk | Backend::Project => (2048 + 64) * 1024,
    }
}

/// As above, for inodes: an overlay makes some in its work directory.
const INODES_SLACK: u64 = 4;

/// Makes the directories that overlays need, whatever the caller's umask.
pub(super) fn make_directories(place: impl AsFd) -> io::Result<()> {
    DIRECTORIES.into_iter().try_for_each(|name| make_directory(place.as_fd(), name))
}

/// Makes one of them.
pub(super) fn make_directory<P: NixPath + ?Sized>(place: impl AsFd, name: &P) -> io::Result<()> {
    let mode = Mode::from_bits_truncate(0o755);
    mkdirat(place.as_fd(), name, mode)?;
    Ok(fchmodat(place.as_fd(), name, mode, FchmodatFlags::FollowSymlink)?)
}

/// What a file system has left for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Free {
    /// Bytes that one without privileges can use.
    pub(super) bytes: u64,
    /// Files and directories.
    pub(super) inodes: u64,
}

impl Free {
    pub(super) fn of(mount: impl AsFd) -> io::Result<Self> {
        let found = fstatvfs(mount.as_fd())?;
        Ok(Self {
            bytes: found.blocks_available().saturating_mul(found.fragment_size()),
            inodes: found.files_free(),
        })
    }
}

/// What a container has used of its room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
    /// Nothing more can be written.
    pub(crate) is_full: bool,
    /// Nothing more can be made.
    pub(crate) is_out_of_inodes: bool,
}

/// The file system, or the directory with a quota, as a detached mount; unmounted when dropped,
/// which also frees it.
#[derive(Debug)]
pub(crate) struct Room {
    mount: OwnedFd,
    backend: Backend,
    /// As it was when it was new.
    whole: Free,
    /// The directory, where it is one; removed when nothing of ours holds its files any more.
    project: Option<Project>,
}

impl Room {
    pub(super) fn new(mount: OwnedFd, backend: Backend) -> io::Result<Self> {
        let whole = Free::of(&mount)?;
        Ok(Self { mount, backend, whole, project: None })
    }

    /// One in a directory with a quota.
    pub(super) fn in_project(mount: OwnedFd, project: Project) -> io::Result<Self> {
        let whole = project.free()?;
        Ok(Self { mount, backend: Backend::Project, whole, project: Some(project) })
    }

    /// One in a tmpfs.
    pub(crate) fn in_memory(mount: OwnedFd) -> io::Result<Self> {
        Self::new(mount, Backend::Memory)
    }

    /// What a job can use of it when it is new.
    pub(super) fn whole(&self) -> Free {
        self.whole
    }

    /// Its use, exact to the block.
    pub(crate) fn used(&self) -> io::Result<Used> {
        let free = self.project.as_ref().map_or_else(|| Free::of(&self.mount), Project::free)?;
        Ok(Used {
            bytes: self.whole.bytes.saturating_sub(free.bytes),
            inodes: self.whole.inodes.saturating_sub(free.inodes),
            is_full: free.bytes < slack(self.backend).min(self.whole.bytes / 2),
            is_out_of_inodes: free.inodes < INODES_SLACK,
        })
    }

    /// Whether what is in it takes memory.
    pub(crate) fn is_in_memory(&self) -> bool {
        self.backend == Backend::Memory
    }

    /// The directories with most in them, as the job sees them, with their bytes.
    pub(crate) fn largest(&self) -> Vec<(String, u64)> {
        largest::directories(self.mount.as_fd(), &[("root", ""), ("workspace", "/workspace")])
    }
}

impl AsFd for Room {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }
}

impl Drop for Room {
    /// Unmounting would first write everything to a disk that nobody will read.
    fn drop(&mut self) {
        if self.backend != Backend::Disk {
            return;
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let end = openat(&self.mount, ".", flags, Mode::empty())
            .map_err(io::Error::from)
            .and_then(shut_down_ext4);
        if let Err(error) = end {
            tracing::debug!(%error, "a scratch file system is written out before it goes");
        }
    }
}
