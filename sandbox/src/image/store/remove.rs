//! Removing names, and the images and layers that no name leads to any more.

use std::collections::HashSet;

use super::{LayerKey, Scratch, Store};
use crate::{Result, image::reference::Reference};

/// What a removal took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Whether the name was there.
    pub name: bool,
    /// Images that had no other name.
    pub images: usize,
    /// Layers that no other image has.
    pub layers: usize,
    /// Layers that are still in use by something that runs; the next removal takes them.
    pub layers_in_use: usize,
}

impl Store {
    /// Removes a name, and whatever only that name led to. What a run uses stays until it ends.
    pub fn remove(&self, reference: &Reference) -> Result<Removed> {
        let scratch = Scratch::new(self)?;
        let lock = self.lock_exclusively()?;
        let mut removed = Removed { name: self.remove_name(reference)?, ..Removed::default() };
        let named: HashSet<_> = self.list()?.into_iter().map(|name| name.id).collect();
        let mut used = HashSet::new();
        for id in self.image_ids()? {
            if !named.contains(&id) {
                removed.images += usize::from(self.remove_image(&id)?);
            } else if let Some(record) = self.image_record(&id)? {
                used.extend(record.layers.iter().filter_map(|layer| LayerKey::parse(&layer.layer)));
            }
        }
        for key in self.layer_keys()? {
            // The host image's layer has no name; it goes when the host changes.
            if used.contains(&key) || matches!(key, LayerKey::Host(_)) {
                continue;
            }
            if self.retire_layer(&key, &scratch)? {
                removed.layers += 1;
            } else {
                removed.layers_in_use += 1;
            }
        }
        // The files themselves go without holding anyone up.
        drop(lock);
        drop(scratch);
        Ok(removed)
    }

    /// Moves the host layers other than `current` out of the way; what is in use stays.
    pub(crate) fn retire_host_layers(&self, current: &LayerKey, scratch: &Scratch) -> Result<()> {
        for key in self.layer_keys()? {
            if matches!(key, LayerKey::Host(_)) && key != *current {
                self.retire_layer(&key, scratch)?;
            }
        }
        Ok(())
    }
}
