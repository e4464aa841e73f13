//! Removing names, and the images and layers that no name leads to any more.

use super::{LayerKey, Scratch, Store, sweep::Swept};
use crate::{Result, image::reference::Reference};

impl Store {
    /// Removes a name, and whatever only that name led to; `None` if there is no such name. What a
    /// run uses stays until it ends.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn remove(&self, reference: &Reference) -> Result<Option<Swept>> {
        let scratch = Scratch::new(self)?;
        let lock = self.lock_exclusively()?;
        if !self.remove_name(reference)? {
            return Ok(None);
        }
        let holdings = self.holdings(&self.list()?)?;
        let swept = self.sweep(Some(&scratch), &holdings)?;
        // The files themselves go without holding anyone up.
        drop(lock);
        drop(scratch);
        Ok(Some(swept))
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
