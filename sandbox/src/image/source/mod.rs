//! Where an image comes from: an OCI image layout, a `docker save` archive, or a plain rootfs.
//!
//! All three end in the same [`Package`]: a configuration, and layers that can be read any number
//! of times. Whatever the source says about itself is checked while it is read.

mod docker;
mod files;
mod index;
mod layout;
mod manifest;
mod origin;

use manifest::Search;

use super::{
    compression::Compression,
    config::{self, ParsedConfig},
    digest::Digest,
    limits::ImportLimits,
    platform::Platform,
    problem::shown,
};
use crate::{Error, Result};

pub(crate) use files::Source;
pub use origin::{Origin, Root};

/// An image in a source, all documents read and checked, no layer read yet.
#[derive(Debug)]
pub(crate) struct Package {
    /// The digest of `config`: the image's id.
    pub(crate) id: Digest,
    /// The configuration document as it stands, and what was understood of it.
    pub(crate) document: String,
    pub(crate) config: ParsedConfig,
    /// The manifest's digest and document, where the source has one.
    pub(crate) manifest: Option<(Digest, String)>,
    /// Lowest first; as many as `config.diff_ids`.
    pub(crate) layers: Vec<Blob>,
}

/// A layer as the source keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    /// Its path in the source.
    pub(crate) member: String,
    pub(crate) size: u64,
    /// What its bytes must hash to, where the source promises something.
    pub(crate) digest: Option<Digest>,
    /// What its media type promises, where it has one.
    pub(crate) compression: Option<Compression>,
}

impl Blob {
    /// What messages call it.
    pub(crate) fn name(&self) -> String {
        self.digest.as_ref().map_or_else(|| shown(self.member.as_bytes()), Digest::to_string)
    }
}

/// Finds the image in `source`. `select` names one of several, by tag or by name.
pub(crate) fn read_package(
    source: &Source,
    select: Option<&str>,
    limits: &ImportLimits,
) -> Result<Package> {
    match source {
        Source::Layout(files) => layout::read(files, select, limits),
        Source::Docker(files) => docker::read(files, select, limits),
        Source::Rootfs(_) => {
            Err(Error::pipeline("find an image", "a plain root file system has no configuration"))
        }
    }
}

/// Finds the image that `root`, a document of `origin`, stands for on `platform`. `doing` is what
/// this is part of, for errors.
pub(crate) fn resolve(
    origin: &dyn Origin,
    root: Root,
    platform: &Platform,
    limits: &ImportLimits,
    doing: &str,
) -> Result<Package> {
    Search { origin, doing, platform, limits }.image(root)
}

/// Puts a package together from its documents, checking that they agree.
fn package(
    search: &Search<'_>,
    document: Vec<u8>,
    manifest: Option<(Digest, Vec<u8>)>,
    layers: Vec<Blob>,
) -> Result<Package> {
    let refuse = |why: String| Error::pipeline(search.doing, why);
    let limits = search.limits;
    let config = config::parse(&document).map_err(refuse)?;
    let platform = search.platform;
    platform
        .check(&config.config.os, &config.config.architecture)
        .map_err(|why| refuse(why).remedy(format!("use an image for `{platform}`")))?;
    if layers.is_empty() {
        return Err(refuse("the image has no layers".to_owned()));
    }
    if layers.len() != config.diff_ids.len() {
        let (layers, ids) = (layers.len(), config.diff_ids.len());
        return Err(refuse(format!("the manifest has {layers} layers, the configuration {ids}")));
    }
    let total = layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
    if total > limits.image {
        let limit = limits.image;
        return Err(refuse(format!("the layers have {total} bytes, {limit} are allowed")));
    }
    let text = |bytes: Vec<u8>| {
        String::from_utf8(bytes).map_err(|_| refuse("a document is not UTF-8".to_owned()))
    };
    Ok(Package {
        id: Digest::of(&document),
        document: text(document)?,
        config,
        manifest: match manifest {
            Some((digest, manifest)) => Some((digest, text(manifest)?)),
            None => None,
        },
        layers,
    })
}
