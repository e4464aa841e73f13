//! Makes an image of what a job has written, over the one that the job started from.
//!
//! Each container that had a part in it is a layer, and the history says whose it is. Files keep
//! their times: what a job leaves is looked at and gone on with, not built again.

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use cofferdam_sandbox::{
    Error, State,
    image::{Digest, ImportLimits, LayerDir, Sealing, Store},
};
use jiff::Timestamp;

use super::Configuration;

/// How often it is tried to keep an image that a removal takes at that moment.
const TRIES: usize = 5;

/// An image that is kept although it has no name.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// Its id.
    pub(crate) image: Digest,
    /// Bytes of the layers that were written.
    pub(crate) bytes: u64,
}

/// Keeps `state`; `comment` is for the history. It is given up when `stopped` is set.
pub(crate) fn keep(
    directory: &Path,
    state: &Arc<State>,
    comment: &str,
    stopped: &AtomicBool,
) -> Result<Kept, Error> {
    let store = Store::open(directory)?;
    let base = store.base(state.image())?;
    let now = Timestamp::now().as_second();
    let limits = ImportLimits::default();
    let moment = u64::try_from(now).unwrap_or_default();
    let written = store.seal_all(state, Sealing { moment, limits: &limits, stopped })?;
    let doing = || format!("keep what a job has written as an image ({comment})");
    let mut configuration = Configuration::new(&base.document, base.layers())
        .map_err(|error| Error::pipeline(doing(), error))?;
    let created = Timestamp::from_second(now).unwrap_or_default().to_string();
    let mut layers: Vec<LayerDir> = Vec::new();
    for one in written {
        let made_by = one.made_by.as_deref().unwrap_or("what the job was given");
        configuration.tell(&created, made_by, comment, one.layer.is_some());
        layers.extend(one.layer);
    }
    let document = configuration.document(&created);
    for _ in 0..TRIES {
        let image = store.put_together(&base, &layers, &document, &[])?;
        if let Some(bytes) = store.keep_state(&image.digest, layers.len())? {
            return Ok(Kept { image: image.digest, bytes });
        }
    }
    Err(Error::system(doing(), "images without a name are removed as fast as they are made"))
}
