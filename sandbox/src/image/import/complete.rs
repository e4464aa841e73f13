//! Completing unpacked layers, from the lowest up, and putting them in their places.

use std::{
    fs,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use super::{
    Import,
    layers::{Unpacked, WRITING},
};
use crate::{
    Error, Result,
    error::Doing as _,
    image::{
        digest::Digest,
        limits::Budget,
        pack::{REPLACED, REPLACED_NAMES},
        store::{LayerDir, LayerKey, LayerRecord},
        unpack::settle,
    },
};

/// A layer that is whole, below the scratch directory.
struct Complete {
    path: PathBuf,
    diff_id: Digest,
    key: LayerKey,
}

impl Import<'_> {
    /// Completes the unpacked layers, each from those below it, and puts all in their places.
    pub(in crate::image) fn publish(
        &self,
        present: Vec<Option<LayerDir>>,
        unpacked: Vec<(usize, Unpacked<'_>)>,
        chain: &[Digest],
        budget: &Budget<'_>,
    ) -> Result<Vec<LayerDir>> {
        let mut unpacked = unpacked.into_iter().peekable();
        let mut roots: Vec<OwnedFd> = Vec::new();
        let mut made = Vec::new();
        for (layer, (present, chain)) in present.iter().zip(chain).enumerate() {
            let doing = || format!("complete layer {layer} of `{}`", self.source);
            roots.push(match (present, unpacked.next_if(|(number, _)| *number == layer)) {
                (Some(present), _) => present.as_fd().try_clone_to_owned().system(doing)?,
                (None, Some((_, layer))) => {
                    let below: Vec<_> = roots.iter().rev().map(|root| root.as_fd()).collect();
                    let (complete, root) = complete(layer, &below, chain, budget, doing)?;
                    made.push(complete);
                    root
                }
                (None, None) => return Err(Error::system(doing(), "it was not unpacked")),
            });
        }
        drop(roots);
        if !made.is_empty() {
            // One call for all files of all layers, where fsync would take one for each.
            nix::unistd::syncfs(self.scratch.file()).system(|| WRITING)?;
        }
        let mut layers = Vec::new();
        let mut made = made.into_iter();
        for layer in present {
            if let Some(layer) = layer {
                layers.push(layer);
            } else if let Some(Complete { path, diff_id, key }) = made.next() {
                layers.push(self.store.publish_layer(&key, &diff_id, &path)?);
            }
        }
        Ok(layers)
    }
}

/// Completes one layer and gives back its root. Its directories have their owners, modes and
/// times from here on, so that layers above can take them over.
fn complete(
    mut layer: Unpacked<'_>,
    below: &[BorrowedFd<'_>],
    chain: &Digest,
    budget: &Budget<'_>,
    doing: impl Fn() -> String,
) -> Result<(Complete, OwnedFd)> {
    let key = match layer.tree.stands_alone() || below.is_empty() {
        true => LayerKey::Diff(layer.diff_id.clone()),
        false => LayerKey::Chain(chain.clone()),
    };
    settle(&mut layer.tree, below, budget).map_err(|problem| problem.during(doing()))?;
    let replaced = match layer.tree.replaced() {
        [] => fs::remove_dir(layer.path.join(REPLACED)),
        names => postcard::to_allocvec(names)
            .map_err(std::io::Error::other)
            .and_then(|names| fs::write(layer.path.join(REPLACED_NAMES), names)),
    };
    replaced.system(&doing)?;
    let root = layer.tree.finish().map_err(|problem| problem.during(doing()))?;
    let record = LayerRecord {
        diff_id: layer.diff_id.to_string(),
        entries: layer.extracted.entries,
        bytes: layer.bytes,
        devices_skipped: layer.extracted.devices_skipped,
        attributes_dropped: layer.extracted.attributes_dropped,
    };
    let record = serde_json::to_vec(&record).system(&doing)?;
    fs::write(layer.path.join("layer.json"), record).system(&doing)?;
    Ok((Complete { path: layer.path, diff_id: layer.diff_id, key }, root))
}
