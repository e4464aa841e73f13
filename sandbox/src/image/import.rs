//! Importing an image: its layers side by side into the store, then its name.
//!
//! Every layer is unpacked below the scratch directory while digest, size and diff id are
//! computed from the very bytes that are unpacked. Only when all of them hold is the file system
//! synced, once, and the layers renamed to their places. Whatever fails, the scratch directory
//! goes and the store is as it was.

mod complete;
mod layers;

use std::{fs::File, ops::ControlFlow, path::Path, sync::atomic::AtomicBool};

use self::layers::Watched;
use super::{
    digest::{Algorithm, Digest},
    limits::{Budget, ImportLimits},
    open::{self, HOST, Image},
    platform,
    problem::Problem,
    reference::Reference,
    source::{Package, Source, read_package},
    store::{ImageRecord, LayerDir, LayerKey, LayerUse, Scratch, Store},
};
use crate::{Error, Result, error::Doing as _};

/// How to import.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Which image of a source that holds several: its tag or name there.
    pub select: Option<String>,
    /// What the import may use.
    pub limits: ImportLimits,
}

/// What an import is doing. Layers are numbered from the lowest, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The image was found to have this many layers.
    Layers {
        /// How many.
        count: usize,
    },
    /// The store has this layer already.
    Present {
        /// The layer.
        layer: usize,
    },
    /// This many bytes more of the layer's source were read.
    Read {
        /// The layer.
        layer: usize,
        /// Bytes since the last event.
        bytes: u64,
        /// Bytes of the whole layer in its source.
        total: u64,
    },
    /// The layer is unpacked and verified.
    Unpacked {
        /// The layer.
        layer: usize,
    },
}

/// Receives progress, from any thread; breaking cancels the import.
type Receiver<'a> = &'a (dyn Fn(Progress) -> ControlFlow<()> + Sync);

impl Store {
    /// Imports the image at `path` under `name` and takes it for use.
    ///
    /// `path` is an OCI image layout (a directory, or a tar archive of one), a `docker save`
    /// archive, or a tar archive of a root file system; archives may be compressed with gzip or
    /// zstd. This blocks for as long as it takes to read the whole image.
    pub fn import(
        &self,
        path: &Path,
        name: &Reference,
        options: &ImportOptions,
        progress: Receiver<'_>,
    ) -> Result<Image> {
        let doing = || format!("import `{}` as `{name}`", path.display());
        if name.registry().is_none() && name.repository() == HOST {
            return Err(Error::pipeline(doing(), "the name `host` belongs to the embedded image")
                .remedy("choose another name"));
        }
        let scratch = Scratch::new(self)?;
        let import = Import { store: self, scratch: &scratch, options, progress, path };
        match Source::open(path, scratch.path(), &options.limits)? {
            Source::Rootfs(file) => {
                if name.digest().is_some() || options.select.is_some() {
                    let why = "a root file system has no manifest and no images to select from";
                    return Err(Error::pipeline(doing(), why));
                }
                import.rootfs(file, name)
            }
            source => {
                let package = read_package(&source, options.select.as_deref(), &options.limits)?;
                let manifest = package.manifest.as_ref().map(|(digest, _)| digest);
                if let Some(pinned) = name.digest()
                    && Some(pinned) != manifest
                {
                    let found = manifest.map_or_else(|| "none".to_owned(), Digest::to_string);
                    let why = format!("its manifest has the digest `{found}`, not `{pinned}`");
                    return Err(Error::pipeline(doing(), why));
                }
                import.package(&source, package, name)
            }
        }
    }
}

struct Import<'a> {
    store: &'a Store,
    scratch: &'a Scratch,
    options: &'a ImportOptions,
    progress: Receiver<'a>,
    path: &'a Path,
}

impl<'a> Import<'a> {
    fn rootfs(&self, file: File, name: &Reference) -> Result<Image> {
        let doing = || format!("unpack `{}`", self.path.display());
        self.tell(Progress::Layers { count: 1 }).map_err(|problem| problem.during(doing()))?;
        let limits = &self.options.limits;
        let total = file.metadata().system(doing)?.len();
        if total > limits.image {
            let why = format!("it has {total} bytes, {} are allowed", limits.image);
            return Err(Error::pipeline(doing(), why));
        }
        let budget = Budget::new(limits);
        let stopped = AtomicBool::new(false);
        let source =
            Watched { input: file, progress: self.progress, layer: 0, total, stopped: &stopped };
        let unpacked = self
            .unpack(source, 0, Algorithm::Sha256, None, &budget)
            .map_err(|problem| problem.during(doing()))?;
        if unpacked.extracted.entries == 0 {
            return Err(Error::pipeline(doing(), "the archive is empty"));
        }
        let diff_id = unpacked.diff_id.clone();
        let chain = [diff_id.clone()];
        let layers = self.publish(vec![None], vec![(0, unpacked)], &chain, &budget)?;
        let config = serde_json::json!({
            "architecture": platform::architecture(),
            "os": platform::OS,
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            },
            "rootfs": { "type": "layers", "diff_ids": [diff_id.to_string()] },
        })
        .to_string();
        self.name(Digest::of(config.as_bytes()), config, None, layers, name)
    }

    fn package(&self, source: &Source, package: Package, name: &Reference) -> Result<Image> {
        let (Source::Layout(files) | Source::Docker(files)) = source else {
            return Err(Error::pipeline("import an image", "the source holds no image"));
        };
        let doing = || format!("import the image `{}`", package.id);
        let diff_ids = &package.config.diff_ids;
        self.tell(Progress::Layers { count: diff_ids.len() })
            .map_err(|problem| problem.during(doing()))?;
        let chain = chain_ids(diff_ids);

        // In ascending order, for another import may want the same layers.
        let mut wanted: Vec<_> = diff_ids.iter().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut locks = Vec::new();
        for diff_id in wanted {
            if self.store.lease(&LayerKey::Diff(diff_id.clone()), diff_id)?.is_none() {
                locks.push(self.store.lock_layer(diff_id)?);
            }
        }

        let mut layers: Vec<Option<LayerDir>> = Vec::new();
        let mut missing = Vec::new();
        for (layer, (diff_id, chain)) in diff_ids.iter().zip(&chain).enumerate() {
            let found = match self.store.lease(&LayerKey::Diff(diff_id.clone()), diff_id)? {
                Some(found) => Some(found),
                None => self.store.lease(&LayerKey::Chain(chain.clone()), diff_id)?,
            };
            if found.is_some() {
                self.tell(Progress::Present { layer })
                    .map_err(|problem| problem.during(doing()))?;
            } else if let Some(blob) = package.layers.get(layer) {
                missing.push((layer, blob, diff_id));
            }
            layers.push(found);
        }

        let budget = Budget::new(&self.options.limits);
        let unpacked = self.unpack_all(&missing, &budget, |blob| files.open(&blob.member))?;
        let layers = self.publish(layers, unpacked, &chain, &budget)?;
        drop(locks);
        let manifest = package.manifest;
        self.name(package.id, package.document, manifest, layers, name)
    }

    fn name(
        &self,
        id: Digest,
        config: String,
        manifest: Option<(Digest, String)>,
        layers: Vec<LayerDir>,
        name: &Reference,
    ) -> Result<Image> {
        let (manifest_digest, manifest) = manifest.unzip();
        let key = |layer: &LayerDir| {
            let path = layer.path.parent().unwrap_or(&layer.path);
            let kind = path.parent().and_then(Path::file_name).unwrap_or_default();
            let name = path.file_name().unwrap_or_default();
            format!("{}/{}", kind.to_string_lossy(), name.to_string_lossy())
        };
        let uses = layers
            .iter()
            .map(|layer| LayerUse { diff_id: layer.diff_id.to_string(), layer: key(layer) })
            .collect();
        let record = ImageRecord { config, manifest, layers: uses };
        self.store.publish_image(self.scratch, &id, manifest_digest.as_ref(), &record, name)?;
        open::image(id, Some(name.clone()), &record, layers)
    }

    fn tell(&self, progress: Progress) -> Result<(), Problem> {
        match (self.progress)(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Problem::Cancelled),
        }
    }
}

/// The ids of the stacks that end in each layer (OCI image specification, "Layer ChainID").
fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::new();
    for diff_id in diff_ids {
        chain.push(match chain.last() {
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
            None => diff_id.clone(),
        });
    }
    chain
}
