//! What build steps came to, each kept under a key of all that it depends on.
//!
//! A step's layer lives in the store like any other; a record leads from the step's key to it, so
//! it stays without an image until it has not been used for longest. Whoever runs a step holds its
//! lock, so that others who want the same wait and find it done.

use std::{fs::TryLockError, path::PathBuf, time::SystemTime};

use serde::{Deserialize, Serialize};

use super::{LayerDir, LayerKey, LayerUse, Scratch, Store, layer::Lock, record};
use crate::{Result, error::Doing as _, image::digest::Digest};

/// Directory of the records. Made when the first is written: stores of earlier versions have none.
const DIRECTORY: &str = "steps";
/// The most records that are read to find which step comes nearest to another.
const LISTED: usize = 4096;

/// A step as the store keeps it.
#[derive(Debug, Deserialize, Serialize)]
struct StepRecord {
    /// For people.
    created_by: String,
    /// What its key was made of: names, and digests of values. Earlier versions did not say.
    #[serde(default)]
    parts: Vec<(String, String)>,
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
        let found = self.seen_step(key)?;
        if found.is_some() {
            record::note_use(&self.step_path(key));
        }
        Ok(found)
    }

    /// As [`Self::kept_step`], and it does not count as used.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn seen_step(&self, key: &Digest) -> Result<Option<KeptStep>> {
        let path = self.step_path(key);
        let Some(known) = record::read::<StepRecord>(path.clone())? else { return Ok(None) };
        let doing = || format!("read `{}`", path.display());
        let layer = match &known.layer {
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
        Ok(Some(KeptStep { layer }))
    }

    /// What the keys of the steps that are kept were made of, as [`Self::keep_step`] was told; of no
    /// more than some thousands. A record that cannot be read is left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn step_parts(&self) -> Result<Vec<Vec<(String, String)>>> {
        let mut all = Vec::new();
        for (_, path, _) in record::uses(&self.root.join(DIRECTORY))?.into_iter().take(LISTED) {
            let known = record::read::<StepRecord>(path);
            let parts = known.ok().flatten().map(|known| known.parts);
            all.extend(parts.filter(|parts| !parts.is_empty()));
        }
        Ok(all)
    }

    /// Keeps what a step came to, whole and on disk. `parts` says what its key was made of, by names
    /// and digests.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn keep_step(
        &self,
        key: &Digest,
        created_by: &str,
        parts: &[(String, String)],
        layer: Option<&LayerDir>,
    ) -> Result<()> {
        record::make_directory(&self.root.join(DIRECTORY))?;
        let known = StepRecord {
            created_by: created_by.to_owned(),
            parts: parts.to_vec(),
            layer: layer.map(LayerUse::of),
        };
        let scratch = Scratch::new(self)?;
        let _lock = self.lock_shared()?;
        record::write(&scratch, self.step_path(key), &known)
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
        let mut uses = Vec::new();
        for (key, path, used) in record::uses(&self.root.join(DIRECTORY))? {
            let known = record::read::<StepRecord>(path);
            let layer = known.ok().flatten().and_then(|known| known.layer);
            let layer = layer.and_then(|layer| LayerKey::parse(&layer.layer));
            uses.push((key, StepUse { used, layer }));
        }
        Ok(uses)
    }

    pub(super) fn remove_step(&self, key: &Digest) -> Result<bool> {
        record::remove(self.step_path(key))
    }
}

fn step_lock(key: &Digest) -> String {
    format!("step-{}", key.hex())
}
