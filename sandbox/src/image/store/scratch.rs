//! Work in progress: a directory below `tmp` that is locked while its process lives.
//!
//! What a killed process left is told from what is in use by that lock alone, so neither clocks
//! nor process ids matter.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use super::Store;
use crate::{Result, error::Doing as _, removal};

/// A private directory in the store, removed with all it holds when dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    tmp: PathBuf,
    name: String,
    lock: File,
}

impl Scratch {
    pub(crate) fn new(store: &Store) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let tmp = store.root.join("tmp");
        let doing = || format!("make a temporary directory in `{}`", tmp.display());
        loop {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{now}-{count}", std::process::id());
            let path = tmp.join(&name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.system(doing)?,
            }
            // A sweep may lock and remove it between the two calls; then another is made.
            let lock = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.system(doing)?,
            };
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(error).system(doing),
            }
            if is_at(&lock, &path) {
                return Ok(Self { path, tmp, name, lock });
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// An open descriptor of the directory.
    pub(crate) fn file(&self) -> &File {
        &self.lock
    }

    /// Writes a file and puts it, whole and on disk, in the place of whatever is at `target`.
    pub(crate) fn publish_file(&self, target: &Path, content: &[u8]) -> io::Result<()> {
        let temporary = self.path.join("publish");
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, target)?;
        sync_parent(target)
    }

    /// Removes what processes that no longer live have left. What cannot be removed stays for
    /// another time: it is in nobody's way.
    pub(super) fn sweep(store: &Store) {
        let tmp = store.root.join("tmp");
        let Ok(entries) = fs::read_dir(&tmp) else { return };
        for entry in entries.flatten() {
            let Ok(lock) = File::open(entry.path()) else { continue };
            if lock.try_lock().is_err() {
                continue;
            }
            if let Err(error) = remove(&tmp, &entry.file_name()) {
                let path = entry.path();
                tracing::warn!("failed to remove `{}`: {error}", path.display());
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.tmp, OsStr::new(&self.name)) {
            tracing::warn!("failed to remove `{}`: {error}", self.path.display());
        }
    }
}

fn remove(tmp: &Path, name: &OsStr) -> io::Result<()> {
    let parent = File::open(tmp)?;
    removal::remove_tree(parent.as_fd(), name)
}

/// Whether `path` still names the file that was opened from it.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Makes a rename in the directory of `path` last.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
