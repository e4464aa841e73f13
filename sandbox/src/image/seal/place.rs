//! Where a path leads in an image: through its symbolic links, which may lie, and never out of it.

use std::{
    collections::VecDeque,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
};

use nix::{
    errno::Errno,
    fcntl::readlinkat,
    sys::stat::{FileStat, SFlag},
};

use crate::image::{
    archive::{EntryPath, join},
    limits::ImportLimits,
    problem::Problem,
    unpack::{find_below, kind},
};

/// Symbolic links on the way to one path, as many as Linux follows (path_resolution(7)).
pub(super) const LINKS: usize = 40;

/// A path in an image, without links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Without a slash at either end; empty for the root.
    pub(super) path: Vec<u8>,
    /// Whether there is a directory.
    pub(super) is_directory: bool,
}

/// Follows `path` in the layers `below`, highest first; what is not there is taken as it is written.
/// A link at the end counts only where it leads to a directory: otherwise it is what stands there.
pub(super) fn place(
    below: &[BorrowedFd<'_>],
    path: &[u8],
    limits: &ImportLimits,
) -> Result<Place, Problem> {
    let mut left: VecDeque<Vec<u8>> = components(path).collect();
    let mut reached: Vec<u8> = Vec::new();
    let (mut links, mut link) = (0, None);
    while let Some(name) = left.pop_front() {
        if name == b".." {
            up(&mut reached);
            continue;
        }
        let next = join(&reached, &name);
        match status(below, &next, limits)? {
            Some((parent, status)) if kind(&status) == SFlag::S_IFLNK => {
                links += 1;
                if links > LINKS {
                    return Err(Problem::refused(path, "too many symbolic links lead to it"));
                }
                if left.is_empty() {
                    link.get_or_insert(next);
                }
                let target = readlinkat(&parent, name.as_slice()).map_err(read)?.into_vec();
                if target.starts_with(b"/") {
                    reached.clear();
                }
                for component in components(&target).rev() {
                    left.push_front(component);
                }
            }
            Some((_, status)) if kind(&status) == SFlag::S_IFDIR => reached = next,
            Some(_) if left.is_empty() => {
                return Ok(Place { path: link.unwrap_or(next), is_directory: false });
            }
            Some(_) => {
                return Err(Problem::refused(&next, "a file stands where a directory has to be"));
            }
            None => {
                reached = next;
                for name in left {
                    match name.as_slice() {
                        b".." => up(&mut reached),
                        name => reached = join(&reached, name),
                    }
                }
                return Ok(Place { path: link.unwrap_or(reached), is_directory: false });
            }
        }
    }
    Ok(Place { path: reached, is_directory: true })
}

/// To the directory above; above the root is the root.
fn up(path: &mut Vec<u8>) {
    let parent = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.truncate(parent);
}

/// What the layers show at a path without links, and the directory that holds it.
pub(super) fn status(
    below: &[BorrowedFd<'_>],
    path: &[u8],
    limits: &ImportLimits,
) -> Result<Option<(OwnedFd, FileStat)>, Problem> {
    if path.is_empty() {
        return Ok(None);
    }
    find_below(below, &EntryPath::parse(path, limits)?).map_err(read)
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).map(<[u8]>::to_vec)
}

fn read(error: Errno) -> Problem {
    Problem::Read(error.into())
}
