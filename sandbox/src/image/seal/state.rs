//! What a container and those before it have written, as layers of the store.
//!
//! A container that starts in another's file system lies over its state as it stands. A layer of the
//! store is for good, so each state becomes one, however many lie over it: it is made once, and
//! after that it is found.

use std::sync::Arc;

use super::Sealing;
use crate::{
    Result,
    container::State,
    image::store::{LayerDir, Store},
};

/// What one container has written.
#[derive(Debug)]
pub struct WrittenLayer {
    /// Who wrote it, as [`State::describe`] was told.
    pub made_by: Option<String>,
    /// [`None`] where it changed nothing.
    pub layer: Option<LayerDir>,
}

impl Store {
    /// Makes layers of a state and of those that it lies over, lowest first. What the containers
    /// were shown beside their image is in none of them.
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub fn seal_all(&self, state: &Arc<State>, how: Sealing<'_>) -> Result<Vec<WrittenLayer>> {
        let mut below: Vec<LayerDir> = Vec::new();
        for layer in &state.image().layers {
            below.push(layer.again()?);
        }
        let mut written = Vec::new();
        for state in state.states_below().chain([state]) {
            let mut known = state.layer();
            let layer = match &*known {
                Some(layer) => layer.as_ref().map(LayerDir::again).transpose()?,
                None => {
                    let made = self.seal(state, &below, how)?;
                    *known = Some(made.as_ref().map(LayerDir::again).transpose()?);
                    made
                }
            };
            if let Some(layer) = &layer {
                below.push(layer.again()?);
            }
            written.push(WrittenLayer { made_by: state.made_by().map(str::to_owned), layer });
        }
        Ok(written)
    }
}
