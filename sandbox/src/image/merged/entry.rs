//! One file of an image: what it is, and where its content can be read.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    rc::Rc,
};

use nix::{
    fcntl::{OFlag, openat, readlinkat},
    sys::stat::{FileStat, Mode, SFlag},
};

use crate::image::unpack::kind;

/// A file, directory or anything else that an image shows.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Relative to the image's root.
    pub(crate) path: PathBuf,
    /// Of the topmost layer that has it.
    pub(crate) status: FileStat,
    pub(super) parent: Rc<OwnedFd>,
    pub(super) name: OsString,
}

impl Entry {
    /// The directory that holds it in that layer.
    pub(crate) fn parent(&self) -> &OwnedFd {
        &self.parent
    }

    /// Its name there.
    pub(crate) fn name(&self) -> &OsStr {
        &self.name
    }

    /// Its type: one of the bits of `S_IFMT`.
    pub(crate) fn kind(&self) -> SFlag {
        kind(&self.status)
    }

    /// Permission bits, with set-id and sticky.
    pub(crate) fn mode(&self) -> u32 {
        self.status.st_mode & 0o7777
    }

    /// Bytes of content; 0 for all but regular files.
    pub(crate) fn size(&self) -> u64 {
        if self.kind() == SFlag::S_IFREG {
            u64::try_from(self.status.st_size).unwrap_or_default()
        } else {
            0
        }
    }

    /// Opens a regular file or directory for reading.
    pub(crate) fn open(&self) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        Ok(openat(self.parent.as_fd(), self.name.as_os_str(), flags, Mode::empty())?.into())
    }

    /// Where a symbolic link points.
    pub(crate) fn target(&self) -> io::Result<PathBuf> {
        Ok(readlinkat(self.parent.as_fd(), Path::new(&self.name))?.into())
    }

    /// Whether both are names of the very same file.
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        (self.status.st_dev, self.status.st_ino) == (other.status.st_dev, other.status.st_ino)
    }
}
