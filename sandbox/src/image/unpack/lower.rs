//! What a layer leaves to those below it: hard links into them, and directories it only implies.
//!
//! Layers unpack side by side, so this runs afterwards, lowest first. A hard link to a file of a
//! lower layer does what `link(2)` on a mounted overlay does: the file is copied up, under its own
//! name, and linked. A directory that the archive uses and does not describe takes owner, mode and
//! time from the highest layer that has it, or a layer that adds `tmp/x` would close `/tmp`.
//! Such a layer belongs to the layers below it and is kept under its chain id, not its diff id.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat, readlinkat},
    sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fstat, fstatat, utimensat},
    unistd::{linkat, symlinkat},
};

use super::{
    apply::is_allowed_attribute,
    metadata::Metadata,
    tree::{ForeignLink, OPAQUE, Tree, kind},
};
use crate::{
    image::{archive::EntryPath, limits::Budget, problem::Problem},
    sys::beneath::{attribute, attribute_names, set_attribute},
};

/// Resolves what `tree` left open against the roots of the layers below it, highest first.
pub(crate) fn settle(
    tree: &mut Tree<'_>,
    below: &[BorrowedFd<'_>],
    budget: &Budget<'_>,
) -> Result<(), Problem> {
    for link in tree.take_foreign() {
        resolve(tree, below, budget, &link)?;
    }
    for path in tree.take_implied() {
        let found = find(tree.root(), below, &path)
            .map_err(|error| Problem::write(path.as_bytes(), error))?;
        let metadata = match found {
            Some((_, stat)) if kind(&stat) == SFlag::S_IFDIR => Metadata::of_file(&stat),
            _ => Metadata::DEFAULT,
        };
        tree.describe(&path, metadata)?;
    }
    Ok(())
}

fn resolve(
    tree: &mut Tree<'_>,
    below: &[BorrowedFd<'_>],
    budget: &Budget<'_>,
    ForeignLink { path, target, metadata }: &ForeignLink,
) -> Result<(), Problem> {
    let refused = |why: &str| Err(Problem::refused(path.as_bytes(), why));
    let write = |error: Errno| Problem::write(path.as_bytes(), error);
    let (Some((above, name)), Some((target_above, target_name))) = (path.split(), target.split())
    else {
        return refused("it is a hard link of the root");
    };
    let parent = tree.open_directory(&above)?;
    let target_parent = tree.open_directory(&target_above)?;
    // An entry after the link may have brought the target.
    match tree.stat(target_parent.as_fd(), target_name).map_err(write)? {
        Some(stat) if matches!(kind(&stat), SFlag::S_IFREG | SFlag::S_IFLNK | SFlag::S_IFIFO) => {}
        Some(_) => return refused("the target of the hard link is no file"),
        None => match find(tree.root(), below, target).map_err(write)? {
            Some((lower, stat)) => {
                copy_up(budget, target, target_parent.as_fd(), target_name, &lower, &stat)?;
            }
            None => {
                return refused(&format!(
                    "its hard link target `{}` is in no layer",
                    crate::image::problem::shown(target.as_bytes())
                ));
            }
        },
    }
    tree.replace(path, parent.as_fd(), name, || {
        linkat(&*target_parent, target_name, &*parent, name, AtFlags::empty())
    })?;
    metadata.give_link(parent.as_fd(), name).map_err(write)
}

/// Copies a file or symbolic link named `name` from the directory `lower` into `parent`.
fn copy_up(
    budget: &Budget<'_>,
    path: &EntryPath,
    parent: BorrowedFd<'_>,
    name: &[u8],
    lower: &OwnedFd,
    stat: &FileStat,
) -> Result<(), Problem> {
    let write = |error: io::Error| Problem::write(path.as_bytes(), error);
    let metadata = Metadata::of_file(stat);
    match kind(stat) {
        SFlag::S_IFREG => {
            budget.grow(stat.st_size.cast_unsigned())?;
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let source = openat(lower, name, flags, Mode::empty());
            let mut source = File::from(source.map_err(|error| write(error.into()))?);
            let flags = OFlag::O_WRONLY
                | OFlag::O_CREAT
                | OFlag::O_EXCL
                | OFlag::O_NOFOLLOW
                | OFlag::O_CLOEXEC;
            let copy = openat(parent, name, flags, Mode::S_IRUSR | Mode::S_IWUSR);
            let mut copy = File::from(copy.map_err(|error| write(error.into()))?);
            io::copy(&mut source, &mut copy).map_err(write)?;
            copy_attributes(source.as_fd(), copy.as_fd()).map_err(write)?;
            metadata.give(copy.as_fd()).map_err(|error| write(error.into()))
        }
        SFlag::S_IFLNK => {
            let target = readlinkat(lower, name).map_err(|error| write(error.into()))?;
            symlinkat(target.as_os_str(), parent, name).map_err(|error| write(error.into()))?;
            metadata.give_owner_at(parent, name).map_err(|error| write(error.into()))?;
            let (time, flag) = (metadata.time(), UtimensatFlags::NoFollowSymlink);
            utimensat(parent, name, &time, &time, flag).map_err(|error| write(error.into()))
        }
        _ => Err(Problem::refused(path.as_bytes(), "the target of a hard link is no file")),
    }
}

pub(crate) fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    for name in attribute_names(from)? {
        if is_allowed_attribute(&name) {
            let name = CString::new(name)?;
            if let Some(value) = attribute(from, &name)? {
                set_attribute(to, &name, &value)?;
            }
        }
    }
    Ok(())
}

/// Finds what the layers below show at `path`, as an overlay of them under `top` would: a
/// whiteout, an opaque directory or anything else in the way hides what is lower still. Returns
/// the directory that holds it.
fn find(
    top: BorrowedFd<'_>,
    below: &[BorrowedFd<'_>],
    path: &EntryPath,
) -> Result<Option<(OwnedFd, FileStat)>, Errno> {
    // The layer itself was looked at before; of it only what it hides counts.
    if let Lookup::Hidden = look(top, path, true)? {
        return Ok(None);
    }
    find_below(below, path)
}

/// Finds what the layers `below`, highest first, show at `path`, and the directory that holds it.
pub(crate) fn find_below(
    below: &[BorrowedFd<'_>],
    path: &EntryPath,
) -> Result<Option<(OwnedFd, FileStat)>, Errno> {
    for lower in below {
        match look(*lower, path, false)? {
            Lookup::Found(directory, stat) => return Ok(Some((directory, stat))),
            Lookup::Hidden => return Ok(None),
            Lookup::Absent => {}
        }
    }
    Ok(None)
}

enum Lookup {
    Found(OwnedFd, FileStat),
    /// Not here, and nothing lower may show.
    Hidden,
    Absent,
}

/// Looks for `path` in one layer. With `is_top`, what the path itself is does not count unless it
/// is a directory that hides the same one below.
fn look(root: BorrowedFd<'_>, path: &EntryPath, is_top: bool) -> Result<Lookup, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let Some((above, name)) = path.split() else {
        let directory = openat(root, ".", flags, Mode::empty())?;
        let stat = fstat(&directory)?;
        return Ok(if is_top { Lookup::Absent } else { Lookup::Found(directory, stat) });
    };
    let mut directory = openat(root, ".", flags, Mode::empty())?;
    let mut opaque = is_opaque(&directory)?;
    for component in above.components() {
        directory = match openat(&directory, component, flags, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::ENOENT) if opaque => return Ok(Lookup::Hidden),
            Err(Errno::ENOENT) => return Ok(Lookup::Absent),
            Err(Errno::ENOTDIR | Errno::ELOOP) => return Ok(Lookup::Hidden),
            Err(error) => return Err(error),
        };
        opaque |= is_opaque(&directory)?;
    }
    let stat = match fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::ENOENT) if opaque => return Ok(Lookup::Hidden),
        Err(Errno::ENOENT) => return Ok(Lookup::Absent),
        Err(error) => return Err(error),
    };
    if is_top {
        if kind(&stat) == SFlag::S_IFDIR {
            opaque |= is_opaque(&openat(&directory, name, flags, Mode::empty())?)?;
        } else {
            opaque = true;
        }
        return Ok(if opaque { Lookup::Hidden } else { Lookup::Absent });
    }
    if kind(&stat) == SFlag::S_IFCHR {
        return Ok(Lookup::Hidden);
    }
    Ok(Lookup::Found(directory, stat))
}

pub(crate) fn is_opaque(directory: &OwnedFd) -> Result<bool, Errno> {
    match attribute(directory.as_fd(), OPAQUE) {
        Ok(value) => Ok(value.as_deref() == Some(b"y")),
        Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))),
    }
}
