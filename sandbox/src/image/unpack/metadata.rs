//! Owner, mode and time of what is unpacked, given by descriptor or to what no link leads to.

use std::os::fd::BorrowedFd;

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, futimens},
    sys::time::TimeSpec,
    unistd::{Gid, Uid, fchown, fchownat},
};

use super::tree::kind;
use crate::{ids, image::archive::Entry};

/// Owner, mode and time of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
    pub(super) mtime: (i64, u32),
}

impl Metadata {
    /// A directory that no layer describes: root's, open to all, and the same at every import.
    pub(super) const DEFAULT: Self = Self { uid: 0, gid: 0, mode: 0o755, mtime: (0, 0) };

    pub(super) fn of(entry: &Entry) -> Self {
        Self { uid: entry.uid, gid: entry.gid, mode: entry.mode, mtime: entry.mtime }
    }

    pub(super) fn of_file(stat: &FileStat) -> Self {
        Self {
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode & 0o7777,
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default()),
        }
    }

    /// Whose a file has to become; whoever makes it is root of the image.
    fn owners(&self) -> Option<(Uid, Gid)> {
        // So most files ask nothing of the kernel.
        if (self.uid, self.gid) == (0, 0) {
            return None;
        }
        let (uid, gid) = (ids::owner(self.uid)?, ids::owner(self.gid)?);
        ((uid, gid) != (0, 0)).then(|| (Uid::from_raw(uid), Gid::from_raw(gid)))
    }

    pub(super) fn time(&self) -> TimeSpec {
        // The kernel clamps to what the file system can hold; nanoseconds are below 10^9.
        TimeSpec::new(self.mtime.0, i64::from(self.mtime.1))
    }

    /// Gives an open file its owner, mode and time.
    pub(super) fn give(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        // The owner first: changing it clears the set-user-id bit.
        if let Some((uid, gid)) = self.owners() {
            fchown(file, Some(uid), Some(gid))?;
        }
        let mode = self.mode & 0o7777;
        // Asking is much cheaper than changing, and most files were made as they shall be.
        if fstat(file)?.st_mode & 0o7777 != mode {
            fchmod(file, Mode::from_bits_truncate(mode))?;
        }
        futimens(file, &self.time(), &self.time())
    }

    /// Gives something that cannot be opened, such as a symbolic link, its owner.
    pub(super) fn give_owner_at(&self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        let Some((uid, gid)) = self.owners() else { return Ok(()) };
        fchownat(parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    /// Gives a hard link what its own entry says, and with it the file: whoever makes images sees them
    /// in engines that do so (containerd's and Docker's `createTarFile`). Honest entries say what the
    /// file has, which asks for nothing more than a look.
    pub(super) fn give_link(&self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        let stat = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let has = Self::of_file(&stat);
        let owner = |id: u32, has: u32| ids::owner(id).unwrap_or(has);
        let (uid, gid) = (owner(self.uid, has.uid), owner(self.gid, has.gid));
        let wanted = Self { uid, gid, mode: self.mode & 0o7777, ..*self };
        // The mode and time of a symbolic link say nothing.
        let is_symlink = kind(&stat) == SFlag::S_IFLNK;
        if wanted == has || is_symlink && (uid, gid) == (has.uid, has.gid) {
            return Ok(());
        }
        let (user, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        fchownat(parent, name, user, group, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if is_symlink {
            return Ok(());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(parent, name, flags, Mode::empty())?;
        fchmod(&file, Mode::from_bits_truncate(wanted.mode))?;
        futimens(&file, &wanted.time(), &wanted.time())
    }
}
