//! Images of what jobs have written, which have no name.
//!
//! Nobody has asked for them by one, and still nothing that leads to an image may be lost while it
//! is wanted: a record keeps each from being swept, until it was not used for longest and the store
//! needs the room.

use std::{collections::HashSet, path::PathBuf, time::SystemTime};

use serde::{Deserialize, Serialize};

use super::{LayerKey, Scratch, Store, record};
use crate::{
    Result,
    image::{Image, digest::Digest},
};

/// Directory of the records. Made when the first is written: stores of earlier versions have none.
const DIRECTORY: &str = "states";

/// What is known of a kept state beside its image.
#[derive(Debug, Deserialize, Serialize)]
struct StateRecord {
    /// How many of the image's layers were written; they lie over the others.
    written: usize,
}

/// What a job has written, as an image. While this lives its layers stay in the store.
#[derive(Debug)]
pub struct KeptState {
    /// The image.
    pub image: Image,
    /// The same without what was written: what the job started from.
    pub before: Image,
}

/// A record, for removal.
#[derive(Clone, Debug)]
pub(super) struct StateUse {
    pub(super) used: SystemTime,
    /// The layers that were written.
    pub(super) written: Vec<LayerKey>,
    /// All layers of the image.
    pub(super) layers: Vec<LayerKey>,
}

impl Store {
    fn state_path(&self, image: &Digest) -> PathBuf {
        self.root.join(DIRECTORY).join(format!("{}.json", image.hex()))
    }

    /// Keeps an image that no name leads to, of whose layers the last `written` lie over those that
    /// it was made from. Returns the bytes of these; [`None`] where a removal has just taken the
    /// image.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn keep_state(&self, image: &Digest, written: usize) -> Result<Option<u64>> {
        record::make_directory(&self.root.join(DIRECTORY))?;
        let scratch = Scratch::new(self)?;
        // Held before the look, so that no removal comes between.
        let _lock = self.lock_shared()?;
        let Some(found) = self.image_record(image)? else { return Ok(None) };
        let layers = found.layers.iter().rev().take(written);
        let mut bytes = 0;
        for key in layers.filter_map(|layer| LayerKey::parse(&layer.layer)) {
            bytes += self.layer_record(&key)?.map_or(0, |record| record.bytes);
        }
        record::write(&scratch, self.state_path(image), &StateRecord { written })?;
        Ok(Some(bytes))
    }

    /// Takes a kept state for use, which counts as its use; [`None`] where the store has let go of
    /// it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn kept_state(&self, image: &Digest) -> Result<Option<KeptState>> {
        let path = self.state_path(image);
        let Some(known) = record::read::<StateRecord>(path.clone())? else { return Ok(None) };
        let Some(found) = self.find(&image.to_string())? else { return Ok(None) };
        let Some(listed) = self.image_record(image)? else { return Ok(None) };
        let below = listed.layers.len().saturating_sub(known.written);
        let below: HashSet<PathBuf> = listed
            .layers
            .iter()
            .take(below)
            .filter_map(|layer| Some(self.layer_path(&LayerKey::parse(&layer.layer)?).join("diff")))
            .collect();
        let mut before = found.with_layers(&[])?;
        before.layers.retain(|layer| below.contains(&layer.path));
        record::note_use(&path);
        Ok(Some(KeptState { image: found, before }))
    }

    /// All records. One that cannot be read leads nowhere.
    pub(super) fn state_uses(&self) -> Result<Vec<(Digest, StateUse)>> {
        let mut uses = Vec::new();
        for (image, path, used) in record::uses(&self.root.join(DIRECTORY))? {
            let known = record::read::<StateRecord>(path).ok().flatten();
            let layers: Vec<LayerKey> = self.image_record(&image)?.map_or_else(Vec::new, |found| {
                found.layers.iter().filter_map(|it| LayerKey::parse(&it.layer)).collect()
            });
            let below = layers.len().saturating_sub(known.map_or(0, |known| known.written));
            let written = layers.get(below..).unwrap_or_default().to_vec();
            uses.push((image, StateUse { used, written, layers }));
        }
        Ok(uses)
    }

    pub(super) fn remove_state(&self, image: &Digest) -> Result<bool> {
        record::remove(self.state_path(image))
    }
}
