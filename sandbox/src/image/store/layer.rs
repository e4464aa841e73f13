//! Layers in the store, and the locks that keep them there and keep two processes from unpacking
//! one at the same time.

use std::{
    fmt,
    fs::{self, File, TryLockError},
    io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use super::{Scratch, Store, scratch};
use crate::{
    Result,
    error::Doing as _,
    image::digest::{Algorithm, Digest},
};

/// A layer that a container can take as an overlay lower. While this lives the layer stays.
///
/// The lock belongs to the open file description, so a process that was handed a duplicate of
/// [`Self::as_fd`] keeps the layer as well, even when this process dies.
#[derive(Debug)]
pub struct LayerDir {
    /// The digest of the layer's uncompressed archive; for the host image, its fingerprint.
    pub diff_id: Digest,
    /// The directory of the layer's files.
    pub path: PathBuf,
    directory: File,
}

impl LayerDir {
    /// One more hold on it.
    ///
    /// # Errors
    /// When this process may open no more files.
    pub fn again(&self) -> Result<Self> {
        let copy = self.directory.try_clone();
        let directory = copy.system(|| format!("hold the layer `{}`", self.diff_id))?;
        Ok(Self { diff_id: self.diff_id.clone(), path: self.path.clone(), directory })
    }
}

impl AsFd for LayerDir {
    /// The layer's directory, open for reading.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// The name of a layer in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum LayerKey {
    /// By diff id: the layer needs no other.
    Diff(Digest),
    /// By chain id: the layer was completed from those below it.
    Chain(Digest),
    /// By the host's fingerprint.
    Host(Digest),
}

impl LayerKey {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (kind, hex) = text.split_once('/')?;
        let sha256 = || format!("sha256:{hex}").parse::<Digest>().ok();
        match kind {
            "chain" => sha256().map(Self::Chain),
            "host" => sha256().map(Self::Host),
            "sha256" | "sha512" => format!("{kind}:{hex}").parse().ok().map(Self::Diff),
            _ => None,
        }
    }
}

/// The path below `layers`.
impl fmt::Display for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Diff(digest) => write!(f, "{}/{}", digest.algorithm().as_str(), digest.hex()),
            Self::Chain(digest) => write!(f, "chain/{}", digest.hex()),
            Self::Host(digest) => write!(f, "host/{}", digest.hex()),
        }
    }
}

/// The right to unpack one layer: others who want the same layer wait for it, and find it there.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still locked, so nobody can be using the file under this name by now.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("failed to remove `{}`: {error}", self.path.display());
        }
    }
}

impl Store {
    pub(crate) fn layer_path(&self, key: &LayerKey) -> PathBuf {
        self.root.join("layers").join(key.to_string())
    }

    /// Takes a layer for use if the store has it.
    pub(crate) fn lease(&self, key: &LayerKey, diff_id: &Digest) -> Result<Option<LayerDir>> {
        let path = self.layer_path(key).join("diff");
        let doing = || format!("open the layer `{}`", path.display());
        loop {
            let directory = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                other => other.system(doing)?,
            };
            directory.lock_shared().system(doing)?;
            // It may have been removed, and even made again, while this waited for the lock.
            if scratch::is_at(&directory, &path) {
                return Ok(Some(LayerDir { diff_id: diff_id.clone(), path, directory }));
            }
        }
    }

    /// Puts the finished layer at `made` in its place, and takes it for use. If another process
    /// was first, its copy is the one that counts and this one stays in the scratch directory.
    pub(crate) fn publish_layer(
        &self,
        key: &LayerKey,
        diff_id: &Digest,
        made: &Path,
    ) -> Result<LayerDir> {
        let target = self.layer_path(key);
        let doing = || format!("put the layer `{}` in its place", target.display());
        // Locked before it can be seen, so that no removal comes between.
        let directory = File::open(made.join("diff")).system(doing)?;
        directory.lock_shared().system(doing)?;
        loop {
            match fs::rename(made, &target) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                    ) => {}
                other => {
                    other.system(doing)?;
                    scratch::sync_parent(&target).system(doing)?;
                    let path = target.join("diff");
                    return Ok(LayerDir { diff_id: diff_id.clone(), path, directory });
                }
            }
            // Unless it is gone again by now, the other copy serves.
            if let Some(lease) = self.lease(key, diff_id)? {
                return Ok(lease);
            }
        }
    }

    /// Waits for the right to unpack the layer with this diff id. Whoever takes several must take
    /// them in ascending order, or two could wait for each other.
    pub(crate) fn lock_layer(&self, diff_id: &Digest) -> Result<Lock> {
        let name = format!("{}-{}", diff_id.algorithm().as_str(), diff_id.hex());
        loop {
            if let Some(lock) = self.lock_named(&name, |file| file.lock().map(|()| true))? {
                return Ok(lock);
            }
        }
    }

    /// Takes the lock of this name in the way of `take`, which tells whether it has it. The one
    /// before removes the file when done, and a lock on a removed file binds nobody: then there is
    /// none, as where `take` has none.
    pub(super) fn lock_named(
        &self,
        name: &str,
        take: impl Fn(&File) -> io::Result<bool>,
    ) -> Result<Option<Lock>> {
        let path = self.root.join("locks").join(name);
        let doing = || format!("lock `{}`", path.display());
        let options =
            File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = options.system(doing)?;
        let taken = take(&file).system(doing)? && scratch::is_at(&file, &path);
        Ok(taken.then_some(file).map(|file| Lock { path: path.clone(), _file: file }))
    }

    /// Keeps removal away while something that uses layers is being published.
    pub(crate) fn lock_shared(&self) -> Result<File> {
        let file = self.lock_file()?;
        file.lock_shared().system(|| "lock the image store")?;
        Ok(file)
    }

    /// Keeps every publishing away.
    pub(super) fn lock_exclusively(&self) -> Result<File> {
        let file = self.lock_file()?;
        file.lock().system(|| "lock the image store")?;
        Ok(file)
    }

    fn lock_file(&self) -> Result<File> {
        let path = self.root.join("lock");
        let options =
            File::options().read(true).write(true).create(true).truncate(false).open(&path);
        options.system(|| format!("open `{}`", path.display()))
    }

    /// Moves a layer that nobody uses into `scratch`; tells whether it went.
    pub(super) fn retire_layer(&self, key: &LayerKey, scratch: &Scratch) -> Result<bool> {
        let path = self.layer_path(key);
        let doing = || format!("remove the layer `{}`", path.display());
        let directory = match File::open(path.join("diff")) {
            Ok(directory) => directory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).system(doing),
        };
        match directory.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error).system(doing),
        }
        let name = key.to_string().replace('/', "-");
        match fs::rename(&path, scratch.path().join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.system(doing).map(|()| true),
        }
    }

    /// Whether somebody uses a layer right now.
    pub(super) fn is_leased(&self, key: &LayerKey) -> Result<bool> {
        let path = self.layer_path(key).join("diff");
        let doing = || format!("look at the layer `{}`", path.display());
        let directory = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.system(doing)?,
        };
        match directory.try_lock() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error).system(doing),
        }
    }

    /// Every layer in the store.
    pub(super) fn layer_keys(&self) -> Result<Vec<LayerKey>> {
        let mut keys = Vec::new();
        for kind in [Algorithm::Sha256.as_str(), Algorithm::Sha512.as_str(), "chain", "host"] {
            let path = self.root.join("layers").join(kind);
            let doing = || format!("list `{}`", path.display());
            for entry in fs::read_dir(&path).system(doing)? {
                let name = entry.system(doing)?.file_name();
                keys.extend(LayerKey::parse(&format!("{kind}/{}", name.to_string_lossy())));
            }
        }
        Ok(keys)
    }
}
