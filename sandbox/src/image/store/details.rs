//! All that the store knows of an image, for people and programs that ask.

use serde::Deserialize;

use super::{ImageSummary, LayerKey, Scratch, Store};
use crate::{
    Result,
    error::Doing as _,
    image::{
        config::{self, ImageConfig},
        digest::Digest,
        reference::Reference,
    },
};

/// An image in the store.
#[derive(Clone, Debug)]
pub struct ImageDetails {
    /// The image's id: the digest of its configuration.
    pub id: Digest,
    /// The names that stand for it, sorted.
    pub names: Vec<Reference>,
    /// The digests of its manifests, where its sources had any.
    pub manifests: Vec<Digest>,
    /// How to start its processes.
    pub config: ImageConfig,
    /// The whole configuration, a JSON document as the image came with it.
    pub configuration: String,
    /// Lowest first.
    pub layers: Vec<LayerDetails>,
    /// How it was made, as it says itself; the oldest first.
    pub history: Vec<Made>,
}

/// A layer of an image in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerDetails {
    /// The digest of its uncompressed archive.
    pub diff_id: Digest,
    /// Archive members.
    pub entries: u64,
    /// Bytes of the uncompressed archive.
    pub bytes: u64,
}

/// A step in the making of an image (OCI image specification, "Image Configuration", `history`).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Made {
    /// When (RFC 3339).
    pub created: Option<String>,
    /// The command.
    pub created_by: Option<String>,
    /// By whom.
    pub author: Option<String>,
    /// What was said about it.
    pub comment: Option<String>,
    /// Whether it changed the configuration only, and made no layer.
    pub empty_layer: bool,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    history: Vec<Made>,
}

impl Store {
    /// Everything about the image that `name` stands for; `None` if the store has none. The
    /// embedded image has no details.
    ///
    /// # Errors
    /// When the name is no reference, or the store cannot be read.
    pub fn details(&self, name: &str) -> Result<Option<ImageDetails>> {
        let Some((id, _)) = self.identify(name)? else { return Ok(None) };
        let Some(record) = self.image_record(&id)? else { return Ok(None) };
        let doing = || format!("read the image `{id}`");
        let mut layers = Vec::with_capacity(record.layers.len());
        for layer in &record.layers {
            let key = LayerKey::parse(&layer.layer)
                .ok_or("the name of a layer is malformed")
                .system(doing)?;
            let known = self.layer_record(&key)?;
            layers.push(LayerDetails {
                diff_id: layer.diff_id.parse::<Digest>().system(doing)?,
                entries: known.as_ref().map_or(0, |known| known.entries),
                bytes: known.as_ref().map_or(0, |known| known.bytes),
            });
        }
        let config = config::parse(record.config.as_bytes()).system(doing)?.config;
        // What is wrong with it must keep nobody from looking at the rest.
        let history = serde_json::from_str::<Document>(&record.config)
            .map(|it| it.history)
            .unwrap_or_default();
        let named = self.list()?.into_iter().filter(|summary| summary.id == id);
        let (names, manifests): (Vec<_>, Vec<_>) =
            named.map(|summary| (summary.reference, summary.manifest)).unzip();
        let mut manifests: Vec<_> = manifests.into_iter().flatten().collect();
        manifests.sort_unstable();
        manifests.dedup();
        Ok(Some(ImageDetails {
            id,
            names,
            manifests,
            config,
            configuration: record.config,
            layers,
            history,
        }))
    }

    /// Gives an image another name; what that stood for before is only let go of.
    ///
    /// # Errors
    /// When the new name is the embedded image's, or the store cannot be written.
    pub fn tag(&self, name: &str, new: &Reference) -> Result<bool> {
        let wrong = if new.is_embedded() {
            Some("the name `host` belongs to the embedded image")
        } else if new.digest().is_some() {
            Some("a digest cannot be chosen")
        } else {
            None
        };
        if let Some(why) = wrong {
            return Err(why).pipeline(|| format!("name an image `{new}`"));
        }
        let scratch = Scratch::new(self)?;
        // Held before the look, so that no removal comes between.
        let _lock = self.lock_shared()?;
        let Some((id, found)) = self.identify(name)? else { return Ok(false) };
        if self.image_record(&id)?.is_none() {
            return Ok(false);
        }
        let old = match found {
            Some(reference) => self.resolve(&reference)?,
            None => None,
        };
        let (manifest, reference) = (old.and_then(|old| old.manifest), new.clone());
        // Nobody but who gave the name knows what it is to stand for.
        let summary = ImageSummary { reference, id, manifest, replaceable: false };
        self.publish_name(&scratch, &summary)?;
        Ok(true)
    }
}
