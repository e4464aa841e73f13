//! What build steps came to, each kept under a key of all that it depends on.
//!
//! A step's layer lives in the store like any other; a record leads from the step's key to it, so
//! it stays without an image until it has not been used for longest. Whoever runs a step holds its
//! lock, so that others who want the same wait and find it done.

use std::{
    fs::{self, DirBuilder, File, FileTimes, TryLockError},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use super::{LayerDir, LayerKey, LayerUse, Scratch, Store, layer::Lock};
use crate::{Result, error::Doing as _, image::digest::Digest};

/// Directory of the records. Made when the first is written: stores of earlier versions have none.
const DIRECTORY: &str = "steps";

/// A step as the store keeps it.
#[derive(Debug, Deserialize, Serialize)]
struct StepRecord {
    /// For people.
    created_by: String,
    /// Absent where the step changed no file.
    layer: Option<LayerUse>,
}

/// What a step came to.
#[derive(Debug)]
pub struct KeptStep {
    /// What it wrote; [`None`] where it changed no file.
    pub layer: Option<LayerDir>,
}

/// The right to run the step of one key. Others who want it wait, also in other processes.
#[derive(Debug)]
pub struct StepLock {
    _lock: Lock,
}

/// A record, for removal.
#[derive(Clone, Debug)]
pub(super) struct StepUse {
    pub(super) used: SystemTime,
    pub(super) layer: Option<LayerKey>,
}

impl Store {
    fn step_path(&self, key: &Digest) -> PathBuf {
        self.root.join(DIRECTORY).join(format!("{}.json", key.hex()))
    }

    /// What the step of this key came to, if that is kept; it counts as used now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn kept_step(&self, key: &Digest) -> Result<Option<KeptStep>> {
        let path = self.step_path(key);
        let Some(record) = super::record::read::<StepRecord>(path.clone())? else {
            return Ok(None);
        };
        let doing = || format!("read `{}`", path.display());
        let layer = match &record.layer {
            None => None,
            Some(layer) => {
                let diff_id = layer.diff_id.parse::<Digest>().system(doing)?;
                let found = LayerKey::parse(&layer.layer);
                let found = found.ok_or("the name of a layer is malformed").system(doing)?;
                // Gone by itself, as a killed removal leaves it.
                let Some(layer) = self.lease(&found, &diff_id)? else { return Ok(None) };
                Some(layer)
            }
        };
        let now = FileTimes::new().set_modified(SystemTime::now());
        let noted = File::options().write(true).open(&path).and_then(|file| file.set_times(now));
        if let Err(error) = noted {
            tracing::debug!(%error, path = %path.display(), "the use of a step is not noted");
        }
        Ok(Some(KeptStep { layer }))
    }

    /// Keeps what a step came to, whole and on disk.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn keep_step(
        &self,
        key: &Digest,
        created_by: &str,
        layer: Option<&LayerDir>,
    ) -> Result<()> {
        let path = self.step_path(key);
        let doing = || format!("write `{}`", path.display());
        let record =
            StepRecord { created_by: created_by.to_owned(), layer: layer.map(LayerUse::of) };
        let document = serde_json::to_vec(&record).system(doing)?;
        let directory = self.root.join(DIRECTORY);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).system(doing)?;
        let scratch = Scratch::new(self)?;
        let _lock = self.lock_shared()?;
        scratch.publish_file(&path, &document).system(doing)
    }

    /// Takes the right to run the step of this key, or [`None`] where someone else has it.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn try_lock_step(&self, key: &Digest) -> Result<Option<StepLock>> {
        let name = step_lock(key);
        let lock = self.lock_named(&name, |file| match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        })?;
        Ok(lock.map(|lock| StepLock { _lock: lock }))
    }

    /// As [`Self::try_lock_step`], and blocks until whoever has it is done.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn lock_step(&self, key: &Digest) -> Result<StepLock> {
        loop {
            let lock = self.lock_named(&step_lock(key), |file| file.lock().map(|()| true))?;
            if let Some(lock) = lock {
                return Ok(StepLock { _lock: lock });
            }
        }
    }

    /// All records. One that cannot be read leads nowhere.
    pub(super) fn step_uses(&self) -> Result<Vec<(Digest, StepUse)>> {
        let path = self.root.join(DIRECTORY);
        let doing = || format!("list `{}`", path.display());
        let listed = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.system(doing)?,
        };
        let mut uses = Vec::new();
        for entry in listed {
            let entry = entry.system(doing)?;
            let name = entry.file_name();
            let hex = name.to_str().and_then(|name| name.strip_suffix(".json"));
            let key = hex.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
            let Some(key) = key else { continue };
            let used = entry.metadata().and_then(|found| found.modified());
            let record = super::record::read::<StepRecord>(entry.path());
            let layer = record.ok().flatten().and_then(|record| record.layer);
            let layer = layer.and_then(|layer| LayerKey::parse(&layer.layer));
            uses.push((key, StepUse { used: used.unwrap_or(SystemTime::UNIX_EPOCH), layer }));
        }
        Ok(uses)
    }

    pub(super) fn remove_step(&self, key: &Digest) -> Result<bool> {
        super::record::remove(self.step_path(key))
    }
}

fn step_lock(key: &Digest) -> String {
    format!("step-{}", key.hex())
}
