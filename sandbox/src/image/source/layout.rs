//! OCI image layouts: which of its images the index of a layout names.

use serde::Deserialize;

use super::{
    Package,
    files::Files,
    manifest::{self, INDEX_TYPES, Search},
};
use crate::{
    Error, Result,
    image::{limits::ImportLimits, platform::Platform, problem::shown},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutVersion {
    image_layout_version: String,
}

/// Whether this is what a layout has in `oci-layout`.
pub(super) fn is_marker(document: &[u8]) -> bool {
    serde_json::from_slice::<LayoutVersion>(document).is_ok()
}

/// Reads the image of a layout that is for this host; `select` names one of several.
pub(super) fn read(files: &Files, select: Option<&str>, limits: &ImportLimits) -> Result<Package> {
    let doing = format!("read the image layout `{}`", files.path().display());
    let refuse = |why: String| Error::pipeline(doing.as_str(), why);
    let version: LayoutVersion = serde_json::from_slice(&files.read("oci-layout")?)
        .map_err(|error| refuse(format!("`oci-layout` is malformed: {error}")))?;
    if !version.image_layout_version.starts_with("1.") {
        return Err(refuse(format!(
            "it has layout version `{}` and 1.x is understood",
            shown(version.image_layout_version.as_bytes())
        )));
    }
    let index = files.read("index.json")?;
    let index = manifest::parse(&index, &INDEX_TYPES[..1]).map_err(refuse)?;
    let descriptors = index.manifests.unwrap_or_default();
    let chosen = manifest::named(descriptors, select).map_err(refuse)?;
    Search { origin: files, doing: &doing, platform: &Platform::host(), limits }.among(chosen)
}
