//! Importing an image: its layers side by side into the store, then its name.
//!
//! Every layer is unpacked below the scratch directory while digest, size and diff id are
//! computed from the very bytes that are unpacked. Only when all of them hold is the file system
//! synced, once, and the layers renamed to their places. Whatever fails, the scratch directory
//! goes and the store is as it was.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    ops::ControlFlow,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use super::{
    archive::{Archive, Skip},
    compression::{Compressed, Decompressed},
    digest::{Algorithm, Digest, HashingReader},
    limits::{Budget, ImportLimits},
    open::{self, HOST, Image},
    platform,
    problem::Problem,
    reference::Reference,
    source::{Blob, Package, Source, read_package},
    store::{ImageRecord, LayerDir, LayerKey, LayerRecord, LayerUse, Scratch, Store},
    unpack::{Extracted, Tree, extract, settle},
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

/// A layer that was unpacked below the scratch directory.
#[derive(Debug)]
struct Unpacked<'a> {
    tree: Tree<'a>,
    path: PathBuf,
    diff_id: Digest,
    bytes: u64,
    extracted: Extracted,
}

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
                .remedy("Choose another name."));
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
        let mut unpacked = self
            .unpack(source, 0, Algorithm::Sha256, None, &budget)
            .map_err(|problem| problem.during(doing()))?;
        if unpacked.extracted.entries == 0 {
            return Err(Error::pipeline(doing(), "the archive is empty"));
        }
        settle(&mut unpacked.tree, &[], &budget).map_err(|problem| problem.during(doing()))?;
        let diff_id = unpacked.diff_id.clone();
        let layers = self.publish(vec![(unpacked, LayerKey::Diff(diff_id.clone()))])?;
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
        let layers = self.settle(layers, unpacked, &chain, &budget)?;
        drop(locks);
        let manifest = package.manifest;
        self.name(package.id, package.document, manifest, layers, name)
    }

    /// Unpacks the missing layers on as many threads as there are processors. The first failure
    /// stops the others.
    fn unpack_all<'b>(
        &self,
        missing: &[(usize, &Blob, &Digest)],
        budget: &'b Budget<'b>,
        open: impl Fn(&Blob) -> Result<(super::source::FileReader, u64)> + Sync,
    ) -> Result<Vec<(usize, Unpacked<'b>)>>
    where
        'a: 'b,
    {
        let next = AtomicUsize::new(0);
        let stopped = AtomicBool::new(false);
        let done = Mutex::new(Vec::new());
        let failure = Mutex::new(None);
        let work = || {
            while !stopped.load(Ordering::Relaxed)
                && let Some((layer, blob, diff_id)) =
                    missing.get(next.fetch_add(1, Ordering::Relaxed))
            {
                let outcome = open(blob).and_then(|(file, size)| {
                    let watched = Watched {
                        input: file,
                        progress: self.progress,
                        layer: *layer,
                        total: size,
                        stopped: &stopped,
                    };
                    self.unpack(watched, *layer, diff_id.algorithm(), Some((blob, diff_id)), budget)
                        .map_err(|problem| {
                            let source = self.path.display();
                            problem.during(format!("unpack layer `{}` of `{source}`", blob.member))
                        })
                });
                match outcome {
                    Ok(unpacked) => lock(&done).push((*layer, unpacked)),
                    Err(error) => {
                        // Those that are stopped because of it fail later.
                        stopped.store(true, Ordering::Relaxed);
                        lock(&failure).get_or_insert(error);
                    }
                }
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(missing.len());
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_unstable_by_key(|(layer, _)| *layer);
        Ok(done)
    }

    /// Unpacks one layer and checks it against everything that was promised of it.
    fn unpack<'b, R: Read>(
        &self,
        source: Watched<'_, R>,
        layer: usize,
        algorithm: Algorithm,
        promised: Option<(&Blob, &Digest)>,
        budget: &'b Budget<'b>,
    ) -> Result<Unpacked<'b>, Problem> {
        let path = self.scratch.path().join(format!("layer-{layer}"));
        let root = create(&path).map_err(|error| Problem::write(b"layer", error))?;
        let blob = promised.map(|(blob, _)| blob);
        let blob_algorithm = blob.and_then(|blob| blob.digest.as_ref()).map(Digest::algorithm);
        let hashing = HashingReader::new(source, blob_algorithm.unwrap_or(Algorithm::Sha256));
        let compressed = Compressed::new(hashing)?;
        if let Some(expected) = blob.and_then(|blob| blob.compression)
            && expected != compressed.compression
        {
            return Err(Problem::Mismatch {
                what: "its compression",
                expected: expected.as_str().to_owned(),
                actual: compressed.compression.as_str().to_owned(),
            });
        }
        let plain = HashingReader::new(Decompressed::new(compressed, budget)?, algorithm);
        let plain = Buffered(BufReader::with_capacity(128 * 1024, plain));
        let mut archive = Archive::new(plain, budget.limits);
        let mut tree = Tree::new(root, budget.limits);
        let extracted = extract(&mut archive, &mut tree, budget)?;

        // What follows the end of the archive is part of what was promised.
        let mut plain = archive.into_inner().0;
        io::copy(&mut plain, &mut io::sink())?;
        let (decompressed, diff_id, bytes) = plain.into_inner().finish();
        let (_, digest, size) = decompressed.into_source().finish();
        if let Some((blob, expected)) = promised {
            let mismatch = |what, expected: String, actual: String| {
                Err(Problem::Mismatch { what, expected, actual })
            };
            if size != blob.size {
                return mismatch("its size", blob.size.to_string(), size.to_string());
            }
            if let Some(expected) = &blob.digest
                && *expected != digest
            {
                return mismatch("its digest", expected.to_string(), digest.to_string());
            }
            if *expected != diff_id {
                return mismatch("its diff id", expected.to_string(), diff_id.to_string());
            }
        }
        self.tell(Progress::Unpacked { layer })?;
        Ok(Unpacked { tree, path, diff_id, bytes, extracted })
    }

    /// Completes the unpacked layers from those below them and puts all in their places.
    fn settle(
        &self,
        present: Vec<Option<LayerDir>>,
        unpacked: Vec<(usize, Unpacked<'_>)>,
        chain: &[Digest],
        budget: &Budget<'_>,
    ) -> Result<Vec<LayerDir>> {
        let mut unpacked = unpacked.into_iter().peekable();
        let mut roots: Vec<OwnedFd> = Vec::new();
        let mut made = Vec::new();
        for (layer, (present, chain)) in present.iter().zip(chain).enumerate() {
            let doing = || format!("complete layer {layer} of `{}`", self.path.display());
            let root = match (present, unpacked.next_if(|(number, _)| *number == layer)) {
                (Some(present), _) => present.as_fd().try_clone_to_owned().system(doing)?,
                (None, Some((_, mut layer))) => {
                    let below: Vec<BorrowedFd<'_>> =
                        roots.iter().rev().map(|root| root.as_fd()).collect();
                    let key = match layer.tree.stands_alone() || below.is_empty() {
                        true => LayerKey::Diff(layer.diff_id.clone()),
                        false => LayerKey::Chain(chain.clone()),
                    };
                    settle(&mut layer.tree, &below, budget)
                        .map_err(|problem| problem.during(doing()))?;
                    let root = File::open(layer.path.join("diff")).system(doing)?;
                    made.push((layer, key));
                    root.into()
                }
                (None, None) => return Err(Error::system(doing(), "it was not unpacked")),
            };
            roots.push(root);
        }
        drop(roots);
        let mut made = self.publish(made)?.into_iter();
        Ok(present.into_iter().filter_map(|layer| layer.or_else(|| made.next())).collect())
    }

    /// Finishes layers, writes them to disk for good, and renames them to their places.
    fn publish(&self, layers: Vec<(Unpacked<'_>, LayerKey)>) -> Result<Vec<LayerDir>> {
        let doing = || "write the image's layers to disk";
        let mut finished = Vec::new();
        for (layer, key) in layers {
            let record = LayerRecord {
                diff_id: layer.diff_id.to_string(),
                entries: layer.extracted.entries,
                bytes: layer.bytes,
                devices_skipped: layer.extracted.devices_skipped,
                attributes_dropped: layer.extracted.attributes_dropped,
            };
            layer.tree.finish().map_err(|problem| problem.during(doing()))?;
            let record = serde_json::to_vec(&record).system(doing)?;
            fs::write(layer.path.join("layer.json"), record).system(doing)?;
            finished.push((layer.path, layer.diff_id, key));
        }
        if !finished.is_empty() {
            // One call for all files of all layers, where fsync would take one for each.
            nix::unistd::syncfs(self.scratch.file()).system(doing)?;
        }
        finished
            .into_iter()
            .map(|(path, diff_id, key)| self.store.publish_layer(&key, &diff_id, &path))
            .collect()
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

fn create(path: &Path) -> io::Result<OwnedFd> {
    let diff = path.join("diff");
    fs::create_dir(path)?;
    fs::create_dir(&diff)?;
    Ok(File::open(diff)?.into())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A source that reports what is read from it, and ends when the import is stopped.
struct Watched<'a, R> {
    input: R,
    progress: Receiver<'a>,
    layer: usize,
    total: u64,
    stopped: &'a AtomicBool,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(Problem::Cancelled.into());
        }
        let read = self.input.read(buffer)?;
        let event = Progress::Read { layer: self.layer, bytes: read as u64, total: self.total };
        if (self.progress)(event).is_break() {
            return Err(Problem::Cancelled.into());
        }
        Ok(read)
    }
}

/// A buffer before the hashes: headers are read in blocks of 512 bytes.
struct Buffered<R: Read>(BufReader<R>);

impl<R: Read> Read for Buffered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Skip for Buffered<R> {}
