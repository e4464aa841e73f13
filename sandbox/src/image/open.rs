//! Finding an image in the store and taking its layers for use.

use std::path::PathBuf;

use super::{
    config::{self, ImageConfig},
    digest::Digest,
    host,
    platform::Platform,
    reference::Reference,
    store::{ImageRecord, ImageSummary, LayerDir, LayerKey, LayerUse, Store},
};
use crate::{Error, Result, error::Doing as _};

/// The name of the embedded image, a read-only view of this host.
pub(crate) const HOST: &str = "host";

/// An image that a container can start from. While this lives its layers stay in the store.
#[derive(Debug)]
pub struct Image {
    /// The name it was found by; `None` if it was found by a digest, and for `host`.
    pub reference: Option<Reference>,
    /// The image's id: the digest of its configuration; for `host`, this host's fingerprint.
    pub digest: Digest,
    /// Lowest first, no directory twice (overlayfs refuses that).
    pub layers: Vec<LayerDir>,
    /// How to start its processes.
    pub config: ImageConfig,
    /// Directories of this host that belong to the image; only `host` has them.
    pub host_mounts: Vec<HostMount>,
}

/// A directory of this host that a container sees, read-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostMount {
    /// Where it is on the host.
    pub source: PathBuf,
    /// Where the container sees it, absolute.
    pub target: String,
}

impl Image {
    /// The image, if it can run on this host; `name` is what messages call it. Only a pull that
    /// asked for another platform brings one that cannot.
    ///
    /// # Errors
    /// Where it is for another kind of machine.
    pub fn for_this_host(self, name: &str) -> Result<Self> {
        let host = Platform::host();
        host.check(&self.config.os, &self.config.architecture).map(|()| self).map_err(|why| {
            Error::pipeline(format!("take the image `{name}` for use"), why).remedy(format!(
                "take this host's with `cofferdam image pull --platform {host} {name}`"
            ))
        })
    }
}

impl Store {
    /// Finds an image by its name, by a pinned name, by its id or by its manifest's digest.
    /// `host` is the embedded image, made on first use and whenever this host changed.
    pub fn find(&self, name: &str) -> Result<Option<Image>> {
        if name == HOST {
            return host::open(self).map(Some);
        }
        match self.identify(name)? {
            Some((id, reference)) => self.take(&id, reference),
            None => Ok(None),
        }
    }

    /// The id that `name` stands for, and the name itself unless it is a digest.
    pub(super) fn identify(&self, name: &str) -> Result<Option<(Digest, Option<Reference>)>> {
        let doing = || format!("find the image `{}`", super::problem::shown(name.as_bytes()));
        if let Ok(digest) = name.parse::<Digest>() {
            let known = |summary: &ImageSummary| summary.manifest.as_ref() == Some(&digest);
            let named = match self.image_record(&digest)? {
                Some(_) => None,
                None => self.list()?.into_iter().find(known),
            };
            return Ok(Some((named.map_or(digest, |summary| summary.id), None)));
        }
        let reference = name.parse::<Reference>().pipeline(doing)?;
        if let Some(summary) = self.resolve(&reference)? {
            self.note_use(&reference);
            return Ok(Some((summary.id, Some(reference))));
        }
        let Some(digest) = reference.digest() else { return Ok(None) };
        // A pinned name means that content, under whatever tag it came.
        let pinned = |summary: &ImageSummary| {
            let found = &summary.reference;
            found.registry() == reference.registry()
                && found.repository() == reference.repository()
                && (summary.manifest.as_ref() == Some(digest) || summary.id == *digest)
        };
        let Some(found) = self.list()?.into_iter().find(pinned) else { return Ok(None) };
        self.note_use(&found.reference);
        Ok(Some((found.id, Some(reference))))
    }

    /// Finds an image that must be there and run on this host; the error says what is there instead.
    pub fn get(&self, name: &str) -> Result<Image> {
        if let Some(image) = self.find(name)? {
            return image.for_this_host(name);
        }
        let doing = || format!("find the image `{}`", super::problem::shown(name.as_bytes()));
        let mut names: Vec<_> =
            self.list()?.into_iter().map(|name| format!("`{}`", name.reference)).collect();
        names.truncate(20);
        names.insert(0, format!("`{HOST}`"));
        let why = format!("the store has no such image; it has {}", names.join(", "));
        Err(Error::pipeline(doing(), why).remedy(
            "pull it with `cofferdam image pull NAME`, or import it with `cofferdam image import PATH NAME`, from an OCI image layout, a `docker save` archive or a tar archive of a root file system",
        ))
    }

    fn take(&self, id: &Digest, reference: Option<Reference>) -> Result<Option<Image>> {
        let Some(record) = self.image_record(id)? else { return Ok(None) };
        let layers = record
            .layers
            .iter()
            .map(|layer| {
                let doing = || format!("open the layer `{}` of the image `{id}`", layer.diff_id);
                let diff_id = layer.diff_id.parse::<Digest>().system(doing)?;
                let key = LayerKey::parse(&layer.layer)
                    .ok_or_else(|| Error::system(doing(), "its name in the store is malformed"))?;
                self.lease(&key, &diff_id)?.ok_or_else(|| match key {
                    LayerKey::Host(_) => {
                        let why = "it was made from the image `host`, and this host has changed";
                        Error::pipeline(doing(), why).remedy("build it again")
                    }
                    _ => Error::system(doing(), "the store has lost it")
                        .remedy("remove the image and import it again"),
                })
            })
            .collect::<Result<Vec<_>>>();
        match layers {
            Ok(layers) => image(id.clone(), reference, &record, layers).map(Some),
            // A removal that ran meanwhile takes the image's record before its layers.
            Err(_) if self.image_record(id)?.is_none() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Puts together an image of which all layers are held.
pub(super) fn image(
    id: Digest,
    reference: Option<Reference>,
    record: &ImageRecord,
    layers: Vec<LayerDir>,
) -> Result<Image> {
    let config = config::parse(record.config.as_bytes())
        .system(|| format!("read the configuration of the image `{id}`"))?
        .config;
    let is_host = |layer: &LayerUse| layer.layer.starts_with("host/");
    // Made from the embedded image, which is more than its layer.
    let host_mounts = if record.layers.iter().any(is_host) { host::mounts() } else { Vec::new() };
    Ok(Image { reference, digest: id, layers: once_each(layers), config, host_mounts })
}

/// Drops all but the highest of equal layers. The highest shows all of its own files and hides
/// all that it hides, so the lower ones change nothing; and overlayfs takes no directory twice.
pub(super) fn once_each(layers: Vec<LayerDir>) -> Vec<LayerDir> {
    let mut seen = std::collections::HashSet::new();
    let mut kept: Vec<_> =
        layers.into_iter().rev().filter(|layer| seen.insert(layer.path.clone())).collect();
    kept.reverse();
    kept
}
