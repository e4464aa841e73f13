//! What the names in the store lead to, and the removal of everything else.

use std::collections::{HashMap, HashSet};

use super::{ImageSummary, LayerKey, Scratch, Store};
use crate::{Result, image::digest::Digest};

/// What went because no name leads to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Images.
    pub images: usize,
    /// Layers that no other image has.
    pub layers: usize,
    /// Bytes of their archives.
    pub bytes: u64,
    /// Layers that are still in use by something that runs; the next sweep takes them.
    pub layers_in_use: usize,
    /// Bytes of all layers that are left.
    pub left: u64,
}

/// The layers of the store, and which of them the names lead to.
#[derive(Debug)]
pub(super) struct Holdings {
    /// Bytes of each layer, the embedded image's apart: it has no name, and goes when the host
    /// changes.
    layers: HashMap<LayerKey, u64>,
    /// The layers of each image that has a name.
    images: HashMap<Digest, Vec<LayerKey>>,
    /// What build steps came to.
    steps: HashMap<Digest, LayerKey>,
    /// The layers of each image that is the state of a job.
    states: HashMap<Digest, Vec<LayerKey>>,
}

impl Holdings {
    /// Bytes of all layers.
    pub(super) fn all(&self) -> u64 {
        self.layers.values().sum()
    }

    /// Bytes of the layers that a name, a build step or a state of a job leads to.
    pub(super) fn named(&self) -> u64 {
        self.used().into_iter().filter_map(|key| self.layers.get(key)).sum()
    }

    /// No name leads to this image any more.
    pub(super) fn forget(&mut self, image: &Digest) {
        self.images.remove(image);
    }

    /// No build step leads to its layer any more.
    pub(super) fn forget_step(&mut self, step: &Digest) {
        self.steps.remove(step);
    }

    /// This state of a job is not kept any more.
    pub(super) fn forget_state(&mut self, image: &Digest) {
        self.states.remove(image);
    }

    fn used(&self) -> HashSet<&LayerKey> {
        let images = self.images.values().chain(self.states.values()).flatten();
        images.chain(self.steps.values()).collect()
    }
}

impl Store {
    pub(super) fn holdings(&self, names: &[ImageSummary]) -> Result<Holdings> {
        let steps = self.step_uses()?.into_iter();
        let steps = steps.filter_map(|(step, of)| Some((step, of.layer?))).collect();
        let states = self.state_uses()?.into_iter().map(|(image, of)| (image, of.layers));
        let (layers, images) = (HashMap::new(), HashMap::new());
        let mut holdings = Holdings { layers, images, steps, states: states.collect() };
        for key in self.layer_keys()? {
            if !matches!(key, LayerKey::Host(_)) {
                let bytes = self.layer_record(&key)?.map_or(0, |record| record.bytes);
                holdings.layers.insert(key, bytes);
            }
        }
        for name in names {
            if let Some(record) = self.image_record(&name.id)? {
                let keys = record.layers.iter().filter_map(|it| LayerKey::parse(&it.layer));
                holdings.images.insert(name.id.clone(), keys.collect());
            }
        }
        Ok(holdings)
    }

    /// Removes the images that nothing in `holdings` leads to, and the layers, the files by way of
    /// `scratch`; without that, only says what would go. The store must be locked exclusively.
    pub(super) fn sweep(&self, scratch: Option<&Scratch>, holdings: &Holdings) -> Result<Swept> {
        let mut swept = Swept::default();
        for id in self.image_ids()? {
            if !holdings.images.contains_key(&id)
                && !holdings.states.contains_key(&id)
                && (scratch.is_none() || self.remove_image(&id)?)
            {
                swept.images += 1;
            }
        }
        let used = holdings.used();
        for (key, bytes) in &holdings.layers {
            let goes = !used.contains(key)
                && match scratch {
                    Some(scratch) => self.retire_layer(key, scratch)?,
                    None => true,
                };
            if goes {
                swept.layers += 1;
                swept.bytes += bytes;
            } else {
                swept.layers_in_use += usize::from(!used.contains(key));
                swept.left += bytes;
            }
        }
        Ok(swept)
    }
}
