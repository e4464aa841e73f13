//! OCI image layouts: from the index through the manifest to configuration and layers.
//!
//! A document is what its media type says and has that shape only: one that could be read as
//! manifest and index both is refused (CVE-2021-41190).

use serde::Deserialize;

use super::{
    Blob, Package,
    files::{Files, blob_name},
    package,
};
use crate::{
    Error, Result,
    image::{
        compression::Compression, digest::Digest, limits::ImportLimits, platform, problem::shown,
    },
};

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    urls: Vec<String>,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Annotations,
}

#[derive(Clone, Debug, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
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
struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutVersion {
    image_layout_version: String,
}

const INDEX_TYPES: [&str; 2] = [
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

/// Reads the image of a layout that is for this host; `select` names one of several.
pub(super) fn read(files: &Files, select: Option<&str>, limits: &ImportLimits) -> Result<Package> {
    let doing = format!("read the image layout `{}`", files.path().display());
    let refuse = |why: String| Error::pipeline(doing.as_str(), why);
    let version: LayoutVersion = serde_json::from_slice(&files.document("oci-layout", limits)?)
        .map_err(|error| refuse(format!("`oci-layout` is malformed: {error}")))?;
    if !version.image_layout_version.starts_with("1.") {
        return Err(refuse(format!(
            "it has layout version `{}` and 1.x is understood",
            shown(version.image_layout_version.as_bytes())
        )));
    }
    let index = parse(&files.document("index.json", limits)?, &INDEX_TYPES[..1]).map_err(refuse)?;
    let descriptors = index.manifests.unwrap_or_default();
    let mut chosen = named(descriptors, select).map_err(refuse)?;
    for _ in 0..NESTING {
        let descriptor = for_this_host(chosen).map_err(|why| {
            refuse(why).remedy("say which image is meant: the source holds more than one")
        })?;
        let digest = digest(&descriptor).map_err(refuse)?;
        let document = files.blob(&digest, descriptor.size, limits)?;
        if INDEX_TYPES.contains(&descriptor.media_type.as_str()) {
            let index = parse(&document, &[&descriptor.media_type]).map_err(refuse)?;
            chosen = index.manifests.unwrap_or_default();
            continue;
        }
        let manifest = parse(&document, &[&descriptor.media_type]).map_err(refuse)?;
        return read_manifest(files, &doing, (digest, document), manifest, limits);
    }
    Err(refuse(format!("indexes are nested more than {NESTING} deep")))
}

fn read_manifest(
    files: &Files,
    doing: &str,
    raw: (Digest, Vec<u8>),
    manifest: Document,
    limits: &ImportLimits,
) -> Result<Package> {
    let refuse = |why: String| Error::pipeline(doing, why);
    let config = manifest.config.ok_or_else(|| refuse("the manifest has no config".to_owned()))?;
    if !CONFIG_TYPES.contains(&config.media_type.as_str()) {
        let found = shown(config.media_type.as_bytes());
        return Err(refuse(format!(
            "`{found}` is no image configuration: this is no image to run"
        )));
    }
    let config_digest = digest(&config).map_err(refuse)?;
    let document = files.blob(&config_digest, config.size, limits)?;
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
    package(doing, document, Some(raw), layers, limits)
}

/// Parses a document and checks that it has the shape that one of `types` promises.
fn parse(document: &[u8], types: &[&str]) -> Result<Document, String> {
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
fn named(descriptors: Vec<Descriptor>, select: Option<&str>) -> Result<Vec<Descriptor>, String> {
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

/// The one descriptor that is an image for this host.
fn for_this_host(descriptors: Vec<Descriptor>) -> Result<Descriptor, String> {
    let here = platform::architecture();
    let all = names(&descriptors);
    let images: Vec<_> = descriptors
        .into_iter()
        .filter(|descriptor| descriptor.annotations.kind.is_none())
        .collect();
    let platforms: Vec<_> = images
        .iter()
        .filter_map(|image| image.platform.as_ref())
        .map(|platform| {
            let (os, architecture) = (&platform.os, &platform.architecture);
            format!("`{}/{}`", shown(os.as_bytes()), shown(architecture.as_bytes()))
        })
        .take(20)
        .collect();
    let (matching, unknown): (Vec<_>, Vec<_>) = images
        .into_iter()
        .filter(|image| {
            image
                .platform
                .as_ref()
                .is_none_or(|platform| platform.os == platform::OS && platform.architecture == here)
        })
        .partition(|image| image.platform.is_some());
    // One that says it is for this host is preferred to one that says nothing; of several equal
    // ones, those of one digest are one.
    let mut chosen = if matching.is_empty() { unknown } else { matching };
    chosen.dedup_by(|a, b| a.digest == b.digest);
    match (chosen.pop(), chosen.is_empty()) {
        (Some(image), true) => Ok(image),
        (Some(_), false) => Err(format!("it holds several images: {all}")),
        (None, _) if platforms.is_empty() => Err("it holds no image".to_owned()),
        (None, _) => Err(format!(
            "it holds images for {} and this host is `{}/{here}`",
            platforms.join(", "),
            platform::OS
        )),
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
