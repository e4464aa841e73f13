//! What a container had written when it ended, as a layer for others.
//!
//! An upper directory is a layer: where a container starts from another's end, that one's upper
//! directories become lower ones as they stand. Nothing is copied, so a fork costs two mounts,
//! whatever was written. The file system that holds them stays, read-only, until the last of those
//! that lie over it is gone: whoever holds a [`State`] holds the lease.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use super::Layer;
use crate::{
    error::{Doing as _, Result},
    image::{Image, LayerDir},
    kept_mounts::KeptMount,
    scratch::Room,
    sys::mount::{Attributes, map_ids, restrict},
};

/// What a container had written when it ended.
#[derive(Debug)]
pub struct State {
    /// Attached for others to start in.
    kept: Arc<KeptMount>,
    /// The file system, with natural ids.
    room: Arc<Room>,
    /// Whether its workspace was an overlay of its own.
    workspace: bool,
    image: Arc<Image>,
    below: Vec<Layer>,
    /// Who wrote it.
    made_by: OnceLock<String>,
    /// What it came to as a layer of the store, once it was made one.
    layer: Mutex<Option<Option<LayerDir>>>,
}

impl State {
    pub(super) fn new(
        kept: Arc<KeptMount>,
        room: Arc<Room>,
        workspace: bool,
        image: Arc<Image>,
        below: Vec<Layer>,
    ) -> Self {
        let (made_by, layer) = (OnceLock::new(), Mutex::default());
        Self { kept, room, workspace, image, below, made_by, layer }
    }

    /// Says who wrote it, for the history of images that are made of it. The first one to say so is
    /// believed.
    pub fn describe(&self, made_by: String) {
        self.made_by.set(made_by).ok();
    }

    /// Who wrote it, where that was said.
    pub(crate) fn made_by(&self) -> Option<&str> {
        self.made_by.get().map(String::as_str)
    }

    /// The states that it lies over, lowest first.
    pub(crate) fn states_below(&self) -> impl Iterator<Item = &Arc<Self>> {
        self.below.iter().filter_map(|layer| match layer {
            Layer::State(state) => Some(state),
            Layer::Tree(_) => None,
        })
    }

    /// What it came to as a layer: whoever finds nothing makes it, and the others wait.
    pub(crate) fn layer(&self) -> MutexGuard<'_, Option<Option<LayerDir>>> {
        self.layer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The image that it lies over.
    pub fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// The layers of a container that starts in it: those that it lies over, and itself.
    pub fn layers(self: &Arc<Self>) -> Vec<Layer> {
        self.below.iter().cloned().chain([Layer::State(Arc::clone(self))]).collect()
    }

    /// Bytes that it takes, and whether they are in memory.
    ///
    /// # Errors
    /// When the file system cannot be asked.
    pub fn size(&self) -> Result<(u64, bool)> {
        let used = self.room.used().system(|| "read the size of a kept state")?;
        Ok((used.bytes, self.room.is_in_memory()))
    }

    /// The file system itself, with natural ids.
    pub(crate) fn mount(&self) -> impl AsFd {
        &*self.room
    }

    /// Whether what was written to the workspace is a layer of its own.
    pub(super) fn has_workspace(&self) -> bool {
        self.workspace
    }

    /// The upper directory `name`, read-only and with the ids of `user_namespace`, or with those that
    /// it has.
    pub(super) fn lower(&self, name: &str, user_namespace: Option<impl AsFd>) -> Result<OwnedFd> {
        let show = || -> std::io::Result<OwnedFd> {
            let copy = self.kept.copy(name)?;
            let attributes = Attributes::NOSUID.and(Attributes::NODEV).and(Attributes::RDONLY);
            match user_namespace {
                Some(user_namespace) => map_ids(&copy, user_namespace, attributes)?,
                None => restrict(&copy, attributes)?,
            }
            Ok(copy)
        };
        show().system(|| "start in another container's file system")
    }
}
