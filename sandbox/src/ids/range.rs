//! Ranges of host ids that belong to nobody but one container.
//!
//! Each container of root gets 65 536 user and group ids of its own, so that two jobs share no id
//! even where the kernel compares the host's. The ranges lie above those that systemd hands out
//! (<https://systemd.io/UIDS-GIDS/>) and below 2³¹. Which range is whose is locked in a file of the
//! machine's, and the projects of disk quotas with them ([`super::numbers`]).

use std::{
    fs::File,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
    sync::Arc,
};

use super::numbers::{Number, Numbers};
use crate::{
    error::{Doing as _, Error, Result},
    lock_file,
};

/// Ids per range: 0 to 65 535 inside.
pub(crate) const SIZE: u32 = 65_536;
/// First id of the first range.
const FIRST: u32 = 0x7000_0000;
/// Number of ranges: up to, and not into, systemd's "foreign" range at 0x7FFE_0000.
const COUNT: u32 = 0xFFE;
/// The byte of the lock file that stands for the first project of disk quotas; the first range is at 0.
const PROJECTS_BYTE: u32 = 0x1_0000;
/// Number of projects: a room may outlive its container as what others start from.
const PROJECTS: u32 = 0x4000;

/// The machine's ranges, as this process sees them.
#[derive(Clone, Debug)]
pub(crate) struct IdRanges {
    file: Arc<File>,
    ranges: Numbers,
    projects: Numbers,
}

/// One range, given back when dropped.
#[derive(Debug)]
pub(crate) struct IdRange(Number);

impl IdRange {
    /// Which of the machine's ranges it is, from 0 to 4093.
    pub(crate) fn number(&self) -> u32 {
        self.0.value()
    }

    /// The host id that id 0 of the container is.
    pub(crate) fn first(&self) -> u32 {
        FIRST + self.number() * SIZE
    }
}

impl IdRanges {
    /// Opens the lock file `ids.lock` in `directory`, which is the same for all of the machine.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let path = directory.join("ids.lock");
        let file = std::fs::create_dir_all(directory)
            .and_then(|()| lock_file::open(&path))
            .system(|| format!("open the lock file of the id ranges `{}`", path.display()))?;
        let file = Arc::new(file);
        let ranges = Numbers::new(Arc::clone(&file), 0, COUNT);
        let projects = Numbers::new(Arc::clone(&file), PROJECTS_BYTE, PROJECTS);
        Ok(Self { file, ranges, projects })
    }

    /// Takes a range that no container on this machine uses.
    pub(crate) fn acquire(&self) -> Result<IdRange> {
        let found = self.ranges.acquire(|_| Ok(true)).system(|| "lock a range of ids")?;
        found.map(IdRange).ok_or_else(|| {
            Error::system("find a free range of ids", format!("all {COUNT} are in use"))
                .remedy("wait until other runs have ended")
        })
    }

    /// The numbers of those that this process has taken and not given back.
    pub(crate) fn held(&self) -> Vec<u32> {
        self.ranges.held()
    }

    /// The machine's projects of disk quotas.
    pub(crate) fn projects(&self) -> &Numbers {
        &self.projects
    }

    /// The file whose description holds the locks, to be shared with the spawner.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_disjoint_within_and_between_processes() {
        let directory = tempfile::tempdir().unwrap();
        let ours = IdRanges::open(directory.path()).unwrap();
        // A second open file description stands for a second process.
        let theirs = IdRanges::open(directory.path()).unwrap();
        let held: Vec<IdRange> =
            (0..50).flat_map(|_| [ours.acquire().unwrap(), theirs.acquire().unwrap()]).collect();
        let mut firsts: Vec<u32> = held.iter().map(IdRange::first).collect();
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts.len(), 100);
        assert!(firsts.windows(2).all(|pair| pair[1] - pair[0] >= SIZE));
        assert!(firsts.iter().all(|first| *first >= 0x7000_0000 && *first < 0x7FFE_0000));
    }

    #[test]
    fn a_dropped_range_can_be_taken_again() {
        let directory = tempfile::tempdir().unwrap();
        let ranges = IdRanges::open(directory.path()).unwrap();
        let all: Vec<IdRange> = (0..COUNT).map(|_| ranges.acquire().unwrap()).collect();
        let error = ranges.acquire().unwrap_err();
        assert!(error.remedy_text().is_some());
        drop(all);
        ranges.acquire().unwrap();
    }
}
