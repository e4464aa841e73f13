//! `docker save` archives: `manifest.json` lists the images with configuration and layers.
//!
//! Nothing in such an archive is named by a digest that it must have; what counts are the diff
//! ids of the configuration, and the image's id is that configuration's digest.

use serde::Deserialize;

use super::{Blob, Package, files::Files, manifest::Search, package};
use crate::{
    Error, Result,
    image::{limits::ImportLimits, platform::Platform, problem::shown},
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// Images in one archive, and layers in one image.
const IMAGES: usize = 1024;

/// Whether this is what `docker save` writes into `manifest.json`.
pub(super) fn is_manifest(document: &[u8]) -> bool {
    serde_json::from_slice::<Vec<SavedImage>>(document).is_ok_and(|images| !images.is_empty())
}

/// Reads the image of the archive; `select` names one of several by its tag.
pub(super) fn read(files: &Files, select: Option<&str>, limits: &ImportLimits) -> Result<Package> {
    let doing = format!("read the image archive `{}`", files.path().display());
    let refuse = |why: String| Error::pipeline(doing.as_str(), why);
    let images: Vec<SavedImage> = serde_json::from_slice(&files.read("manifest.json")?)
        .map_err(|error| refuse(format!("`manifest.json` is malformed: {error}")))?;
    let layers = |image: &SavedImage| image.layers.as_ref().map_or(0, Vec::len);
    if images.len() > IMAGES || images.iter().any(|image| layers(image) > IMAGES) {
        return Err(refuse(format!("`manifest.json` lists more than {IMAGES} things")));
    }
    let tags: Vec<_> = images
        .iter()
        .flat_map(|image| image.repo_tags.iter().flatten())
        .take(20)
        .map(|tag| format!("`{}`", shown(tag.as_bytes())))
        .collect();
    let mut chosen: Vec<_> = images
        .into_iter()
        .filter(|image| {
            select.is_none_or(|select| {
                image.repo_tags.iter().flatten().any(|tag| tag.as_str() == select)
            })
        })
        .collect();
    let image = match (chosen.pop(), chosen.is_empty()) {
        (Some(image), true) => image,
        (None, _) => return Err(refuse(format!("no such image; it holds {}", tags.join(", ")))),
        (Some(_), false) => {
            let error = refuse(format!("it holds several images: {}", tags.join(", ")));
            return Err(error.remedy("say which image is meant: the source holds more than one"));
        }
    };
    let document = files.read(&image.config)?;
    let search = Search { origin: files, doing: &doing, platform: &Platform::host(), limits };
    let mut layers = Vec::new();
    for member in image.layers.unwrap_or_default() {
        let (_, size) = files.open(&member)?;
        layers.push(Blob { member, size, digest: None, compression: None });
    }
    package(&search, document, None, layers)
}
