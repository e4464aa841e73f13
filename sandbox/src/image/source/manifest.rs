//! Image indexes and manifests: from a document to the image in it that was asked for.
//!
//! A document is what its media type says and has that shape only: one that could be read as
//! manifest and index both is refused (CVE-2021-41190).

use serde::Deserialize;

use super::{Blob, Origin, Package, Root, files::blob_name, package};
use crate::{
    Error, Result,
    image::{
        compression::Compression,
        digest::Digest,
        limits::ImportLimits,
        platform::Platform,
        problem::{Problem, shown},
    },
};

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    urls: Vec<String>,
    platform: Option<ForPlatform>,
    #[serde(default)]
    annotations: Annotations,
}

#[derive(Clone, Debug, Deserialize)]
struct ForPlatform {
    architecture: String,
    os: String,
    variant: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Annotations {
    #[serde(rename = "org.opencontainers.image.ref.name")]
    reference: Option<String>,
    #[serde(rename = "io.containerd.image.name")]
    name: Option<String>,
    /// Set on documents beside an image, such as provenance, that are no image themselves.
    #[serde(rename = "vnd.docker.reference.type")]
    kind: Option<String>,
}

/// Either shape, so that one with both can be told.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    pub(super) manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

pub(super) const INDEX_TYPES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFEST_TYPES: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const CONFIG_TYPES: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// An index in an index in an index: more is no use to anyone.
const NESTING: usize = 3;
/// Descriptors in one document.
const DESCRIPTORS: usize = 1024;

/// What is looked for, and the words of its errors.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pub(super) origin: &'a dyn Origin,
    pub(super) doing: &'a str,
    pub(super) platform: &'a Platform,
    pub(super) limits: &'a ImportLimits,
}

impl Search<'_> {
    fn refuse(&self, why: String) -> Error {
        Error::pipeline(self.doing, why)
    }

    /// Reads the image that `root` stands for.
    pub(super) fn image(&self, root: Root) -> Result<Package> {
        let Root { media_type, document } = root;
        let parsed = parse(&document, &[&media_type]).map_err(|why| self.refuse(why))?;
        if INDEX_TYPES.contains(&media_type.as_str()) {
            return self.among(parsed.manifests.unwrap_or_default());
        }
        self.manifest((Digest::of(&document), document), parsed)
    }

    /// Reads the one image among `chosen` that is for the platform.
    pub(super) fn among(&self, mut chosen: Vec<Descriptor>) -> Result<Package> {
        for _ in 0..NESTING {
            let descriptor = for_platform(chosen, self.platform).map_err(|why| self.refuse(why))?;
            let digest = digest(&descriptor).map_err(|why| self.refuse(why))?;
            let document = self.fetch(&digest, descriptor.size, || {
                self.origin.manifest(&digest, descriptor.size)
            })?;
            let parsed = parse(&document, &[&descriptor.media_type]);
            let parsed = parsed.map_err(|why| self.refuse(why))?;
            if INDEX_TYPES.contains(&descriptor.media_type.as_str()) {
                chosen = parsed.manifests.unwrap_or_default();
                continue;
            }
            return self.manifest((digest, document), parsed);
        }
        Err(self.refuse(format!("indexes are nested more than {NESTING} deep")))
    }

    fn manifest(&self, raw: (Digest, Vec<u8>), manifest: Document) -> Result<Package> {
        let refuse = |why: String| self.refuse(why);
        let config = manifest.config;
        let config = config.ok_or_else(|| refuse("the manifest has no config".to_owned()))?;
        if !CONFIG_TYPES.contains(&config.media_type.as_str()) {
            let found = shown(config.media_type.as_bytes());
            return Err(refuse(format!(
                "`{found}` is no image configuration: this is no image to run"
            )));
        }
        let config_digest = digest(&config).map_err(refuse)?;
        let document = self.fetch(&config_digest, config.size, || {
            self.origin.document(&config_digest, config.size)
        })?;
        let mut layers = Vec::new();
        for descriptor in manifest.layers.unwrap_or_default() {
            let digest = digest(&descriptor).map_err(refuse)?;
            layers.push(Blob {
                member: blob_name(&digest),
                size: descriptor.size,
                compression: Some(layer_compression(&descriptor).map_err(refuse)?),
                digest: Some(digest),
            });
        }
        package(self, document, Some(raw), layers)
    }

    /// Fetches a document and checks its size and digest.
    fn fetch(
        &self,
        digest: &Digest,
        size: u64,
        by: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<Vec<u8>> {
        let limit = self.limits.document;
        if size > limit {
            let why = format!("`{digest}` has {size} bytes, {limit} are allowed");
            return Err(self.refuse(why));
        }
        let document = by()?;
        let actual = digest.algorithm().of(&document);
        let mismatch = |what, expected: String, actual: String| {
            let doing = format!("read `{digest}` of `{}`", self.origin.name());
            Err(Problem::Mismatch { what, expected, actual }.during(doing))
        };
        if actual != *digest {
            return mismatch("its digest", digest.to_string(), actual.to_string());
        }
        if document.len() as u64 != size {
            return mismatch("its size", size.to_string(), document.len().to_string());
        }
        Ok(document)
    }
}

/// Parses a document and checks that it has the shape that one of `types` promises.
pub(super) fn parse(document: &[u8], types: &[&str]) -> Result<Document, String> {
    let document: Document = serde_json::from_slice(document)
        .map_err(|error| format!("an index or manifest is malformed: {error}"))?;
    if document.schema_version != Some(2) {
        return Err("an index or manifest does not have schema version 2".to_owned());
    }
    if let Some(media_type) = &document.media_type
        && !types.contains(&media_type.as_str())
    {
        let found = shown(media_type.as_bytes());
        return Err(format!(
            "a document of type `{}` says that it is `{found}`",
            types.join("` or `")
        ));
    }
    let is_index = types.iter().any(|name| INDEX_TYPES.contains(name));
    let is_manifest = types.iter().any(|name| MANIFEST_TYPES.contains(name));
    let index_shape = document.manifests.is_some();
    let manifest_shape = document.config.is_some() || document.layers.is_some();
    let counts = [document.manifests.as_ref(), document.layers.as_ref()];
    if counts.into_iter().flatten().any(|list| list.len() > DESCRIPTORS) {
        return Err(format!("an index or manifest lists more than {DESCRIPTORS} things"));
    }
    match (is_index, is_manifest) {
        (true, _) if index_shape && !manifest_shape => Ok(document),
        (_, true) if manifest_shape && !index_shape => Ok(document),
        (false, false) => Err(format!(
            "`{}` is neither an image manifest nor an index",
            shown(types.first().copied().unwrap_or_default().as_bytes())
        )),
        _ => Err("an index or manifest does not have the shape that its type promises".to_owned()),
    }
}

/// The descriptors that `select` names, or all of them.
pub(super) fn named(
    descriptors: Vec<Descriptor>,
    select: Option<&str>,
) -> Result<Vec<Descriptor>, String> {
    let Some(select) = select else { return Ok(descriptors) };
    let names = names(&descriptors);
    let chosen: Vec<_> = descriptors
        .into_iter()
        .filter(|descriptor| {
            let annotations = &descriptor.annotations;
            let matches = |name: &Option<String>| name.as_deref() == Some(select);
            matches(&annotations.reference) || matches(&annotations.name)
        })
        .collect();
    if chosen.is_empty() {
        return Err(format!("it holds no image `{}`; it holds {names}", shown(select.as_bytes())));
    }
    Ok(chosen)
}

fn names(descriptors: &[Descriptor]) -> String {
    let names: Vec<_> = descriptors
        .iter()
        .filter_map(|descriptor| {
            let annotations = &descriptor.annotations;
            annotations.reference.as_ref().or(annotations.name.as_ref())
        })
        .take(20)
        .map(|name| format!("`{}`", shown(name.as_bytes())))
        .collect();
    if names.is_empty() { "no image with a name".to_owned() } else { names.join(", ") }
}

/// The one descriptor that is an image for `wanted`.
fn for_platform(descriptors: Vec<Descriptor>, wanted: &Platform) -> Result<Descriptor, String> {
    let all = names(&descriptors);
    let images: Vec<_> = descriptors
        .into_iter()
        .filter(|descriptor| descriptor.annotations.kind.is_none())
        .collect();
    let platforms: Vec<_> = images
        .iter()
        .filter_map(|image| image.platform.as_ref())
        .map(|platform| {
            let parts =
                [Some(&platform.os), Some(&platform.architecture), platform.variant.as_ref()];
            let parts: Vec<_> = parts.into_iter().flatten().map(String::as_str).collect();
            format!("`{}`", shown(parts.join("/").as_bytes()))
        })
        .take(20)
        .collect();
    // One that says what it is for is preferred to one that says nothing; of several equal ones,
    // those of one digest are one.
    let mut chosen: Vec<(u8, Descriptor)> = images
        .into_iter()
        .filter_map(|image| {
            let fit = match &image.platform {
                None => Some(0),
                Some(is) => wanted.fit(&is.os, &is.architecture, is.variant.as_deref()),
            };
            Some((fit?, image))
        })
        .collect();
    let best = chosen.iter().map(|(fit, _)| *fit).max();
    chosen.retain(|(fit, _)| Some(*fit) == best);
    chosen.dedup_by(|(_, a), (_, b)| a.digest == b.digest);
    match (chosen.pop(), chosen.is_empty()) {
        (Some((_, image)), true) => Ok(image),
        (Some(_), false) => Err(format!("it holds several images: {all}")),
        (None, _) if platforms.is_empty() => Err("it holds no image".to_owned()),
        (None, _) => {
            Err(format!("it holds images for {} and {}", platforms.join(", "), wanted.wanted()))
        }
    }
}

fn digest(descriptor: &Descriptor) -> Result<Digest, String> {
    if !descriptor.urls.is_empty() {
        return Err("a descriptor names foreign URLs, which are never fetched".to_owned());
    }
    descriptor.digest.parse::<Digest>().map_err(|error| error.to_string())
}

fn layer_compression(descriptor: &Descriptor) -> Result<Compression, String> {
    let media_type = descriptor.media_type.as_str();
    match media_type {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => Ok(Compression::None),
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Ok(Compression::Gzip),
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok(Compression::Zstd),
        _ if media_type.contains("nondistributable") || media_type.contains("foreign") => {
            Err("a layer is not distributable: its content lies elsewhere and is never fetched"
                .to_owned())
        }
        _ => Err(format!("`{}` is no layer that can be unpacked", shown(media_type.as_bytes()))),
    }
}
