//! Paths below a container's root, while that root still belongs to an image that may lie.
//!
//! Every path is resolved with `openat2(2)` inside the root, and what is placed there is placed
//! on the descriptor that came out, so neither a symbolic link of the image nor `..` leads out.

use std::{
    fs::File,
    io::{self, Write as _},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::{Mode, SFlag, fstat, mkdirat},
    unistd::{UnlinkatFlags, unlinkat},
};

/// Resolution inside the root: absolute links and `..` stay below it.
const INSIDE: ResolveFlag = ResolveFlag::RESOLVE_IN_ROOT.union(ResolveFlag::RESOLVE_NO_MAGICLINKS);

/// Opens `path` inside `root` with `flags`.
pub(super) fn open_inside(root: impl AsFd, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(INSIDE);
    openat2(root.as_fd(), path, how)
}

/// The directory `name` straight below `root`; anything else of that name is replaced by one.
pub(super) fn own_directory(root: BorrowedFd<'_>, name: &str, mode: u32) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    match open_inside(root, name, flags) {
        Err(Errno::ENOENT) => {}
        Err(Errno::ENOTDIR | Errno::ELOOP) => unlinkat(root, name, UnlinkatFlags::NoRemoveDir)?,
        other => return Ok(other?),
    }
    mkdirat(root, name, Mode::from_bits_truncate(mode))?;
    Ok(open_inside(root, name, flags)?)
}

/// The directory at the absolute `path`, with missing parts made; links stay inside the root.
pub(super) fn directory(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    match open_inside(root, path, flags) {
        Err(Errno::ENOENT) => {}
        other => return Ok(other?),
    }
    // The prefix that exists is found anew for each part, inside the root, so that a link in the
    // middle leads to where it leads for the job.
    let mut reached = String::new();
    let mut parent = open_inside(root, ".", flags)?;
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        reached.push('/');
        reached.push_str(part);
        parent = match open_inside(root, &reached, flags) {
            Err(Errno::ENOENT) => {
                mkdirat(&parent, part, Mode::from_bits_truncate(0o755))?;
                open_inside(root, &reached, flags)?
            }
            other => other?,
        };
    }
    Ok(parent)
}

/// A regular file or directory to mount on, at the absolute `path`: made where it is missing.
pub(super) fn mount_point(
    root: BorrowedFd<'_>,
    path: &str,
    is_directory: bool,
) -> io::Result<OwnedFd> {
    if is_directory {
        return directory(root, path);
    }
    match open_inside(root, path, OFlag::O_PATH) {
        Err(Errno::ENOENT) => {}
        other => {
            let found = other?;
            let kind = SFlag::from_bits_truncate(fstat(&found)?.st_mode) & SFlag::S_IFMT;
            return if kind == SFlag::S_IFREG {
                Ok(found)
            } else {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
            };
        }
    }
    let (parent, name) = split(path)?;
    let parent = directory(root, parent)?;
    own_file(parent.as_fd(), name)
}

/// The regular file `name` straight below `parent`; anything else of that name is replaced by an
/// empty one.
pub(super) fn own_file(parent: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let beneath = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let existing = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(beneath);
    match openat2(parent, name, existing) {
        Err(Errno::ENOENT) => {}
        Err(Errno::ELOOP) => unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)?,
        other => {
            let found = other?;
            match SFlag::from_bits_truncate(fstat(&found)?.st_mode) & SFlag::S_IFMT {
                SFlag::S_IFREG => return Ok(found),
                SFlag::S_IFDIR => {
                    return Err(io::Error::from_raw_os_error(libc::EISDIR));
                }
                _ => unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)?,
            }
        }
    }
    let create = OpenHow::new()
        .flags(OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC)
        .mode(Mode::from_bits_truncate(0o644))
        .resolve(beneath);
    Ok(openat2(parent, name, create)?)
}

/// Parent and last part of an absolute path.
pub(super) fn split(path: &str) -> io::Result<(&str, &str)> {
    let (parent, name) = path
        .trim_end_matches('/')
        .rsplit_once('/')
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not an absolute path"))?;
    if name.is_empty() || name == "." || name == ".." {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no file name at the end"));
    }
    Ok((if parent.is_empty() { "/" } else { parent }, name))
}

/// Writes a new file of the set-up file system, which is the current directory.
pub(super) fn write_new(name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    File::options().write(true).create_new(true).mode(mode).open(name)?.write_all(content)
}
