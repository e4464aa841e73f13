//! Symbolic links of what is copied: followed within the source that they are in, never out of it.
//!
//! As Docker does it: a source that is named may be a link, or lie behind one, and its root is then
//! the root of the source. What is found is a path without links, which is opened again without
//! following any: should someone exchange a part of it meanwhile, the copy fails.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, readlink, readlinkat},
    sys::stat::SFlag,
};

use super::place::{LINKS, place, status};
use crate::{
    image::{archive::join, limits::ImportLimits, problem::Problem, unpack::kind},
    sys::beneath::open_in_root,
};

/// Where a path of a directory of the host leads; [`None`] where there is nothing.
pub(super) fn in_directory(root: &OwnedFd, path: &[u8]) -> Result<Option<Vec<u8>>, Problem> {
    let name: &[u8] = if path.is_empty() { b"." } else { path };
    let found = match open_in_root(root.as_fd(), OsStr::from_bytes(name), OFlag::O_PATH) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
            return Ok(None);
        }
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(Problem::refused(path, "too many symbolic links lead to it"));
        }
        other => other.map_err(Problem::Read)?,
    };
    let name_of = |fd: &OwnedFd| -> io::Result<Vec<u8>> {
        let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
        Ok(readlink(Path::new(&name))?.into_vec())
    };
    let above = name_of(root).map_err(Problem::Read)?;
    let found = name_of(&found).map_err(Problem::Read)?;
    let below = found.strip_prefix(above.as_slice());
    let below = below.filter(|below| above == b"/" || below.is_empty() || below.starts_with(b"/"));
    match below {
        Some(below) => Ok(Some(below.strip_prefix(b"/").unwrap_or(below).to_vec())),
        // It was moved away while it was looked at.
        None => Ok(None),
    }
}

/// Where a path of an image leads; [`None`] where there is nothing.
pub(super) fn in_image(
    roots: &[BorrowedFd<'_>],
    path: &[u8],
    limits: &ImportLimits,
) -> Result<Option<Vec<u8>>, Problem> {
    let mut path = path.to_vec();
    for _ in 0..LINKS {
        let found = place(roots, &path, limits)?;
        if found.is_directory {
            return Ok(Some(found.path));
        }
        let Some((parent, there)) = status(roots, &found.path, limits)? else { return Ok(None) };
        if kind(&there) != SFlag::S_IFLNK {
            return Ok(Some(found.path));
        }
        let (above, name) = match found.path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => found.path.split_at(at),
            None => (&[][..], found.path.as_slice()),
        };
        let name = name.strip_prefix(b"/").unwrap_or(name);
        let target =
            readlinkat(&parent, name).map_err(|error: Errno| Problem::Read(error.into()))?;
        let target = target.into_vec();
        path = if target.starts_with(b"/") { target } else { join(above, &target) };
    }
    Err(Problem::refused(&path, "too many symbolic links lead to it"))
}
