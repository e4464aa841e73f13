//! What can be copied from a source: single paths through their links, and lists for wildcards.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use nix::sys::stat::SFlag;

use super::{
    copy::CopyFrom,
    source::{Found, Source},
};
use crate::{
    Result,
    image::{limits::ImportLimits, problem::Problem},
};

/// Something that can be copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Relative to the root of its source, without links.
    pub path: PathBuf,
    /// Whether it is a directory.
    pub is_directory: bool,
}

impl Seen {
    fn of(found: &Found) -> Self {
        let path = PathBuf::from(OsStr::from_bytes(&found.path));
        Self { path, is_directory: found.kind == SFlag::S_IFDIR }
    }
}

impl CopyFrom<'_> {
    /// Finds a path, through symbolic links that stay within the source.
    ///
    /// # Errors
    /// Where links go in a circle, or the source cannot be read.
    pub fn find(self, path: &Path) -> Result<Option<Seen>> {
        let doing = || format!("look for `{}`", path.display());
        let limits = ImportLimits::default();
        let found = Source::open(self).and_then(|source| source.find(path, &limits));
        let found = found.map_err(|problem| problem.during(doing()))?;
        Ok(found.as_ref().map(Seen::of))
    }

    /// All below the directory `from`, down to `depth` components of a path; nothing where there is
    /// no such directory. Links are not followed.
    ///
    /// # Errors
    /// Where there is too much of it, or the source cannot be read.
    pub fn list(self, from: &Path, depth: usize) -> Result<Vec<Seen>> {
        let doing = || format!("list `{}`", from.display());
        let limits = ImportLimits::default();
        let list = || -> Result<Vec<Seen>, Problem> {
            let source = Source::open(self)?;
            let Some(start) = source.find(from, &limits)?.filter(Found::is_directory) else {
                return Ok(Vec::new());
            };
            let mut all = Vec::new();
            source.walk_to(&start.path, depth, &limits, &mut |_, found| {
                all.push(Seen::of(found));
                Ok(())
            })?;
            Ok(all)
        };
        list().map_err(|problem| problem.during(doing()))
    }
}
