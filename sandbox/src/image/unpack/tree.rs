//! The directory being filled: creates, replaces and finishes entries by descriptor.
//!
//! Parents are resolved with `openat2` and are never symbolic links. A new file is opened with
//! `O_EXCL | O_NOFOLLOW`, what stood there is unlinked first, and metadata goes to the descriptor
//! just created. Directories get their metadata last, or their times would not last and a closed
//! one would bar its own children.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    sync::Arc,
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat, renameat},
    sys::stat::{FileStat, Mode, SFlag, fstatat, mkdirat, mknodat},
    unistd::{UnlinkatFlags, unlinkat},
};

use super::metadata::Metadata;
use crate::{
    image::{archive::EntryPath, limits::ImportLimits, problem::Problem},
    removal,
    sys::beneath::{open_beneath, set_attribute},
};

/// The attribute that makes a directory hide those below it, on a mount with `userxattr`.
pub(super) const OPAQUE: &std::ffi::CStr = c"user.overlay.opaque";

const PARENT: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);

/// A layer's root directory while entries are added to it.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    root: OwnedFd,
    limits: &'a ImportLimits,
    /// The last parent that was opened: entries of one directory follow each other.
    parent: Option<(EntryPath, Arc<OwnedFd>)>,
    /// Metadata of the directories that the archive describes, applied by [`Self::finish`].
    directories: HashMap<EntryPath, Metadata>,
    /// Directories that had to be made but that the archive does not describe.
    implied: HashSet<EntryPath>,
    /// Hard links to files that this layer does not hold: they lie in a layer below.
    foreign: Vec<ForeignLink>,
    /// What later entries replaced, in that order: its path, and how many files the archive's
    /// recipe had then. It is kept, because the archive has it.
    replaced: Vec<(Vec<u8>, u64)>,
    /// Where it is kept, under its number; where there is none it is removed.
    keep: Option<OwnedFd>,
    recorded: u64,
    /// Bytes of names in the collections above.
    names: usize,
}

/// A hard link to a file that lies in a layer below, until those are known.
#[derive(Debug)]
pub(super) struct ForeignLink {
    pub(super) path: EntryPath,
    pub(super) target: EntryPath,
    pub(super) metadata: Metadata,
}

impl<'a> Tree<'a> {
    /// Begins to fill the empty directory `root`.
    pub(crate) fn new(root: OwnedFd, limits: &'a ImportLimits) -> Self {
        Self {
            root,
            limits,
            parent: None,
            directories: HashMap::new(),
            implied: HashSet::new(),
            foreign: Vec::new(),
            replaced: Vec::new(),
            keep: None,
            recorded: 0,
            names: 0,
        }
    }

    /// Keeps what is replaced in the directory `keep`.
    pub(crate) fn keeping(mut self, keep: OwnedFd) -> Self {
        self.keep = Some(keep);
        self
    }

    /// Tells how many files the archive's recipe has.
    pub(super) fn reached(&mut self, recorded: u64) {
        self.recorded = recorded;
    }

    /// What was replaced, see [`Self::keeping`].
    pub(crate) fn replaced(&self) -> &[(Vec<u8>, u64)] {
        &self.replaced
    }

    /// Takes what stands at `name` out of the way.
    fn clear(
        &mut self,
        path: &EntryPath,
        parent: BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<(), Problem> {
        // A directory that goes may be the one that is cached, or lie above it.
        self.parent = None;
        let write = |error: io::Error| Problem::write(path.as_bytes(), error);
        let Some(keep) = &self.keep else {
            return removal::remove_tree(parent, OsStr::from_bytes(name)).map_err(write);
        };
        let number = self.replaced.len().to_string();
        renameat(parent, name, keep, number.as_str()).map_err(|error| write(error.into()))?;
        self.replaced.push((path.as_bytes().to_vec(), self.recorded));
        self.remember(path.as_bytes().len())
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Whether the layer can be shared by images that have different layers below it.
    pub(crate) fn stands_alone(&self) -> bool {
        self.implied.is_empty() && self.foreign.is_empty()
    }

    /// Takes the hard links that this layer cannot resolve.
    pub(super) fn take_foreign(&mut self) -> Vec<ForeignLink> {
        std::mem::take(&mut self.foreign)
    }

    /// Takes the directories that were made and not described.
    pub(super) fn take_implied(&mut self) -> Vec<EntryPath> {
        let mut implied: Vec<_> = self.implied.drain().collect();
        implied.sort_unstable();
        implied
    }

    /// Opens the directory `path`, making those above it and itself where the archive left them
    /// out; a symbolic link on the way is refused.
    pub(super) fn open_directory(&mut self, path: &EntryPath) -> Result<Arc<OwnedFd>, Problem> {
        if let Some((cached, fd)) = &self.parent
            && cached == path
        {
            return Ok(Arc::clone(fd));
        }
        let name =
            if path.is_root() { OsStr::new(".") } else { OsStr::from_bytes(path.as_bytes()) };
        let fd = match open_beneath(self.root.as_fd(), name, PARENT) {
            Ok(fd) => fd,
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => self.make_directories(path)?,
                Some(libc::ELOOP) => {
                    let why = "a directory above it is a symbolic link";
                    return Err(Problem::refused(path.as_bytes(), why));
                }
                _ => return Err(Problem::write(path.as_bytes(), error)),
            },
        };
        let fd = Arc::new(fd);
        self.parent = Some((path.clone(), Arc::clone(&fd)));
        Ok(fd)
    }

    /// Opens the directory `path` if this layer holds it.
    pub(super) fn find_directory(&self, path: &EntryPath) -> Result<Option<OwnedFd>, Problem> {
        let name = if path.is_root() { b"." } else { path.as_bytes() };
        match open_beneath(self.root.as_fd(), OsStr::from_bytes(name), PARENT) {
            Ok(fd) => Ok(Some(fd)),
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT) => Ok(None),
                Some(libc::ENOTDIR | libc::ELOOP) => Err(Problem::refused(
                    path.as_bytes(),
                    "something on the way to it is no directory",
                )),
                _ => Err(Problem::write(path.as_bytes(), error)),
            },
        }
    }

    fn make_directories(&mut self, path: &EntryPath) -> Result<OwnedFd, Problem> {
        let write = |error: Errno| Problem::write(path.as_bytes(), error);
        let mut reached = EntryPath::parse(b".", self.limits)?;
        let mut fd = open_beneath(self.root.as_fd(), ".", PARENT)
            .map_err(|error| Problem::write(path.as_bytes(), error))?;
        for component in path.components() {
            reached = reached.join(component);
            let flags = PARENT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let opened = openat(&fd, component, flags, Mode::empty());
            fd = match opened {
                Ok(next) => next,
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                    let whiteout = match self.stat(fd.as_fd(), component).map_err(write)? {
                        None => false,
                        Some(stat) if is_whiteout(&stat) => true,
                        Some(_) => {
                            let why = format!(
                                "`{}` above it is no directory",
                                crate::image::problem::shown(reached.as_bytes())
                            );
                            return Err(Problem::refused(path.as_bytes(), why));
                        }
                    };
                    if whiteout {
                        unlinkat(&fd, component, UnlinkatFlags::NoRemoveDir).map_err(write)?;
                    }
                    mkdirat(&fd, component, Mode::S_IRWXU).map_err(write)?;
                    let made = openat(&fd, component, flags, Mode::empty()).map_err(write)?;
                    if whiteout {
                        self.set_opaque(fd.as_fd(), component, &reached)?;
                    }
                    self.remember(reached.as_bytes().len())?;
                    self.implied.insert(reached.clone());
                    made
                }
                Err(error) => return Err(write(error)),
            };
        }
        Ok(fd)
    }

    /// Counts a name that is kept in memory.
    fn remember(&mut self, bytes: usize) -> Result<(), Problem> {
        // An allocation, the hash table's slot and the metadata weigh about this much each.
        const OVERHEAD: usize = 96;
        self.names += bytes + OVERHEAD;
        let limit = self.limits.directory_names;
        if self.names > limit {
            return Err(Problem::Limit { what: "bytes of directory names", limit: limit as u64 });
        }
        Ok(())
    }

    /// What stands at `name`, without following it.
    pub(super) fn stat(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<Option<FileStat>, Errno> {
        match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Runs `create`, which must fail with `EEXIST` where something stands; that is then removed,
    /// directories with all they hold, and `create` runs once more.
    pub(super) fn replace<T>(
        &mut self,
        path: &EntryPath,
        parent: BorrowedFd<'_>,
        name: &[u8],
        mut create: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, Problem> {
        match create() {
            Err(Errno::EEXIST) => {
                self.clear(path, parent, name)?;
                create().map_err(|error| Problem::write(path.as_bytes(), error))
            }
            other => other.map_err(|error| Problem::write(path.as_bytes(), error)),
        }
    }

    /// Makes a directory that the archive describes, or takes the one that is there.
    pub(super) fn add_directory(
        &mut self,
        path: &EntryPath,
        metadata: Metadata,
    ) -> Result<(), Problem> {
        if let Some((above, name)) = path.split() {
            let parent = self.open_directory(&above)?;
            let write = |error: Errno| Problem::write(path.as_bytes(), error);
            match self.stat(parent.as_fd(), name).map_err(write)? {
                Some(stat) if is_directory(&stat) => {}
                Some(stat) => {
                    self.clear(path, parent.as_fd(), name)?;
                    mkdirat(&*parent, name, Mode::S_IRWXU).map_err(write)?;
                    if is_whiteout(&stat) {
                        self.set_opaque(parent.as_fd(), name, path)?;
                    }
                }
                None => mkdirat(&*parent, name, Mode::S_IRWXU).map_err(write)?,
            }
        }
        self.implied.remove(path);
        self.describe(path, metadata)
    }

    /// Sets the metadata that a directory gets in the end.
    pub(super) fn describe(&mut self, path: &EntryPath, metadata: Metadata) -> Result<(), Problem> {
        if self.directories.insert(path.clone(), metadata).is_none() {
            self.remember(path.as_bytes().len())?;
        }
        Ok(())
    }

    /// Keeps a hard link whose target this layer does not hold until the layers below are known.
    pub(super) fn add_foreign_link(&mut self, link: ForeignLink) -> Result<(), Problem> {
        self.remember(link.path.as_bytes().len() + link.target.as_bytes().len())?;
        self.foreign.push(link);
        Ok(())
    }

    /// Hides `name` of the layers below. What this same layer holds there stays: a whiteout only
    /// speaks of layers below (OCI image specification, "Whiteouts").
    pub(super) fn add_whiteout(&mut self, above: &EntryPath, name: &[u8]) -> Result<(), Problem> {
        let path = above.join(name);
        let parent = self.open_directory(above)?;
        let write = |error: Errno| Problem::write(path.as_bytes(), error);
        match self.stat(parent.as_fd(), name).map_err(write)? {
            Some(stat) if is_directory(&stat) => self.set_opaque(parent.as_fd(), name, &path),
            Some(_) => Ok(()),
            None => {
                // The device number 0:0 needs no privilege (since Linux 5.8).
                mknodat(&*parent, name, SFlag::S_IFCHR, Mode::empty(), 0).map_err(write)
            }
        }
    }

    /// Hides everything that the layers below hold in `directory`.
    pub(super) fn add_opaque(&mut self, directory: &EntryPath) -> Result<(), Problem> {
        let Some((above, name)) = directory.split() else {
            // The root has no parent to open it from.
            return set_attribute(self.root.as_fd(), OPAQUE, b"y")
                .map_err(|error| Problem::write(b".", error));
        };
        // Opening makes the directory where the archive has not mentioned it yet.
        self.open_directory(directory)?;
        let parent = self.open_directory(&above)?;
        self.set_opaque(parent.as_fd(), name, directory)
    }

    fn set_opaque(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &EntryPath,
    ) -> Result<(), Problem> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(parent, name, flags, Mode::empty())
            .map_err(|error| Problem::write(path.as_bytes(), error))?;
        set_attribute(fd.as_fd(), OPAQUE, b"y")
            .map_err(|error| Problem::write(path.as_bytes(), error))
    }

    /// Applies the metadata of all directories and gives back the root.
    pub(crate) fn finish(mut self) -> Result<OwnedFd, Problem> {
        let root = EntryPath::parse(b".", self.limits)?;
        self.directories.entry(root).or_insert(Metadata::DEFAULT);
        let mut directories: Vec<_> = std::mem::take(&mut self.directories).into_iter().collect();
        // Children before parents: a parent may be closed to its owner afterwards.
        directories.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
        for (path, metadata) in directories {
            let write = |error: io::Error| Problem::write(path.as_bytes(), error);
            let name = if path.is_root() { b"." } else { path.as_bytes() };
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            let fd = match open_beneath(self.root.as_fd(), OsStr::from_bytes(name), flags) {
                Ok(fd) => File::from(fd),
                // A later entry put something else in its place.
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)
                    ) =>
                {
                    continue;
                }
                Err(error) => return Err(write(error)),
            };
            metadata.give(fd.as_fd()).map_err(|error| write(error.into()))?;
        }
        Ok(self.root)
    }
}

pub(super) fn is_directory(stat: &FileStat) -> bool {
    kind(stat) == SFlag::S_IFDIR
}

/// Whether this is a character device 0:0, overlayfs's mark for "deleted here".
pub(crate) fn is_whiteout(stat: &FileStat) -> bool {
    kind(stat) == SFlag::S_IFCHR && stat.st_rdev == 0
}

pub(crate) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}
