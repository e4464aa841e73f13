//! The embedded image `host`: this host's `/usr`, read-only, below a root made for containers.
//!
//! Nothing is downloaded, so a first run needs no registry. What the root holds beyond `/usr` is
//! generated or on a short list of public files of `/etc`: never accounts, passwords, keys or
//! anything that names this machine. It is one layer in the store, kept under a fingerprint of the
//! files it was made from; finding it again costs as many `lstat` as there are such files.

mod fingerprint;
mod sources;
mod write;

use std::path::{Path, PathBuf};

use super::{
    config::ImageConfig,
    open::{HostMount, Image},
    platform,
    store::{LayerKey, Scratch, Store},
};
use crate::{Result, error::Doing as _};

/// Opens the host image, making its layer if this host changed or has none yet.
pub(super) fn open(store: &Store) -> Result<Image> {
    let root = Path::new("/");
    let fingerprint = fingerprint::of(root);
    let key = LayerKey::Host(fingerprint.clone());
    let layer = match store.lease(&key, &fingerprint)? {
        Some(layer) => layer,
        None => {
            let doing = || "make the layer of the image `host`";
            let scratch = Scratch::new(store)?;
            let made = scratch.path().join("host");
            write::skeleton(root, &made.join("diff")).system(doing)?;
            nix::unistd::syncfs(scratch.file()).system(doing)?;
            let layer = store.publish_layer(&key, &fingerprint, &made)?;
            store.retire_host_layers(&key, &scratch)?;
            layer
        }
    };
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Ok(Image {
        reference: None,
        digest: fingerprint,
        layers: vec![layer],
        config: ImageConfig {
            env: vec![variable("PATH", sources::PATH)],
            architecture: platform::architecture().to_owned(),
            os: platform::OS.to_owned(),
            ..ImageConfig::default()
        },
        host_mounts: mounts(),
    })
}

/// `/usr`, and what older systems keep beside it: there `/bin` and the like are no links into it.
pub(super) fn mounts() -> Vec<HostMount> {
    let root = Path::new("/");
    let real = |name: &&str| root.join(name).symlink_metadata().is_ok_and(|entry| entry.is_dir());
    std::iter::once("usr")
        .chain(sources::MERGED.into_iter().filter(real))
        .map(|name| HostMount {
            source: PathBuf::from(root).join(name),
            target: format!("/{name}"),
        })
        .collect()
}
