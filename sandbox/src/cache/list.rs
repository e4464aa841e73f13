//! All caches of a state directory, whoever has kept them: to show them, and to let some go.
//!
//! Whose a cache is cannot be told from it, since what it belongs to is kept as a digest. So it has an
//! id of its own, by which it is removed; one that is in use stays.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::store::{Caches, DESCRIPTION, UNFINISHED, entries, is_absent, name};
use crate::error::{Doing as _, Result};

/// Characters of an id.
const ID: usize = 12;

/// A cache as it is kept.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What it is removed by: 12 hexadecimal digits.
    pub id: String,
    /// Its key.
    pub key: String,
    /// Bytes that it takes.
    pub bytes: u64,
    /// When it was kept.
    pub created: SystemTime,
    /// When it was last shown to anybody, or kept.
    pub used: SystemTime,
    pub(super) path: PathBuf,
}

impl Caches {
    /// All of them, what was not used for longest first; those that go meanwhile are left out.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>> {
        self.all().system(|| format!("list the caches in `{}`", self.directory.display()))
    }

    /// Removes a cache, unless it is in use; whether it is gone.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn drop_listed(&self, listed: &Listed) -> Result<bool> {
        self.remove(&listed.path).system(|| format!("remove the cache `{}`", listed.id))
    }

    fn all(&self) -> io::Result<Vec<Listed>> {
        let scopes = match fs::read_dir(&self.directory) {
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            other => other?,
        };
        let mut all = Vec::new();
        for scope in scopes {
            let scope = scope?.path();
            if scope.file_name() == Some(OsStr::new(UNFINISHED)) {
                continue;
            }
            for (path, description) in entries(&scope)? {
                let used = fs::metadata(path.join(DESCRIPTION)).and_then(|it| it.modified());
                all.push(Listed {
                    id: self.id(&path),
                    key: description.key,
                    bytes: description.bytes,
                    created: UNIX_EPOCH + Duration::from_nanos(description.created),
                    used: used.unwrap_or(UNIX_EPOCH),
                    path,
                });
            }
        }
        all.sort_by(|one, other| (one.used, &one.path).cmp(&(other.used, &other.path)));
        Ok(all)
    }

    /// Removes what was not used for longest, until the rest takes no more than it may.
    pub(super) fn evict(&self) -> io::Result<()> {
        let all = self.all()?;
        let mut total = all.iter().fold(0_u64, |sum, listed| sum.saturating_add(listed.bytes));
        for listed in all {
            if total <= self.most {
                return Ok(());
            }
            if self.remove(&listed.path)? {
                total = total.saturating_sub(listed.bytes);
            }
        }
        Ok(())
    }

    /// The same for the same place, wherever the state directory is.
    fn id(&self, path: &Path) -> String {
        let place = path.strip_prefix(&self.directory).unwrap_or(path);
        let mut id = name(&place.to_string_lossy());
        id.truncate(ID);
        id
    }
}
