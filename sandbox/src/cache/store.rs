//! Where caches are, and who uses them.
//!
//! Each is a directory with its description, `entry.json`, whose lock says that it is in use: runs
//! hold it shared for as long as a container shows the cache, and what is to be removed is locked
//! alone. What goes when all of them together take too much is beside the list of them.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read as _},
    os::{fd::AsFd as _, unix::fs::DirBuilderExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::copy::Copy;
use crate::{
    Container, WORKSPACE,
    error::{Doing as _, Error, Result},
    ids,
    image::Digest,
    removal,
};

/// Directory of all caches, below the state directory.
const DIRECTORY: &str = "caches";
/// Below it, what is being written or removed.
pub(super) const UNFINISHED: &str = "unfinished";
/// The description of a cache, in its directory.
pub(super) const DESCRIPTION: &str = "entry.json";
/// Its files, in its directory.
const TREE: &str = "tree";
/// The longest description that is read.
const DESCRIPTION_MAX: u64 = 64 * 1024;
/// Ids of a container.
const IDS: u32 = 65536;
/// Most caches that are looked at for one of a key that begins so.
const ENTRIES_MAX: usize = 100_000;

/// The caches below a state directory.
#[derive(Clone, Debug)]
pub struct Caches {
    pub(super) directory: PathBuf,
    pub(super) most: u64,
}

/// A cache that is in use, and stays as long as this lives.
#[derive(Debug)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// A tree that stands for a container's `/`.
    pub tree: PathBuf,
    #[expect(dead_code, reason = "its lock is held")]
    lock: File,
}

/// What there is for a key.
#[derive(Debug)]
pub struct Found {
    /// The cache.
    pub entry: Entry,
    /// Whether it is the key's own, and not one of a key that begins alike.
    pub exact: bool,
}

/// What became of files that were to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// They are kept, and take so many bytes.
    Kept(u64),
    /// There is a cache of this key already.
    Exists,
    /// There are no such files.
    Nothing,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Description {
    pub(super) key: String,
    /// Nanoseconds since 1970.
    pub(super) created: u64,
    pub(super) bytes: u64,
}

impl Caches {
    /// The caches below `state`, which together may take `most` bytes.
    ///
    /// # Errors
    /// When their directory cannot be read.
    pub fn open(state: &Path, most: u64) -> Result<Self> {
        let directory = state.join(DIRECTORY);
        match sweep(&directory.join(UNFINISHED)) {
            Err(error) if !is_absent(&error) => {
                Err(error).system(|| format!("open the caches in `{}`", directory.display()))
            }
            _ => Ok(Self { directory, most }),
        }
    }

    fn place(&self, scope: &str, key: &str) -> PathBuf {
        self.directory.join(name(scope)).join(name(key))
    }

    /// The cache of `key`, or the youngest one whose key begins like one of `beginnings`, the first
    /// of these that has any.
    ///
    /// # Errors
    /// When the caches cannot be read.
    pub fn find(&self, scope: &str, key: &str, beginnings: &[String]) -> Result<Option<Found>> {
        let doing = || format!("look for the cache `{key}`");
        let own = lease(&self.place(scope, key)).system(doing)?;
        if let Some((entry, _)) = own.filter(|(entry, _)| entry.key == key) {
            return Ok(Some(Found { entry, exact: true }));
        }
        if beginnings.is_empty() {
            return Ok(None);
        }
        let all = entries(&self.directory.join(name(scope))).system(doing)?;
        for beginning in beginnings {
            let mut fitting: Vec<_> =
                all.iter().filter(|(_, it)| it.key.starts_with(beginning.as_str())).collect();
            fitting.sort_by_key(|(_, description)| std::cmp::Reverse(description.created));
            for (path, _) in fitting {
                if let Some((entry, _)) = lease(path).system(doing)? {
                    return Ok(Some(Found { entry, exact: false }));
                }
            }
        }
        Ok(None)
    }

    /// Keeps `paths` of a container that has ended under `key`; relative ones count from its
    /// workspace.
    ///
    /// # Errors
    /// When they are too large or cannot be read or written; nothing is kept then.
    pub fn save(
        &self,
        scope: &str,
        key: &str,
        container: &Container,
        paths: &[PathBuf],
    ) -> Result<Saved> {
        let place = self.place(scope, key);
        if place.exists() {
            return Ok(Saved::Exists);
        }
        let doing = || format!("keep the cache `{key}`");
        let unfinished = Unfinished::new(&self.directory.join(UNFINISHED)).system(doing)?;
        let tree = unfinished.path.join(TREE);
        DirBuilder::new().mode(0o755).create(&tree).system(doing)?;
        let first = container.first_id();
        // What is no id of the container's is shown as another's, and kept as root's.
        let inside = |id: u32| match first {
            Some(first) => id.checked_sub(first).filter(|id| *id < IDS).unwrap_or(0),
            None => ids::owner(id).unwrap_or(0),
        };
        let keeps_owners = first.is_some() || ids::owner(0).is_some();
        let inside: Option<&dyn Fn(u32) -> u32> = if keeps_owners { Some(&inside) } else { None };
        let mut copy = Copy::new(&tree, inside, self.most);
        let mut any = false;
        for path in paths {
            let path = Path::new(WORKSPACE).join(path);
            let added = match path.strip_prefix(WORKSPACE) {
                Ok(below) => {
                    let place = WORKSPACE.trim_start_matches('/');
                    copy.add(container.workspace(), Path::new(place), below)
                }
                Err(_) => copy.add(container.root(), Path::new(""), &path),
            };
            any |= added.map_err(|error| refused(&doing(), &path, error))?;
        }
        if !any {
            return Ok(Saved::Nothing);
        }
        let bytes = self.most.saturating_sub(copy.left);
        copy.finish().system(doing)?;
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let created = u64::try_from(created.as_nanos()).unwrap_or(u64::MAX);
        let description = Description { key: key.to_owned(), created, bytes };
        let publish = || -> io::Result<bool> {
            let text = serde_json::to_vec(&description)?;
            fs::write(unfinished.path.join(DESCRIPTION), text)?;
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(place.parent().unwrap_or(&self.directory))?;
            match fs::rename(&unfinished.path, &place) {
                Ok(()) => Ok(true),
                // Another job was faster: one is as good as the other.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                    ) =>
                {
                    Ok(false)
                }
                Err(error) => Err(error),
            }
        };
        let published = publish().system(doing)?;
        if !published {
            return Ok(Saved::Exists);
        }
        self.evict().system(|| "make room for caches")?;
        Ok(Saved::Kept(bytes))
    }

    /// Keeps the directory `path` of a container that has ended under a new key, `beginning` with a
    /// number, which is what [`Self::find`] finds from now on for that beginning.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_next(
        &self,
        scope: &str,
        beginning: &str,
        container: &Container,
        path: &Path,
    ) -> Result<Saved> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        self.save(scope, &format!("{beginning}{now}"), container, &[path.to_owned()])
    }

    /// Removes all but the youngest of those whose keys begin so, and those that are in use.
    ///
    /// # Errors
    /// When they cannot be read or removed.
    pub fn keep_youngest(&self, scope: &str, beginning: &str) -> Result<()> {
        let clear = || -> io::Result<()> {
            let mut all = entries(&self.directory.join(name(scope)))?;
            all.retain(|(_, description)| description.key.starts_with(beginning));
            let youngest = all.iter().map(|(_, description)| description.created).max();
            for (path, description) in all {
                if Some(description.created) != youngest {
                    self.remove(&path)?;
                }
            }
            Ok(())
        };
        clear().system(|| format!("remove older states of the cache `{}`", beginning.trim_end()))
    }

    /// Removes a cache, unless somebody uses it; whether it is gone.
    pub(super) fn remove(&self, path: &Path) -> io::Result<bool> {
        let Ok(lock) = File::open(path.join(DESCRIPTION)) else { return Ok(false) };
        if lock.try_lock().is_err() {
            return Ok(false);
        }
        let going = Unfinished::new(&self.directory.join(UNFINISHED))?;
        match fs::rename(path, going.path.join("going")) {
            // Somebody else was faster.
            Err(error) if is_absent(&error) => Ok(false),
            other => other.map(|()| true),
        }
    }
}

/// Why `path` is not kept, and what to do about it.
fn refused(doing: &str, path: &Path, error: io::Error) -> Error {
    let doing = format!("{doing}: `{}`", path.display());
    match error.raw_os_error() {
        Some(libc::ELOOP) => Error::pipeline(
            doing,
            "it is a symbolic link, or one is on the way, and none is followed",
        )
        .remedy("name the place that the link leads to"),
        Some(libc::EXDEV) => Error::pipeline(doing, "it is on a mount, of which nothing is kept")
            .remedy("name a directory of the workspace or of the image"),
        _ if error.kind() == io::ErrorKind::FileTooLarge => Error::pipeline(doing, error)
            .remedy("name fewer `paths`, or raise what caches may take"),
        _ => Error::pipeline(doing, error),
    }
}

/// A fixed name for any text.
pub(super) fn name(text: &str) -> String {
    Digest::of(text.as_bytes()).hex().chars().take(32).collect()
}

/// Takes the cache at `path` into use; `None` where there is none, or it is just going.
fn lease(path: &Path) -> io::Result<Option<(Entry, Description)>> {
    let file = path.join(DESCRIPTION);
    let lock = match File::options().read(true).write(true).open(&file) {
        Ok(lock) => lock,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    if lock.try_lock_shared().is_err() || !crate::lock_file::is_named(&lock, &file)? {
        return Ok(None);
    }
    let Some(description) = describe(&lock) else { return Ok(None) };
    lock.set_modified(SystemTime::now())?;
    let entry = Entry { key: description.key.clone(), tree: path.join(TREE), lock };
    Ok(Some((entry, description)))
}

fn describe(file: &File) -> Option<Description> {
    let mut text = Vec::new();
    file.take(DESCRIPTION_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// The caches of a scope; those that go meanwhile are left out.
pub(super) fn entries(scope: &Path) -> io::Result<Vec<(PathBuf, Description)>> {
    let listed = match fs::read_dir(scope) {
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in listed.take(ENTRIES_MAX) {
        let path = entry?.path();
        let Ok(file) = File::open(path.join(DESCRIPTION)) else { continue };
        found.extend(describe(&file).map(|description| (path, description)));
    }
    Ok(found)
}

pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// A directory of this process alone, removed with all that is in it when dropped.
struct Unfinished {
    path: PathBuf,
    #[expect(dead_code, reason = "its lock is held")]
    lock: File,
}

impl Unfinished {
    fn new(parent: &Path) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            let path = parent.join(format!("{}-{now}-{count}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other?,
            }
            // Another start may sweep it before it is locked; then another is made.
            let Ok(lock) = File::open(&path) else { continue };
            if lock.try_lock().is_ok() && path.exists() {
                return Ok(Self { path, lock });
            }
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name())
            && let Ok(parent) = File::open(parent)
        {
            // What cannot be removed now, the next start removes.
            removal::remove_tree(parent.as_fd(), name).ok();
        }
    }
}

/// Removes what killed processes have left.
fn sweep(directory: &Path) -> io::Result<()> {
    let parent = File::open(directory)?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(lock) = File::open(entry.path()) else { continue };
        if lock.try_lock().is_ok() {
            // Whatever keeps it, the next start tries again.
            removal::remove_tree(parent.as_fd(), &entry.file_name()).ok();
        }
    }
    Ok(())
}
