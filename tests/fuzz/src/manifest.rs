//! Bytes as a manifest or an index, and as the configuration behind a manifest: pulled or refused,
//! never more than was promised is asked for, and the store is whole afterwards.

use std::{io::Read, ops::ControlFlow};

use cofferdam_sandbox::image::{
    Digest, ImportLimits, Origin, Platform, PullOptions, Reference, Root,
};
use serde_json::json;

use crate::store;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Answers everything with the same bytes.
#[derive(Debug)]
struct Registry(Vec<u8>);

impl Origin for Registry {
    fn name(&self) -> String {
        "registry.example/fuzz".to_owned()
    }

    fn manifest(&self, _: &Digest, _: u64) -> cofferdam_sandbox::Result<Vec<u8>> {
        Ok(self.0.clone())
    }

    fn document(&self, _: &Digest, _: u64) -> cofferdam_sandbox::Result<Vec<u8>> {
        Ok(self.0.clone())
    }

    fn layer(&self, _: &Digest, _: u64) -> cofferdam_sandbox::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(self.0.as_slice()))
    }
}

pub(crate) fn run(input: &[u8]) {
    let Ok(name) = "fuzz:1".parse::<Reference>() else { return };
    let root = |media_type: &str, document: Vec<u8>| {
        let media_type = media_type.to_owned();
        Root { media_type, document }
    };
    // A sound manifest, whose configuration is the input.
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": CONFIG,
            "digest": Digest::of(input).to_string(),
            "size": input.len(),
        },
        "layers": [],
    });
    let roots = [
        root(MANIFEST, input.to_vec()),
        root(INDEX, input.to_vec()),
        root(MANIFEST, manifest.to_string().into_bytes()),
    ];
    store::with(|place| {
        for root in roots {
            let options =
                PullOptions { platform: Platform::host(), limits: ImportLimits::default() };
            let registry = Registry(input.to_vec());
            let progress = &|_| ControlFlow::Continue(());
            // Refused or taken in: both are fine.
            place.store.pull(&registry, root, &name, &options, progress).ok();
            place.check(&name);
        }
    });
}
