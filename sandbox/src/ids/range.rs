//! Ranges of host ids that belong to nobody but one container.
//!
//! Each container of root gets 65 536 user and group ids of its own, so that two jobs share no id
//! even where the kernel compares the host's. The ranges lie above those that systemd hands out
//! (<https://systemd.io/UIDS-GIDS/>) and below 2³¹. A range is held by a lock on one byte of a
//! file that all Cofferdam processes of the machine share: an open file description lock
//! (`F_OFD_SETLK`, fcntl(2)), shared with the spawner, so that it outlives a killed runner until
//! the spawner has ended that runner's containers.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use nix::fcntl::{FcntlArg, fcntl};

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

/// The machine's ranges, as this process sees them.
#[derive(Clone, Debug)]
pub(crate) struct IdRanges {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    file: File,
    /// Ranges held by this process: its own locks do not exclude each other.
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    taken: Vec<bool>,
    next: u32,
}

/// One range, given back when dropped.
#[derive(Debug)]
pub(crate) struct IdRange {
    shared: Arc<Shared>,
    slot: u32,
}

impl IdRange {
    /// Which of the machine's ranges it is, from 0 to 4093.
    pub(crate) fn number(&self) -> u32 {
        self.slot
    }

    /// The host id that id 0 of the container is.
    pub(crate) fn first(&self) -> u32 {
        FIRST + self.slot * SIZE
    }
}

impl IdRanges {
    /// Opens the lock file `ids.lock` in `directory`, which is the same for all of the machine.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let path = directory.join("ids.lock");
        let file = std::fs::create_dir_all(directory)
            .and_then(|()| lock_file::open(&path))
            .system(|| format!("open the lock file of the id ranges `{}`", path.display()))?;
        let held = Held { taken: vec![false; COUNT as usize], next: std::process::id() % COUNT };
        Ok(Self { shared: Arc::new(Shared { file, held: Mutex::new(held) }) })
    }

    /// Takes a range that no container on this machine uses.
    pub(crate) fn acquire(&self) -> Result<IdRange> {
        let mut held = self.shared.held.lock().unwrap_or_else(PoisonError::into_inner);
        for offset in 0..COUNT {
            let slot = (held.next + offset) % COUNT;
            let Some(taken) = held.taken.get_mut(slot as usize) else { continue };
            if *taken {
                continue;
            }
            if lock(&self.shared.file, slot, libc::F_WRLCK).system(|| "lock a range of ids")? {
                *taken = true;
                held.next = (slot + 1) % COUNT;
                drop(held);
                return Ok(IdRange { shared: Arc::clone(&self.shared), slot });
            }
        }
        Err(Error::system("find a free range of ids", format!("all {COUNT} are in use"))
            .remedy("wait until other runs have ended"))
    }

    /// The numbers of those that this process has taken and not given back.
    pub(crate) fn held(&self) -> Vec<u32> {
        let held = self.shared.held.lock().unwrap_or_else(PoisonError::into_inner);
        (0..).zip(&held.taken).filter(|(_, taken)| **taken).map(|(slot, _)| slot).collect()
    }

    /// The file whose description holds the locks, to be shared with the spawner.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.shared.file.as_fd()
    }
}

impl Drop for IdRange {
    fn drop(&mut self) {
        let mut held = self.shared.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = held.taken.get_mut(self.slot as usize) {
            *taken = false;
        }
        if let Err(error) = lock(&self.shared.file, self.slot, libc::F_UNLCK) {
            tracing::warn!(slot = self.slot, %error, "cannot give back a range of ids");
        }
    }
}

/// Locks or unlocks the byte `slot`; `false` when another process holds it.
fn lock(file: &File, slot: u32, kind: libc::c_int) -> io::Result<bool> {
    let request = libc::flock {
        l_type: i16::try_from(kind).unwrap_or(i16::MAX),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap_or(0),
        l_start: slot.into(),
        l_len: 1,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&request)) {
        Ok(_) => Ok(true),
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
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
