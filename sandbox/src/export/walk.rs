//! The walk through a tree of a job's for what is to come out.

use std::{
    ffi::OsStr,
    os::{fd::BorrowedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

use nix::{
    dir::{Dir, Type},
    fcntl::OFlag,
};

use super::{LeftOut, Reason, open_beneath};
use crate::error::{Doing as _, Error, Result};

/// Levels of directories that are looked into.
const DEPTH_MAX: usize = 64;
/// Entries of a tree that are looked at.
const ENTRIES_MAX: usize = 2_000_000;
/// Bytes of names that are remembered on the way: the job chooses them, and the runner's memory is
/// not the job's.
const NAMES_MAX: usize = 64 * 1024 * 1024;

/// Walks the tree without recursion and returns the files and links that are wanted, in order of
/// their names.
pub(super) fn selected(
    base: BorrowedFd<'_>,
    select: &dyn Fn(&Path) -> bool,
    left_out: &mut LeftOut,
) -> Result<Vec<(PathBuf, Type)>> {
    let mut found = Vec::new();
    let (mut seen, mut remembered) = (0, 0_usize);
    let mut directories = vec![(PathBuf::new(), 0)];
    while let Some((directory, depth)) = directories.pop() {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        // What cannot be opened is not selected: a directory that forbids reading, for one.
        let Ok(opened) = open_beneath(base, &directory, flags) else { continue };
        let mut opened = Dir::from_fd(opened).pipeline(|| "list a directory of the container")?;
        for entry in opened.iter() {
            let entry = entry.pipeline(|| "list a directory of the container")?;
            seen += 1;
            if seen > ENTRIES_MAX {
                return Err(Error::pipeline(
                    "look for artifacts",
                    format!("there are more than {ENTRIES_MAX} entries to look through"),
                )
                .remedy("put what shall come out into a directory of its own"));
            }
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let path = directory.join(OsStr::from_bytes(name));
            let length = path.as_os_str().len();
            let is_text = std::str::from_utf8(name).is_ok();
            match entry.file_type() {
                Some(Type::Directory) if is_text && depth < DEPTH_MAX => {
                    directories.push((path, depth + 1));
                }
                _ if !select(&path) => continue,
                _ if !is_text => left_out.add(path, Reason::Name),
                Some(kind @ (Type::File | Type::Symlink)) => found.push((path, kind)),
                Some(Type::Directory) => left_out.add(path, Reason::Depth),
                _ => left_out.add(path, Reason::NoFile),
            }
            remembered += length;
            if remembered > NAMES_MAX {
                return Err(Error::pipeline(
                    "look for artifacts",
                    format!("the names of files and directories exceed {NAMES_MAX} bytes"),
                )
                .remedy("select fewer, or pack them into one file in the job"));
            }
        }
    }
    found.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(found)
}
