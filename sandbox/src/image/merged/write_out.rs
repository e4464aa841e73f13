//! Writes the files of an image into a directory, for tools that know nothing of layers.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::{self, File},
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{AtFlags, OFlag, open, openat},
    sys::stat::{
        FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, mkdirat, mknodat, utimensat,
    },
    sys::time::TimeSpec,
    unistd::{Gid, Uid, fchownat, linkat, symlinkat},
};

use super::{Entry, Walk};
use crate::{
    Error, Result,
    error::Doing as _,
    ids,
    image::{Image, unpack::copy_attributes},
    sys::beneath::open_beneath,
};

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Files, directories, links and all else.
    pub entries: u64,
    /// Bytes of regular files; those with several names count once.
    pub bytes: u64,
}

impl Image {
    /// Writes all files into `directory`, which must be empty or missing. Owners are kept where
    /// this process is root, and are the caller otherwise.
    ///
    /// # Errors
    /// With [`crate::Fault::Pipeline`] when the directory is not empty; what was written stays
    /// when something fails later.
    pub fn write_out(&self, directory: &Path) -> Result<Written> {
        self.fill(directory)?.finish()
    }

    /// Writes everything but what directories are to be in the end.
    pub(in crate::image) fn fill(&self, directory: &Path) -> Result<Filled> {
        let doing = || format!("write the image to `{}`", directory.display());
        fs::create_dir_all(directory).pipeline(doing)?;
        if fs::read_dir(directory).pipeline(doing)?.next().is_some() {
            let why = "the directory is not empty";
            return Err(Error::pipeline(doing(), why).remedy("name an empty or new directory"));
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(directory, flags, Mode::empty()).pipeline(doing)?;
        let mut target = Target { root, is_root: ids::is_root(), links: HashMap::new() };
        let mut written = Written::default();
        let mut directories = Vec::new();
        let mut walk = Walk::new(self)?;
        while let Some(entry) = walk.next_entry()? {
            let doing = || format!("write `{}`", directory.join(&entry.path).display());
            written.entries += 1;
            written.bytes += target.write(&entry).system(doing)?;
            if entry.kind() == SFlag::S_IFDIR {
                directories.push((entry.path, entry.status));
            }
        }
        Ok(Filled { directory: directory.to_owned(), target, directories, written })
    }
}

/// All that was written, below directories that nobody else may enter yet.
///
/// A directory that may not be written could not be filled, filling changes its time, and whoever
/// owns it could exchange what is being written for links. So it gets its owner, permissions and
/// time last.
#[derive(Debug)]
pub(in crate::image) struct Filled {
    directory: PathBuf,
    target: Target,
    /// Each before those that are in it.
    directories: Vec<(PathBuf, FileStat)>,
    written: Written,
}

impl Filled {
    pub(in crate::image) fn finish(self) -> Result<Written> {
        for (path, status) in self.directories.into_iter().rev() {
            let doing = || format!("finish `{}`", self.directory.join(&path).display());
            self.target.finish(&path, &status).system(doing)?;
        }
        Ok(self.written)
    }
}

#[derive(Debug)]
struct Target {
    root: OwnedFd,
    is_root: bool,
    /// Where files with several names were written.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Target {
    fn parent(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        match path.parent() {
            Some(above) if !above.as_os_str().is_empty() => {
                open_beneath(self.root.as_fd(), above, flags)
            }
            _ => self.root.try_clone(),
        }
    }

    /// Returns the bytes of content written.
    fn write(&mut self, entry: &Entry) -> io::Result<u64> {
        let parent = self.parent(&entry.path)?;
        let name = entry.path.file_name().unwrap_or_default();
        let mut bytes = 0;
        match entry.kind() {
            SFlag::S_IFDIR => mkdirat(&parent, name, Mode::S_IRWXU)?,
            SFlag::S_IFLNK => symlinkat(entry.target()?.as_path(), &parent, name)?,
            SFlag::S_IFREG => {
                if self.link(entry, &parent, name)? {
                    return Ok(0);
                }
                bytes = copy(entry, &parent, name)?;
            }
            kind => mknodat(&parent, name, kind, Mode::S_IRUSR, entry.status.st_rdev)?,
        }
        self.describe(entry, parent.as_fd(), name)?;
        Ok(bytes)
    }

    /// Makes one more name for a file that was written already.
    fn link(&mut self, entry: &Entry, parent: &OwnedFd, name: &OsStr) -> io::Result<bool> {
        if entry.status.st_nlink < 2 {
            return Ok(false);
        }
        let file = (entry.status.st_dev, entry.status.st_ino);
        if let Some(first) = self.links.get(&file) {
            linkat(&self.root, first.as_path(), parent, name, AtFlags::empty())?;
            return Ok(true);
        }
        self.links.insert(file, entry.path.clone());
        Ok(false)
    }

    fn describe(&self, entry: &Entry, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        let status = &entry.status;
        if entry.kind() == SFlag::S_IFDIR {
            return Ok(());
        }
        self.give(status, parent, name)?;
        match entry.kind() {
            // A link has no permissions of its own.
            SFlag::S_IFLNK => {}
            _ => fchmodat(
                parent,
                name,
                Mode::from_bits_truncate(entry.mode()),
                FchmodatFlags::FollowSymlink,
            )?,
        }
        let time = mtime(status);
        utimensat(parent, name, &time, &time, UtimensatFlags::NoFollowSymlink)?;
        Ok(())
    }

    /// To the owner in the image, where this process may.
    fn give(&self, status: &FileStat, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        if self.is_root {
            let (user, group) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
            fchownat(parent, name, Some(user), Some(group), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    fn finish(&self, path: &Path, status: &FileStat) -> io::Result<()> {
        let parent = self.parent(path)?;
        let name = path.file_name().unwrap_or_default();
        let time = mtime(status);
        self.give(status, parent.as_fd(), name)?;
        let mode = Mode::from_bits_truncate(status.st_mode & 0o7777);
        fchmodat(&parent, name, mode, FchmodatFlags::FollowSymlink)?;
        utimensat(&parent, name, &time, &time, UtimensatFlags::NoFollowSymlink)?;
        Ok(())
    }
}

fn copy(entry: &Entry, parent: &OwnedFd, name: &OsStr) -> io::Result<u64> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let to = File::from(openat(parent, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    let mut from = entry.open()?;
    let bytes = io::copy(&mut from, &mut &to)?;
    copy_attributes(from.as_fd(), to.as_fd())?;
    Ok(bytes)
}

fn mtime(status: &FileStat) -> TimeSpec {
    TimeSpec::new(status.st_mtime, status.st_mtime_nsec)
}
