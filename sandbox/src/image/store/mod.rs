//! The store: layers under their digests, images under their ids, names that point at images.
//!
//! ```text
//! store/version                 the format's number
//! store/lock                    held shared to publish, exclusively to remove
//! store/layers/sha256/HEX/      a layer by its diff id: `diff/` and `layer.json`
//! store/layers/chain/HEX/       a layer that needs those below it, by its chain id
//! store/layers/host/HEX/        the embedded host image's layer, by its fingerprint
//! store/images/sha256/HEX.json  an image: its documents and its layers
//! store/names/HEX.json          a reference, under the hash of its text
//! store/steps/HEX.json          what a build step came to, under its key
//! store/states/HEX.json          what a job has written, by the id of its image
//! store/locks/…                 one layer being unpacked, one build step being run
//! store/tmp/…                   work in progress, each locked by the process that does it
//! ```
//!
//! Any number of processes share it. Nothing appears under its final name before it is whole and
//! on disk: it is made below `tmp`, synced, and renamed. Who uses a layer holds a shared lock on
//! it, and removal takes only what it can lock exclusively.

mod collect;
mod details;
mod layer;
mod open;
mod record;
mod remove;
mod scratch;
mod states;
mod steps;
mod sweep;

use std::path::{Path, PathBuf};

pub(crate) use layer::LayerKey;
pub(crate) use record::{ImageRecord, LayerRecord, LayerUse};
pub(crate) use scratch::Scratch;

pub use collect::{Collected, Keep};
pub use details::{ImageDetails, LayerDetails, Made};
pub use layer::LayerDir;
pub use record::ImageSummary;
pub use states::KeptState;
pub use steps::{KeptStep, StepLock};
pub use sweep::Swept;

/// An open store. Cheap to open, and any number of processes may have it open.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store's directory.
    pub fn path(&self) -> &Path {
        &self.root
    }
}
