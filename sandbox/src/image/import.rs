//! Importing an image: its layers side by side into the store, then its name.
//!
//! Every layer is unpacked below the scratch directory while digest, size and diff id are
//! computed from the very bytes that are unpacked. Only when all of them hold is the file system
//! synced, once, and the layers renamed to their places. Whatever fails, the scratch directory
//! goes and the store is as it was.

mod ahead;
mod complete;
mod layers;
mod write_behind;

use std::{fs::File, io::Read, ops::ControlFlow, path::Path, sync::atomic::AtomicBool};

pub(super) use self::layers::Watched;
use self::{layers::WRITING, write_behind::WriteBehind};
use super::{
    digest::{Algorithm, Digest},
    limits::{Budget, ImportLimits},
    open::{self, Image},
    platform::{self, Platform},
    problem::Problem,
    reference::Reference,
    source::{Blob, Origin, Package, Root, Source, read_package, resolve},
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

/// How to pull.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// What the image is to be for, where there are several.
    pub platform: Platform,
    /// What the pull may use.
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
pub(super) type Receiver<'a> = &'a (dyn Fn(Progress) -> ControlFlow<()> + Sync);

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
        check_name(name).map_err(|why| Error::pipeline(doing(), why).remedy(OTHER_NAME))?;
        let scratch = Scratch::new(self)?;
        let limits = &options.limits;
        let source = path.display().to_string();
        let import =
            Import { store: self, scratch: &scratch, limits, progress, source, replaceable: false };
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
                let (Source::Layout(files) | Source::Docker(files)) = &source else {
                    return Err(Error::pipeline(doing(), "the source holds no image"));
                };
                import.package(package, name, &|blob| {
                    let (reader, _) = files.open(&blob.member)?;
                    Ok(Box::new(reader))
                })
            }
        }
    }

    /// Pulls the image that `root` stands for in `origin`, and takes it for use as `name`.
    ///
    /// Layers that the store has are not fetched. This blocks for as long as it takes.
    ///
    /// # Errors
    /// With [`crate::Fault::Pipeline`] where the image is to blame; the store is then as it was.
    pub fn pull(
        &self,
        origin: &dyn Origin,
        root: Root,
        name: &Reference,
        options: &PullOptions,
        progress: Receiver<'_>,
    ) -> Result<Image> {
        let source = origin.name();
        let doing = format!("pull `{name}` from `{source}`");
        check_name(name).map_err(|why| Error::pipeline(doing.as_str(), why).remedy(OTHER_NAME))?;
        let PullOptions { platform, limits } = options;
        let package = resolve(origin, root, platform, limits, &doing)?;
        let scratch = Scratch::new(self)?;
        let import =
            Import { store: self, scratch: &scratch, limits, progress, source, replaceable: true };
        import.package(package, name, &|blob| match &blob.digest {
            Some(digest) => origin.layer(digest, blob.size),
            None => Err(Error::system(doing.as_str(), "a layer has no digest")),
        })
    }
}

const OTHER_NAME: &str = "choose another name";

fn check_name(name: &Reference) -> Result<(), &'static str> {
    match name.is_embedded() {
        true => Err("the name `host` belongs to the embedded image"),
        false => Ok(()),
    }
}

/// Opens a layer of a package for reading.
type Open<'a> = &'a (dyn Fn(&Blob) -> Result<Box<dyn Read + Send + 'a>> + Sync);

/// Layers on their way into the store.
pub(super) struct Import<'a> {
    store: &'a Store,
    scratch: &'a Scratch,
    limits: &'a ImportLimits,
    progress: Receiver<'a>,
    /// Where it comes from, for messages.
    source: String,
    /// Whether it can be had from there again without anyone's doing.
    replaceable: bool,
}

impl<'a> Import<'a> {
    /// Of a layer that is made here.
    pub(super) fn of_layer(
        store: &'a Store,
        scratch: &'a Scratch,
        limits: &'a ImportLimits,
        progress: Receiver<'a>,
    ) -> Self {
        let source = "a build".to_owned();
        Self { store, scratch, limits, progress, source, replaceable: false }
    }

    fn rootfs(&self, file: File, name: &Reference) -> Result<Image> {
        let doing = || format!("unpack `{}`", self.source);
        self.tell(Progress::Layers { count: 1 }).map_err(|problem| problem.during(doing()))?;
        let limits = self.limits;
        let total = file.metadata().system(doing)?.len();
        if total > limits.image {
            let why = format!("it has {total} bytes, {} are allowed", limits.image);
            return Err(Error::pipeline(doing(), why));
        }
        let budget = Budget::new(limits);
        let stopped = AtomicBool::new(false);
        let unpacked = WriteBehind::during(self.scratch.file(), |write_behind| {
            let progress = self.progress;
            let (stopped, write_behind) = (&stopped, Some(write_behind));
            let source = Watched { input: file, progress, layer: 0, total, stopped, write_behind };
            self.unpack(source, 0, Algorithm::Sha256, None, &budget)
                .map_err(|problem| problem.during(doing()))
        })
        .system(|| WRITING)??;
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

    fn package(&self, package: Package, name: &Reference, open: Open<'_>) -> Result<Image> {
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

        // The longest first, so that it is not waited for alone.
        missing.sort_by_key(|(_, blob, _)| std::cmp::Reverse(blob.size));
        let budget = Budget::new(self.limits);
        let unpacked = self.unpack_all(&missing, &budget, open)?;
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
        let uses = layers.iter().map(LayerUse::of).collect();
        let record = ImageRecord { config, manifest, layers: uses };
        let named = (name, self.replaceable);
        self.store.publish_image(self.scratch, &id, manifest_digest.as_ref(), &record, named)?;
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
pub(super) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::new();
    for diff_id in diff_ids {
        chain.push(match chain.last() {
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
            None => diff_id.clone(),
        });
    }
    chain
}
