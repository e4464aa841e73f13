//! Pushing: from the store to a registry, and only what that lacks.
//!
//! A layer that the registry has, in this repository or in another that an image of the store came
//! from, is not sent. Where it has all of them as the image brought them, the image keeps its
//! manifest and its digest; what has to be made again is made again the same each time.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use cofferdam_sandbox::{
    Error, Result,
    image::{Bundle, Digest, PackedLayer, Packing, Reference, Store},
};

use super::{Client, request::Body, upload::Upload};
use crate::report::layers::Layers;

/// Layers that are sent at the same time.
const SIDE_BY_SIDE: usize = 3;

/// Pushes the image `reference` of the store as `target`; returns the digest of its manifest.
///
/// # Errors
/// Where the store does not have it, or the registry does not take it.
pub(crate) fn push(
    client: &Client,
    store: &Store,
    reference: &Reference,
    target: &Reference,
    packing: Packing,
    layers: &Layers,
) -> Result<Digest> {
    let bundle = store.bundle(reference)?;
    if target.digest().is_some() {
        let doing = format!("push `{reference}` as `{target}`");
        let why = "what is pushed gets its digest from its content, so only a tag can be named";
        return Err(Error::pipeline(doing, why));
    }
    let repository = client.repository(target)?;
    let push = Push { upload: Upload::new(&repository), bundle: &bundle, layers };
    layers.count(bundle.count());
    let siblings = siblings(client, store, target)?;
    let mut found = push.originals(&siblings)?;
    let missing: Vec<_> =
        (0..found.len()).filter(|layer| found.get(*layer) == Some(&None)).collect();
    if !missing.is_empty() {
        let directory = store.outgoing()?;
        let packed = bundle.pack(&missing, directory.path(), packing, &|_, _| {})?;
        push.send_all(&packed, directory.path())?;
        for (number, blob) in packed {
            if let Some(slot) = found.get_mut(number) {
                *slot = Some(blob);
            }
        }
    }
    if !push.upload.has(&bundle.config.digest)? {
        push.upload.blob(&bundle.config, Body::Text(&bundle.document))?;
    }
    let blobs: Vec<_> = found.into_iter().flatten().collect();
    let manifest = bundle.manifest(&blobs);
    push.upload.manifest(&manifest, target.tag())?;
    Ok(manifest.digest())
}

/// The other repositories of the target's registry that images of the store came from.
fn siblings(client: &Client, store: &Store, target: &Reference) -> Result<Vec<String>> {
    let own = client.place(target);
    let places = store.list()?.into_iter().map(|image| client.place(&image.reference));
    let others: BTreeSet<_> = places
        .filter(|place| place.registry == own.registry && place.repository != own.repository)
        .map(|place| place.repository)
        .collect();
    Ok(others.into_iter().take(SIBLINGS).collect())
}

/// Repositories that are asked for a layer.
const SIBLINGS: usize = 8;

struct Push<'a> {
    upload: Upload<'a>,
    bundle: &'a Bundle,
    layers: &'a Layers,
}

impl Push<'_> {
    /// The layers as the image brought them, where the registry has them.
    fn originals(&self, siblings: &[String]) -> Result<Vec<Option<PackedLayer>>> {
        let Some(original) = &self.bundle.original else {
            return Ok(vec![None; self.bundle.count()]);
        };
        let mut found = Vec::new();
        for (number, layer) in original.layers.iter().enumerate() {
            let mut there = self.upload.has(&layer.digest)?;
            for sibling in siblings {
                there = there || self.upload.mount(&layer.digest, sibling)?;
            }
            if there {
                self.layers.present(number);
            }
            found.push(there.then(|| layer.clone()));
        }
        Ok(found)
    }

    /// Sends the layers that were packed, unless the registry has these.
    fn send_all(&self, packed: &[(usize, PackedLayer)], directory: &std::path::Path) -> Result<()> {
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let work = || {
            while let Some((number, blob)) = packed.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = self.send(*number, blob, directory) {
                    // The others find nothing more to do.
                    next.store(packed.len(), Ordering::Relaxed);
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..SIDE_BY_SIDE.min(packed.len()) {
                scope.spawn(work);
            }
            work();
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn send(&self, number: usize, blob: &PackedLayer, directory: &std::path::Path) -> Result<()> {
        if self.upload.has(&blob.digest)? {
            self.layers.present(number);
            return Ok(());
        }
        let path = directory.join(number.to_string());
        self.upload.blob(blob, Body::File(&path, blob.size))?;
        self.layers.add(number, blob.size, blob.size);
        self.layers.done(number);
        Ok(())
    }
}
