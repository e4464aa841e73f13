//! The directory of the host that exported files are written to.
//!
//! What lies in it may come from an earlier export, and so from a job: links above all. Writing
//! goes from descriptor to descriptor and follows none of them; what is in the way is replaced.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Component, Path},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, openat},
    sys::stat::{Mode, mkdirat},
    unistd::{UnlinkatFlags, symlinkat, unlinkat},
};

/// An open directory that files can be written below.
#[derive(Debug)]
pub(super) struct Destination(OwnedFd);

impl Destination {
    /// Opens the directory at `path`, which is the caller's own; it is made where it is missing.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self(File::open(path)?.into()))
    }

    /// A new file at `path` below, in place of whatever is there.
    pub(super) fn create_file(&self, path: &Path) -> io::Result<File> {
        let (parent, name) = self.vacate(path)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        Ok(File::from(openat(&parent, name, flags, Mode::from_bits_truncate(0o600))?))
    }

    /// A new link at `path` below, in place of whatever is there.
    pub(super) fn create_link(&self, path: &Path, target: &OsStr) -> io::Result<()> {
        let (parent, name) = self.vacate(path)?;
        Ok(symlinkat(target, &parent, name)?)
    }

    /// Makes room at `path`; returns its directory and its name there.
    fn vacate<'a>(&self, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
        let name = path.file_name().ok_or_else(|| io::Error::from(Errno::EINVAL))?;
        let mut parent = self.0.try_clone()?;
        for component in path.parent().unwrap_or_else(|| Path::new("")).components() {
            let Component::Normal(name) = component else {
                return Err(Errno::EINVAL.into());
            };
            parent = own_directory(parent.as_fd(), name)?;
        }
        match unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok((parent, name)),
            Err(error) => Err(error.into()),
        }
    }
}

/// The directory `name` straight below `parent`; anything else of that name is replaced by one.
fn own_directory(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ENOENT) => {}
        Err(Errno::ENOTDIR | Errno::ELOOP) => unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)?,
        other => return Ok(other?),
    }
    mkdirat(parent, name, Mode::from_bits_truncate(0o755))?;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn links_in_the_way_are_replaced_and_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        let (directory, file) = (outside.path().to_owned(), outside.path().join("x"));
        fs::write(&file, "theirs").unwrap();
        for (link, leads_to, path) in [
            ("a", &directory, "a/x"),
            ("a/b", &directory, "a/b/x"),
            ("x", &file, "x"),
            ("a/x", &file, "a/x"),
        ] {
            let target = tempfile::tempdir().unwrap();
            let link = target.path().join(link);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(leads_to, &link).unwrap();
            let destination = Destination::open(target.path()).unwrap();
            destination.create_file(Path::new(path)).unwrap().write_all(b"ours").unwrap();
            assert_eq!(fs::read_to_string(target.path().join(path)).unwrap(), "ours", "{path}");
            assert_eq!(fs::read_to_string(&file).unwrap(), "theirs", "{path}");
        }
    }

    #[test]
    fn nothing_is_written_above() {
        let target = tempfile::tempdir().unwrap();
        let destination = Destination::open(target.path()).unwrap();
        for path in ["", "..", "../x", "/x", "a/../../x"] {
            assert!(destination.create_file(Path::new(path)).is_err(), "{path}");
            assert!(destination.create_link(Path::new(path), OsStr::new("y")).is_err(), "{path}");
        }
    }
}
