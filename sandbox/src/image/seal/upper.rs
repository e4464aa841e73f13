//! The upper directory of a container that has ended, as the archive of a layer.
//!
//! Every directory is opened from the one above it and nothing is followed, so it does not matter
//! what a step has put where. Overlayfs copies a directory up as soon as anything in it is touched;
//! one that is as it was and has nothing new in it is left out, and so is what the container itself
//! put there to be mounted on: a step that changed nothing makes no layer.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::File,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat, readlinkat},
    sys::stat::{FileStat, Mode, SFlag, fstat, fstatat},
};

use super::attributes::{described, plain};
use crate::image::{
    archive::{Described, EntryPath, WHITEOUT, Writer, join},
    limits::ImportLimits,
    problem::Problem,
    unpack::{find_below, is_opaque, is_whiteout, kind},
};

/// Directories that every container is given, whatever its image has.
const GIVEN: [&[u8]; 8] = [b"dev", b"proc", b"sys", b"etc", b"run", b"tmp", b"var", b"workspace"];
/// What something is always mounted on, so that no step can have put anything there.
const COVERED: [&[u8]; 5] =
    [b"etc/hosts", b"etc/hostname", b"etc/resolv.conf", b"run/cofferdam", b"run/secrets"];
const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// A directory on the way to where the walk is.
struct Level {
    fd: OwnedFd,
    names: std::vec::IntoIter<OsString>,
    /// Bytes of the path above it.
    above: usize,
    /// What is written of it once anything in it is.
    pending: Option<Described>,
}

/// A walk through an upper directory.
pub(super) struct Upper<'a> {
    /// The layers that it lies over, highest first.
    below: &'a [BorrowedFd<'a>],
    limits: &'a ImportLimits,
    path: Vec<u8>,
    levels: Vec<Level>,
    /// Where files with several names were written first, by inode.
    links: HashMap<u64, Vec<u8>>,
    entries: u64,
    /// Bytes of names in memory.
    names: usize,
    /// Of which nothing is written.
    without: Vec<Vec<u8>>,
}

impl<'a> Upper<'a> {
    pub(super) fn new(below: &'a [BorrowedFd<'a>], limits: &'a ImportLimits) -> Self {
        let (path, levels, links) = (Vec::new(), Vec::new(), HashMap::new());
        Self { below, limits, path, levels, links, entries: 0, names: 0, without: Vec::new() }
    }

    /// Leaves out what is at these paths, which have no links in them.
    pub(super) fn without(mut self, paths: Vec<Vec<u8>>) -> Self {
        self.without = paths;
        self
    }

    /// Writes all that `root` holds.
    pub(super) fn write(mut self, root: OwnedFd, to: &mut Writer<'_>) -> Result<(), Problem> {
        let status = fstat(&root).map_err(read)?;
        let about = described(&status, &root, self.limits)?;
        self.enter(root, 0, Some(about))?;
        while let Some(level) = self.levels.last_mut() {
            match level.names.next() {
                Some(name) => self.entry(&name.into_vec(), to)?,
                None => {
                    let above = level.above;
                    self.levels.pop();
                    self.path.truncate(above);
                }
            }
        }
        Ok(())
    }

    fn enter(
        &mut self,
        fd: OwnedFd,
        above: usize,
        pending: Option<Described>,
    ) -> Result<(), Problem> {
        let mut names = Vec::new();
        for entry in Dir::from_fd(fd.try_clone().map_err(Problem::Read)?).map_err(read)?.iter() {
            let entry = entry.map_err(read)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            self.entries += 1;
            if self.entries > self.limits.entries {
                let limit = self.limits.entries;
                return Err(Problem::Limit { what: "files and directories", limit });
            }
            names.push(name.to_owned());
        }
        names.sort_unstable();
        self.levels.push(Level { fd, names: names.into_iter(), above, pending });
        Ok(())
    }

    fn entry(&mut self, name: &[u8], to: &mut Writer<'_>) -> Result<(), Problem> {
        let above = self.path.len();
        let path = join(&self.path, name);
        let Some(parent) = self.levels.last() else { return Ok(()) };
        if name.starts_with(WHITEOUT) {
            let why = "a name that begins with `.wh.` cannot be part of a layer";
            return Err(Problem::refused(&path, why));
        }
        if COVERED.contains(&path.as_slice()) || self.without.contains(&path) {
            return Ok(());
        }
        let status = fstatat(&parent.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(read)?;
        if is_whiteout(&status) {
            self.flush(to)?;
            return to.whiteout(&self.path, name);
        }
        match kind(&status) {
            SFlag::S_IFDIR => {
                let fd = openat(&parent.fd, name, DIRECTORY, Mode::empty()).map_err(read)?;
                self.directory(path, above, fd, &status, to)
            }
            SFlag::S_IFREG => {
                let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let file = openat(&parent.fd, name, flags, Mode::empty()).map_err(read)?;
                self.file(path, File::from(file), &status, to)
            }
            SFlag::S_IFLNK => {
                let target = readlinkat(&parent.fd, name).map_err(read)?;
                self.other(path, &status, to, |path, to| {
                    to.symbolic_link(path, &plain(&status), target.as_bytes())
                })
            }
            SFlag::S_IFIFO => {
                self.other(path, &status, to, |path, to| to.fifo(path, &plain(&status)))
            }
            // It is of use only to the process that made it.
            SFlag::S_IFSOCK => Ok(()),
            _ => Err(Problem::refused(&path, "a device cannot be part of a layer")),
        }
    }

    fn directory(
        &mut self,
        path: Vec<u8>,
        above: usize,
        fd: OwnedFd,
        status: &FileStat,
        to: &mut Writer<'_>,
    ) -> Result<(), Problem> {
        if self.levels.len() > self.limits.depth {
            let why = format!("it lies more than {} directories deep", self.limits.depth);
            return Err(Problem::refused(&path, why));
        }
        let about = described(status, &fd, self.limits)?;
        let opaque = is_opaque(&fd).map_err(read)?;
        let as_it_was = !opaque && self.is_as_it_was(&path, &about)?;
        if as_it_was {
            self.path = path;
            return self.enter(fd, above, Some(about));
        }
        self.flush(to)?;
        to.directory(&path, &about)?;
        if opaque {
            to.opaque(&path)?;
        }
        self.path = path;
        self.enter(fd, above, None)
    }

    /// Whether a directory says nothing that the layers below do not say.
    fn is_as_it_was(&self, path: &[u8], about: &Described) -> Result<bool, Problem> {
        let entry = EntryPath::parse(path, self.limits)?;
        let Some((parent, before)) = find_below(self.below, &entry).map_err(read)? else {
            return Ok(GIVEN.contains(&path));
        };
        if kind(&before) != SFlag::S_IFDIR {
            return Ok(false);
        }
        if path == b"workspace" {
            // Opened to all whenever a container is made.
            return Ok(true);
        }
        let name = entry.split().map(|(_, name)| name.to_vec()).unwrap_or_default();
        let fd = openat(&parent, name.as_slice(), DIRECTORY, Mode::empty()).map_err(read)?;
        let before = described(&before, &fd, self.limits)?;
        Ok(Described { mtime: about.mtime, ..before } == *about)
    }

    fn file(
        &mut self,
        path: Vec<u8>,
        mut file: File,
        status: &FileStat,
        to: &mut Writer<'_>,
    ) -> Result<(), Problem> {
        let about = described(status, file.as_fd(), self.limits)?;
        let size = u64::try_from(status.st_size).unwrap_or_default();
        let held = u64::try_from(status.st_blocks).unwrap_or_default().saturating_mul(512);
        self.other(path, status, to, |path, to| {
            to.file(path, &about, &mut file, (size, held < size))
        })
    }

    /// Anything but a directory: one more name for a file that was written, or what `write` does.
    fn other(
        &mut self,
        path: Vec<u8>,
        status: &FileStat,
        to: &mut Writer<'_>,
        write: impl FnOnce(&[u8], &mut Writer<'_>) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        self.flush(to)?;
        if status.st_nlink > 1 {
            if let Some(first) = self.links.get(&status.st_ino) {
                return to.hard_link(&path, &plain(status), first);
            }
            self.names += path.len();
            let limit = self.limits.directory_names;
            if self.names > limit {
                let what = "bytes of names of files with several names";
                return Err(Problem::Limit { what, limit: limit as u64 });
            }
            self.links.insert(status.st_ino, path.clone());
        }
        write(&path, to)
    }

    /// Writes the directories on the way to here that were not written yet.
    fn flush(&mut self, to: &mut Writer<'_>) -> Result<(), Problem> {
        let ends: Vec<usize> = self.levels.iter().skip(1).map(|level| level.above).collect();
        let ends = ends.into_iter().chain([self.path.len()]);
        for (level, end) in self.levels.iter_mut().zip(ends) {
            if let Some(about) = level.pending.take() {
                to.directory(self.path.get(..end).unwrap_or_default(), &about)?;
            }
        }
        Ok(())
    }
}

fn read(error: Errno) -> Problem {
    Problem::Read(error.into())
}
