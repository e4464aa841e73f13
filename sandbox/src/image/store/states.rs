//! Images of what jobs have written, which have no name.
//!
//! Nobody has asked for them by one, and still nothing that leads to an image may be lost while it
//! is wanted: a record keeps each from being swept, until it was not used for longest and the store
//! needs the room.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File, FileTimes},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use super::{LayerKey, Scratch, Store};
use crate::{
    Result,
    error::Doing as _,
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
        let path = self.state_path(image);
        let doing = || format!("write `{}`", path.display());
        let document = serde_json::to_vec(&StateRecord { written }).system(doing)?;
        let directory = self.root.join(DIRECTORY);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).system(doing)?;
        let scratch = Scratch::new(self)?;
        // Held before the look, so that no removal comes between.
        let _lock = self.lock_shared()?;
        let Some(record) = self.image_record(image)? else { return Ok(None) };
        let layers = record.layers.iter().rev().take(written);
        let mut bytes = 0;
        for key in layers.filter_map(|layer| LayerKey::parse(&layer.layer)) {
            bytes += self.layer_record(&key)?.map_or(0, |record| record.bytes);
        }
        scratch.publish_file(&path, &document).system(doing)?;
        Ok(Some(bytes))
    }

    /// Takes a kept state for use, which counts as its use; [`None`] where the store has let go of
    /// it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn kept_state(&self, image: &Digest) -> Result<Option<KeptState>> {
        let path = self.state_path(image);
        let Some(known) = super::record::read::<StateRecord>(path.clone())? else {
            return Ok(None);
        };
        let Some(found) = self.find(&image.to_string())? else { return Ok(None) };
        let Some(record) = self.image_record(image)? else { return Ok(None) };
        let below = record.layers.len().saturating_sub(known.written);
        let below: HashSet<PathBuf> = record
            .layers
            .iter()
            .take(below)
            .filter_map(|layer| Some(self.layer_path(&LayerKey::parse(&layer.layer)?).join("diff")))
            .collect();
        let mut before = found.with_layers(&[])?;
        before.layers.retain(|layer| below.contains(&layer.path));
        let now = FileTimes::new().set_modified(SystemTime::now());
        let noted = File::options().write(true).open(&path).and_then(|file| file.set_times(now));
        if let Err(error) = noted {
            tracing::debug!(%error, path = %path.display(), "the use of a state is not noted");
        }
        Ok(Some(KeptState { image: found, before }))
    }

    /// All records. One that cannot be read leads nowhere.
    pub(super) fn state_uses(&self) -> Result<Vec<(Digest, StateUse)>> {
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
            let image = hex.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
            let Some(image) = image else { continue };
            let used = entry.metadata().and_then(|found| found.modified());
            let known = super::record::read::<StateRecord>(entry.path()).ok().flatten();
            let layers: Vec<LayerKey> = self.image_record(&image)?.map_or_else(Vec::new, |found| {
                found.layers.iter().filter_map(|it| LayerKey::parse(&it.layer)).collect()
            });
            let below = layers.len().saturating_sub(known.map_or(0, |known| known.written));
            uses.push((
                image,
                StateUse {
                    used: used.unwrap_or(SystemTime::UNIX_EPOCH),
                    written: layers.get(below..).unwrap_or_default().to_vec(),
                    layers,
                },
            ));
        }
        Ok(uses)
    }

    pub(super) fn remove_state(&self, image: &Digest) -> Result<bool> {
        super::record::remove(self.state_path(image))
    }
}
