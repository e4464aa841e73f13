//! Images of several layers, made for a test as an OCI image layout.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    binary::{file, program},
    images::busybox,
};

/// An image layout that lives as long as this.
pub(crate) struct Picture {
    directory: TempDir,
    /// The manifest, for a test that changes it.
    pub(crate) manifest: Value,
}

impl Picture {
    /// Busybox, and above it layers with one file each: `/layer-N` with the text that is given.
    pub(crate) fn of(texts: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let layout = directory.path();
        std::fs::create_dir_all(layout.join("blobs/sha256")).expect("make the layout");
        let rootfs = std::fs::read(&busybox().expect("busybox").rootfs).expect("read busybox");
        let mut archives = vec![rootfs];
        for (number, text) in (1..).zip(texts) {
            let scratch = tempfile::tempdir().expect("a directory");
            let name = format!("layer-{number}");
            file(scratch.path(), &name, text);
            let tar = program("tar")
                .args(["--mtime=@0", "--owner=0", "--group=0", "-cf", "-", "-C"])
                .arg(scratch.path())
                .arg(&name)
                .output();
            archives.push(tar.expect("tar").stdout);
        }
        let diff_ids: Vec<_> = archives.iter().map(|archive| digest(archive)).collect();
        let media = "application/vnd.oci.image.layer.v1.tar+gzip";
        let layers: Vec<_> =
            archives.iter().map(|archive| blob(layout, media, &gzip(archive))).collect();
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": { "Env": ["PATH=/bin", "LAYERS=many"], "Cmd": ["sh"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let media = "application/vnd.oci.image.config.v1+json";
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": blob(layout, media, config.to_string().as_bytes()),
            "layers": layers,
        });
        file(layout, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
        let picture = Self { directory, manifest };
        picture.index(&[picture.manifest_blob()]);
        picture
    }

    pub(crate) fn layout(&self) -> &Path {
        self.directory.path()
    }

    /// Where the content with this digest is.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        self.layout().join("blobs").join(digest.replace(':', "/"))
    }

    /// The digest of the manifest as it is now.
    pub(crate) fn digest(&self) -> String {
        digest(self.manifest.to_string().as_bytes())
    }

    /// Puts the manifest into the layout; its descriptor.
    pub(crate) fn manifest_blob(&self) -> Value {
        blob(self.layout(), MANIFEST, self.manifest.to_string().as_bytes())
    }

    /// Makes the layout one of these manifests.
    pub(crate) fn index(&self, manifests: &[Value]) {
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        file(self.layout(), "index.json", index.to_string());
    }

    /// Puts an index of these manifests into the layout, and makes it what the layout is of.
    pub(crate) fn nested(&self, manifests: &[Value]) -> String {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        let descriptor = blob(self.layout(), INDEX, index.to_string().as_bytes());
        let digest = descriptor["digest"].as_str().expect("a digest").to_owned();
        self.index(&[descriptor]);
        digest
    }
}

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Puts content into a layout; its descriptor.
pub(crate) fn blob(layout: &Path, media_type: &str, content: &[u8]) -> Value {
    let digest = digest(content);
    file(&layout.join("blobs/sha256"), digest.trim_start_matches("sha256:"), content);
    json!({ "mediaType": media_type, "digest": digest, "size": content.len() })
}

pub(crate) fn digest(content: &[u8]) -> String {
    use sha2::Digest as _;
    let hash = sha2::Sha256::digest(content);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn gzip(archive: &[u8]) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a directory");
    let plain = file(directory.path(), "layer", archive);
    program("gzip").arg("-nc").arg(plain).output().expect("gzip").stdout
}

/// This host's processor as images call it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
