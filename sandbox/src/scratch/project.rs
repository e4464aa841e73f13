//! A directory of the container's own with a project quota, where the state directory's file system
//! has them in force: ext4 with `prjquota`, XFS with `pquota`.
//!
//! All that is made in the directory belongs to its project, and the kernel refuses what goes beyond
//! the project's limits. It is sound because a container has a user namespace: outside of the first
//! one, nobody can change the project of a file (`ioctl_xfs_fsgetxattr(2)`), nor has the
//! `CAP_SYS_RESOURCE` with which ext4 lets a writer pass its limit.
//!
//! The directory lies beside the run's journal, which so names it before it is made. Its project is
//! written on it alone: whoever finds it knows which limits to take away. A project is taken only
//! when nothing at all is counted for it, so neither what a crash has left nor what another program
//! has chosen to count is ever mixed with a container's.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsFd as _,
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::room::{Free, Room, make_directories};
use crate::{
    Limits,
    error::{Doing as _, Error, Result},
    ids::{Number, Numbers},
    removal::remove_tree,
    sys::{
        mount::{Attributes, Tree, open_tree, restrict},
        quota,
    },
};

/// What the names of the directories begin with.
const NAME: &str = "room-";
/// First of the projects: far above those that people and other programs begin to count from.
const FIRST: u32 = 0x7000_0000;
/// Inodes that an overlay needs for itself, twice.
const OVERHEAD_INODES: u64 = 8;
/// How often a directory is listed again because something was left in it.
const ATTEMPTS: usize = 3;

/// A directory with a quota; removed when dropped, and its project given back.
#[derive(Debug)]
pub(super) struct Project {
    path: PathBuf,
    directory: File,
    #[expect(dead_code, reason = "given back when dropped, after the directory was let go of")]
    number: Number,
    id: u32,
}

/// Makes one with these limits in the directory of a journal.
pub(super) fn make(limits: &Limits, journal: &Path, projects: &Numbers) -> Result<Room> {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let doing = || format!("make a directory with a quota in `{}`", journal.display());
    let place = File::open(journal).system(doing)?;
    let is_unused = |value: u32| {
        let found = quota::of_project(&place, FIRST + value)?;
        Ok((found.bytes, found.inodes) == (0, 0))
    };
    let number = projects.acquire(is_unused).system(doing)?.ok_or_else(|| {
        Error::system(doing(), "all projects are in use").remedy("wait until other runs have ended")
    })?;
    let id = FIRST + number.value();
    let path = journal.join(format!("{NAME}{}", MADE.fetch_add(1, Ordering::Relaxed)));
    let make = || -> io::Result<Room> {
        fs::DirBuilder::new().mode(0o755).create(&path)?;
        let directory = open_directory(&path)?;
        let project = Project { path: path.clone(), directory, number, id };
        project.fill(limits)?;
        let mount = open_tree(&project.directory, c"", Tree::Copy)?;
        restrict(&mount, Attributes::NOSUID.and(Attributes::NODEV))?;
        Room::in_project(mount, project)
    };
    make().system(doing)
}

impl Project {
    /// Counts what is made in it from now on, makes what every container needs, and then bounds it.
    fn fill(&self, limits: &Limits) -> io::Result<()> {
        quota::set_project(&self.directory, self.id)?;
        make_directories(&self.directory)?;
        let ours = quota::of_project(&self.directory, self.id)?;
        let bytes = limits.disk.saturating_add(ours.bytes);
        let inodes = limits.inodes.saturating_add(ours.inodes).saturating_add(OVERHEAD_INODES);
        quota::limit(&self.directory, self.id, bytes, inodes)
    }

    /// What is left of its limits.
    pub(super) fn free(&self) -> io::Result<Free> {
        let found = quota::of_project(&self.directory, self.id)?;
        Ok(Free {
            bytes: found.most_bytes.saturating_sub(found.bytes),
            inodes: found.most_inodes.saturating_sub(found.inodes),
        })
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            tracing::warn!(%error, "`{}` is left for the end of the run", self.path.display());
        }
    }
}

/// Removes all of them that are in the directory of a journal.
pub(crate) fn remove_all(journal: &Path) -> Result<()> {
    let doing = || format!("remove the containers' files in `{}`", journal.display());
    let list = match fs::read_dir(journal) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.system(doing)?,
    };
    for entry in list {
        let entry = entry.system(doing)?;
        if entry.file_name().as_encoded_bytes().starts_with(NAME.as_bytes()) {
            remove(&entry.path()).system(doing)?;
        }
    }
    Ok(())
}

/// Removes one, with all that is in it, and the limits of its project before its name: that there is
/// no such directory means that its project is bounded no more.
fn remove(path: &Path) -> io::Result<()> {
    let directory = match open_directory(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for _ in 0..ATTEMPTS {
        let mut is_empty = true;
        for entry in fs::read_dir(path)? {
            is_empty = false;
            remove_tree(directory.as_fd(), &entry?.file_name())?;
        }
        if is_empty {
            break;
        }
    }
    // One that has its parent's project was never given its own, whose limits are not ours.
    let project = quota::project_of(&directory)?;
    let parent = path.parent().map_or_else(|| open_directory(path), open_directory)?;
    if project != quota::project_of(parent)? {
        quota::limit(&directory, project, 0, 0)?;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn open_directory(path: &Path) -> io::Result<File> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    File::options().read(true).custom_flags(flags).open(path)
}
