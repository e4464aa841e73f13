//! What two images differ in.

use std::{
    cmp::Ordering,
    io::{self, Read as _},
    path::PathBuf,
};

use nix::sys::stat::SFlag;

use super::{Entry, Walk};
use crate::{Result, error::Doing as _, image::Image};

/// How much of two files is compared at once.
const CHUNK: usize = 64 * 1024;

/// How a file differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only the second image has it.
    Added,
    /// Type, content, permissions or owner are others; times do not count.
    Changed,
    /// Only the first image has it.
    Deleted,
}

/// A file in which two images differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// How.
    pub kind: Kind,
    /// Relative to the root.
    pub path: PathBuf,
    /// Whether it is a directory, in the second image where it is there.
    pub directory: bool,
    /// Bytes of its content in the first image; 0 for all but regular files.
    pub before: u64,
    /// Bytes of its content in the second image.
    pub after: u64,
}

impl Image {
    /// Tells every file in which `after` differs from this image, in the order of paths.
    ///
    /// # Errors
    /// When a layer cannot be read, and those of `tell`.
    pub fn compare(
        &self,
        after: &Self,
        mut tell: impl FnMut(Difference) -> Result<()>,
    ) -> Result<()> {
        let (mut old, mut new) = (Walk::new(self)?, Walk::new(after)?);
        let (mut before, mut after) = (old.next_entry()?, new.next_entry()?);
        loop {
            let order = match (&before, &after) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(before), Some(after)) => before.path.cmp(&after.path),
            };
            let (first, second) = match order {
                Ordering::Less => (before.take(), None),
                Ordering::Greater => (None, after.take()),
                Ordering::Equal => (before.take(), after.take()),
            };
            if first.is_some() {
                before = old.next_entry()?;
            }
            if second.is_some() {
                after = new.next_entry()?;
            }
            let kind = match (&first, &second) {
                (None, _) => Kind::Added,
                (_, None) => Kind::Deleted,
                (Some(first), Some(second)) => {
                    let doing = || format!("compare `/{}`", first.path.display());
                    if is_equal(first, second).system(doing)? {
                        continue;
                    }
                    Kind::Changed
                }
            };
            if let Some(shown) = second.as_ref().or(first.as_ref()) {
                tell(Difference {
                    kind,
                    path: shown.path.clone(),
                    directory: shown.kind() == SFlag::S_IFDIR,
                    before: first.as_ref().map_or(0, Entry::size),
                    after: second.as_ref().map_or(0, Entry::size),
                })?;
            }
        }
    }
}

fn is_equal(before: &Entry, after: &Entry) -> io::Result<bool> {
    if before.is_same_file(after) {
        return Ok(true);
    }
    let (old, new) = (&before.status, &after.status);
    if (old.st_mode, old.st_uid, old.st_gid, before.size())
        != (new.st_mode, new.st_uid, new.st_gid, after.size())
    {
        return Ok(false);
    }
    match before.kind() {
        SFlag::S_IFREG => has_equal_content(before, after),
        SFlag::S_IFLNK => Ok(before.target()? == after.target()?),
        SFlag::S_IFCHR | SFlag::S_IFBLK => Ok(old.st_rdev == new.st_rdev),
        _ => Ok(true),
    }
}

fn has_equal_content(before: &Entry, after: &Entry) -> io::Result<bool> {
    let (mut old, mut new) = (before.open()?, after.open()?);
    let (mut first, mut second) = (Vec::with_capacity(CHUNK), Vec::with_capacity(CHUNK));
    loop {
        first.clear();
        second.clear();
        old.by_ref().take(CHUNK as u64).read_to_end(&mut first)?;
        new.by_ref().take(CHUNK as u64).read_to_end(&mut second)?;
        if first != second {
            return Ok(false);
        }
        if first.is_empty() {
            return Ok(true);
        }
    }
}
