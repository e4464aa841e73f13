//! What files are copied from: a directory of the host, the files of an image, or texts.
//!
//! Each is hostile: nothing is followed, and everything is opened beneath its root.

use std::{
    ffi::OsStr,
    fs::File,
    io::Read as _,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, open, openat, readlinkat},
    sys::stat::{FileStat, Mode, SFlag, fstatat},
};

use super::{
    attributes::{described, plain},
    copy::CopyFrom,
    links,
    place::status,
};
use crate::{
    image::{
        Image,
        archive::{Described, EntryPath, join},
        limits::ImportLimits,
        merged::Walk,
        problem::Problem,
        store::LayerDir,
        unpack::{find_below, kind},
    },
    sys::beneath::open_beneath,
};

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
const FILE: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC);
/// Largest file that is read as a text.
const TEXT: u64 = 1024 * 1024;

/// Where files come from, open.
pub(super) enum Source<'a> {
    Directory(OwnedFd, &'a (dyn Fn(&Path, bool) -> bool + Sync)),
    Image(&'a Image, Vec<BorrowedFd<'a>>),
    Files(&'a [(String, Vec<u8>)]),
    Link(&'a str),
}

/// A file that was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// In its source, without links.
    pub(super) path: Vec<u8>,
    pub(super) kind: SFlag,
    pub(super) size: u64,
    /// Of a symbolic link.
    pub(super) target: Vec<u8>,
    about: Described,
}

/// Hears of files, each with its path relative to where the walk began.
pub(super) type Tell<'a> = dyn FnMut(&[u8], &Found) -> Result<(), Problem> + 'a;

/// What a file holds.
pub(super) enum Content<'a> {
    File(File),
    Bytes(&'a [u8]),
}

impl Found {
    fn new(
        path: Vec<u8>,
        status: &FileStat,
        parent: &OwnedFd,
        name: &OsStr,
    ) -> Result<Self, Problem> {
        let kind = kind(status);
        let target = match kind {
            SFlag::S_IFLNK => readlinkat(parent, name).map_err(read)?.as_bytes().to_vec(),
            _ => Vec::new(),
        };
        let size = match kind {
            SFlag::S_IFREG => u64::try_from(status.st_size).unwrap_or_default(),
            _ => 0,
        };
        Ok(Self { path, kind, size, target, about: plain(status) })
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind == SFlag::S_IFDIR
    }

    /// With the attributes that an image's files have.
    pub(super) fn described(
        &self,
        source: &Source<'_>,
        limits: &ImportLimits,
    ) -> Result<Described, Problem> {
        let Source::Image(_, roots) = source else { return Ok(self.about.clone()) };
        let flags = match self.kind {
            SFlag::S_IFDIR => DIRECTORY,
            SFlag::S_IFREG => FILE,
            _ => return Ok(self.about.clone()),
        };
        let Some((parent, found)) = status(roots, &self.path, limits)? else {
            return Ok(self.about.clone());
        };
        let name = self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let file = openat(&parent, name, flags, Mode::empty()).map_err(read)?;
        described(&found, &file, limits)
    }
}

impl<'a> Source<'a> {
    pub(super) fn open(from: CopyFrom<'a>) -> Result<Self, Problem> {
        Ok(match from {
            CopyFrom::Directory(path, selects) => {
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                Self::Directory(open(path, flags, Mode::empty()).map_err(read)?, selects)
            }
            CopyFrom::Image(image) => {
                Self::Image(image, image.layers.iter().rev().map(LayerDir::as_fd).collect())
            }
            CopyFrom::Files(files) => Self::Files(files),
            CopyFrom::Link(target) => Self::Link(target),
        })
    }

    pub(super) fn is_image(&self) -> bool {
        matches!(self, Self::Image(..))
    }

    /// Finds what is at `path`, through symbolic links that stay within the source.
    pub(super) fn find(
        &self,
        path: &Path,
        limits: &ImportLimits,
    ) -> Result<Option<Found>, Problem> {
        let bytes = path.as_os_str().as_bytes();
        match self {
            Self::Files(files) => {
                let file = files.iter().find(|(name, _)| name.as_bytes() == bytes);
                Ok(file.map(|(name, content)| Found {
                    path: name.clone().into_bytes(),
                    kind: SFlag::S_IFREG,
                    size: content.len() as u64,
                    target: Vec::new(),
                    about: Described { mode: 0o644, ..Described::default() },
                }))
            }
            Self::Link(target) => Ok(Some(Found {
                path: bytes.to_vec(),
                kind: SFlag::S_IFLNK,
                size: 0,
                target: target.as_bytes().to_vec(),
                about: Described { mode: 0o777, ..Described::default() },
            })),
            Self::Image(_, roots) => {
                let Some(found) = links::in_image(roots, bytes, limits)? else { return Ok(None) };
                if found.is_empty() {
                    return Ok(Some(root()));
                }
                match status(roots, &found, limits)? {
                    Some((parent, status)) => {
                        let name = found.rsplit(|byte| *byte == b'/').next();
                        let name = OsStr::from_bytes(name.unwrap_or_default()).to_owned();
                        Found::new(found, &status, &parent, &name).map(Some)
                    }
                    None => Ok(None),
                }
            }
            Self::Directory(fd, _) => {
                // What is wrong with it as it is written is said first.
                EntryPath::parse(if bytes.is_empty() { b"." } else { bytes }, limits)?;
                let Some(found) = links::in_directory(fd, bytes)? else { return Ok(None) };
                let safe = EntryPath::parse(if found.is_empty() { b"." } else { &found }, limits)?;
                let Some((above, name)) = safe.split() else { return Ok(Some(root())) };
                let above = if above.is_root() { b"." } else { above.as_bytes() };
                let parent = open_beneath(fd.as_fd(), OsStr::from_bytes(above), DIRECTORY);
                let parent = parent.map_err(Problem::Read)?;
                match fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                    Err(Errno::ENOENT) => Ok(None),
                    other => {
                        let (status, name) = (other.map_err(read)?, OsStr::from_bytes(name));
                        Found::new(safe.as_bytes().to_vec(), &status, &parent, name).map(Some)
                    }
                }
            }
        }
    }

    /// Tells all that is below the directory `from`, with the path relative to that.
    pub(super) fn walk(
        &self,
        from: &[u8],
        limits: &ImportLimits,
        tell: &mut Tell<'_>,
    ) -> Result<(), Problem> {
        self.walk_to(from, usize::MAX, limits, tell)
    }

    /// As [`Self::walk`], and tells of no path with more than `parts` components.
    pub(super) fn walk_to(
        &self,
        from: &[u8],
        parts: usize,
        limits: &ImportLimits,
        tell: &mut Tell<'_>,
    ) -> Result<(), Problem> {
        match self {
            Self::Files(_) | Self::Link(_) => Ok(()),
            Self::Image(image, _) => {
                let from = PathBuf::from(OsStr::from_bytes(from));
                let mut walk = Walk::below(image, &from, parts).map_err(Problem::from_error)?;
                while let Some(entry) = walk.next_entry().map_err(Problem::from_error)? {
                    let Ok(below) = entry.path.strip_prefix(&from) else { continue };
                    if below.as_os_str().is_empty() {
                        continue;
                    }
                    let path = entry.path.as_os_str().as_bytes().to_vec();
                    let found = Found::new(path, &entry.status, entry.parent(), entry.name())?;
                    tell(below.as_os_str().as_bytes(), &found)?;
                }
                Ok(())
            }
            Self::Directory(root, selects) => {
                walk_directory(root, selects, (from, parts), limits, tell)
            }
        }
    }

    /// Hands what the file at `path` holds to `take`.
    pub(super) fn content<T>(
        &self,
        path: &[u8],
        take: impl FnOnce(Content<'_>) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let gone = || Problem::refused(path, "it is gone");
        match self {
            Self::Link(_) => Err(gone()),
            Self::Files(files) => {
                let file = files.iter().find(|(name, _)| name.as_bytes() == path);
                take(Content::Bytes(file.map(|(_, content)| content.as_slice()).ok_or_else(gone)?))
            }
            Self::Directory(root, _) => {
                let file = open_beneath(root.as_fd(), OsStr::from_bytes(path), FILE);
                take(Content::File(File::from(file.map_err(Problem::Read)?)))
            }
            Self::Image(_, roots) => {
                let limits = ImportLimits::default();
                let entry = EntryPath::parse(path, &limits)?;
                let (parent, _) = find_below(roots, &entry).map_err(read)?.ok_or_else(gone)?;
                let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                let file = openat(&parent, name, FILE, Mode::empty()).map_err(read)?;
                take(Content::File(File::from(file)))
            }
        }
    }
}

/// Walks a directory of the host without recursion, opening each directory beneath the root.
fn walk_directory(
    root: &OwnedFd,
    selects: &(dyn Fn(&Path, bool) -> bool + Sync),
    (from, parts): (&[u8], usize),
    limits: &ImportLimits,
    tell: &mut Tell<'_>,
) -> Result<(), Problem> {
    let mut waiting = vec![(from.to_vec(), Vec::new(), 0)];
    let mut entries = 0;
    while let Some((path, below, depth)) = waiting.pop() {
        if depth > limits.depth {
            let why = format!("it lies more than {} directories deep", limits.depth);
            return Err(Problem::refused(&path, why));
        }
        let name: &[u8] = if path.is_empty() { b"." } else { &path };
        let directory = open_beneath(root.as_fd(), OsStr::from_bytes(name), DIRECTORY);
        let directory = directory.map_err(Problem::Read)?;
        let again = directory.try_clone().map_err(Problem::Read)?;
        for entry in Dir::from_fd(again).map_err(read)?.iter() {
            let entry = entry.map_err(read)?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            entries += 1;
            if entries > limits.entries {
                let limit = limits.entries;
                return Err(Problem::Limit { what: "files and directories", limit });
            }
            let status = fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(read)?;
            let (path, below) = (join(&path, name), join(&below, name));
            let is_directory = kind(&status) == SFlag::S_IFDIR;
            if selects(Path::new(OsStr::from_bytes(&path)), is_directory) {
                let name = OsStr::from_bytes(name);
                let found = Found::new(path.clone(), &status, &directory, name)?;
                tell(&below, &found)?;
            }
            if is_directory && path.split(|byte| *byte == b'/').count() < parts {
                waiting.push((path, below, depth + 1));
            }
        }
    }
    Ok(())
}

/// The root of a source.
fn root() -> Found {
    Found {
        path: Vec::new(),
        kind: SFlag::S_IFDIR,
        size: 0,
        target: Vec::new(),
        about: Described { mode: 0o755, ..Described::default() },
    }
}

/// The directory `name` of an open one.
pub(super) fn open_directory(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Problem> {
    openat(parent, name, DIRECTORY, Mode::empty()).map_err(read)
}

/// The regular file at a path without links, as text; empty where there is none.
pub(super) fn text(
    roots: &[BorrowedFd<'_>],
    path: &[u8],
    limits: &ImportLimits,
) -> Result<String, Problem> {
    let Some((parent, found)) = status(roots, path, limits)? else { return Ok(String::new()) };
    if kind(&found) != SFlag::S_IFREG {
        return Ok(String::new());
    }
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let file = openat(&parent, name, FILE, Mode::empty()).map_err(read)?;
    let mut bytes = Vec::new();
    File::from(file).take(TEXT).read_to_end(&mut bytes).map_err(Problem::Read)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read(error: Errno) -> Problem {
    Problem::Read(error.into())
}
