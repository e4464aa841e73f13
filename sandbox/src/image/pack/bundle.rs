//! An image as it is given away: its documents, and its layers compressed again.
//!
//! The same image gives the same bytes: compressors are told neither time nor name, and documents
//! are written in one order. Where that makes the very blobs that the image came with, it keeps
//! its manifest, and with it its digest.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use flate2::write::GzEncoder;
use serde::Deserialize;
use serde_json::json;

use crate::{
    Error, Result,
    error::Doing as _,
    image::{
        digest::{Algorithm, Digest, Hasher},
        reference::Reference,
        store::{LayerDir, LayerKey, Scratch, Store},
    },
};

/// How layers are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    /// What every tool can read.
    #[default]
    Gzip,
    /// Smaller and faster, for tools of the 2020s.
    Zstd,
    /// Not at all.
    Plain,
}

/// As `gzip` does it unless told otherwise.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

impl Packing {
    fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            Self::Plain => "application/vnd.oci.image.layer.v1.tar",
        }
    }
}

/// A piece of content that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// What it is.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
}

impl Blob {
    fn descriptor(&self) -> serde_json::Value {
        json!({
            "mediaType": self.media_type,
            "digest": self.digest.to_string(),
            "size": self.size,
        })
    }
}

/// A manifest: its bytes, what it is, and the layers that it names.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// What it is.
    pub media_type: String,
    /// Its bytes.
    pub document: String,
    /// Lowest first.
    pub layers: Vec<Blob>,
}

impl Manifest {
    /// Its digest.
    pub fn digest(&self) -> Digest {
        Digest::of(self.document.as_bytes())
    }

    fn parse(document: &str) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Document {
            media_type: Option<String>,
            layers: Vec<Layer>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Layer {
            media_type: String,
            digest: String,
            size: u64,
        }
        let parsed: Document = serde_json::from_str(document).ok()?;
        let layers = parsed.layers.into_iter().map(|layer| {
            let digest = layer.digest.parse().ok()?;
            Some(Blob { media_type: layer.media_type, digest, size: layer.size })
        });
        Some(Self {
            media_type: parsed.media_type.unwrap_or_else(|| MANIFEST.to_owned()),
            layers: layers.collect::<Option<_>>()?,
            document: document.to_owned(),
        })
    }
}

/// An image that is being given away; its layers stay in the store meanwhile.
#[derive(Debug)]
pub struct Bundle {
    /// The name it was found by.
    pub reference: Reference,
    /// Its configuration.
    pub config: Blob,
    /// The bytes of that.
    pub document: String,
    /// The manifest that it came with, where it did.
    pub original: Option<Manifest>,
    layers: Vec<LayerDir>,
}

impl Store {
    /// Takes the image with this name to give it away.
    ///
    /// # Errors
    /// Where the store does not have it.
    pub fn bundle(&self, reference: &Reference) -> Result<Bundle> {
        let doing = || format!("take the image `{reference}`");
        let missing = || {
            Error::pipeline(doing(), "the store has no such image")
                .remedy("`cofferdam image ls` lists those that it has")
        };
        let summary = self.resolve(reference)?.ok_or_else(missing)?;
        let record = self.image_record(&summary.id)?.ok_or_else(missing)?;
        let mut layers = Vec::new();
        for layer in &record.layers {
            let diff_id = layer.diff_id.parse::<Digest>().system(doing)?;
            let lost = || Error::system(doing(), "the store has lost a layer of it");
            let key = LayerKey::parse(&layer.layer).ok_or_else(lost)?;
            layers.push(self.lease(&key, &diff_id)?.ok_or_else(lost)?);
        }
        let original = record.manifest.as_deref().and_then(Manifest::parse);
        Ok(Bundle {
            reference: reference.clone(),
            config: Blob {
                media_type: CONFIG.to_owned(),
                digest: summary.id,
                size: record.config.len() as u64,
            },
            document: record.config,
            original: original.filter(|manifest| manifest.layers.len() == layers.len()),
            layers,
        })
    }
}

/// A directory in the store for what is on its way out, removed when dropped.
#[derive(Debug)]
pub struct Outgoing(Scratch);

impl Outgoing {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Store {
    /// Makes a directory for layers that are on their way out.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn outgoing(&self) -> Result<Outgoing> {
        Scratch::new(self).map(Outgoing)
    }
}

impl Bundle {
    /// How many layers it has.
    pub fn count(&self) -> usize {
        self.layers.len()
    }

    /// The diff id of a layer.
    pub fn diff_id(&self, layer: usize) -> Option<&Digest> {
        self.layers.get(layer).map(|layer| &layer.diff_id)
    }

    /// Writes the layers that are `wanted` as files below `directory`, each under its number, as
    /// many at once as there are processors; `done` is told of each.
    ///
    /// # Errors
    /// Where a layer cannot be made again, or not written.
    pub fn pack(
        &self,
        wanted: &[usize],
        directory: &Path,
        packing: Packing,
        done: &(dyn Fn(usize, &Blob) + Sync),
    ) -> Result<Vec<(usize, Blob)>> {
        let next = AtomicUsize::new(0);
        let outcome = Mutex::new(Ok(Vec::new()));
        let work = || {
            while let Some(number) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                let packed = self.pack_layer(*number, &directory.join(number.to_string()), packing);
                let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                match (packed, outcome.as_mut()) {
                    (Ok(blob), Ok(packed)) => {
                        done(*number, &blob);
                        packed.push((*number, blob));
                    }
                    (Err(error), Ok(_)) => {
                        // The others find nothing more to do.
                        next.store(wanted.len(), Ordering::Relaxed);
                        *outcome = Err(error);
                    }
                    (_, Err(_)) => {}
                }
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(wanted.len());
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        let mut packed = outcome.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        packed.sort_unstable_by_key(|(number, _)| *number);
        Ok(packed)
    }

    fn pack_layer(&self, number: usize, path: &Path, packing: Packing) -> Result<Blob> {
        let doing = || format!("pack layer {} of `{}`", number + 1, self.reference);
        let layer = self.layers.get(number);
        let layer = layer.ok_or_else(|| Error::system(doing(), "there is no such layer"))?;
        let file = BufWriter::with_capacity(256 * 1024, File::create(path).system(doing)?);
        let counted = Counted { output: file, hasher: Hasher::new(Algorithm::Sha256), size: 0 };
        let counted = match packing {
            Packing::Plain => {
                let mut output = counted;
                layer.write_archive(&mut output)?;
                output
            }
            Packing::Gzip => {
                let mut output = GzEncoder::new(counted, flate2::Compression::new(GZIP_LEVEL));
                layer.write_archive(&mut output)?;
                output.finish().system(doing)?
            }
            Packing::Zstd => {
                let mut output =
                    zstd::stream::write::Encoder::new(counted, ZSTD_LEVEL).system(doing)?;
                layer.write_archive(&mut output)?;
                output.finish().system(doing)?
            }
        };
        let Counted { mut output, hasher, size } = counted;
        output.flush().system(doing)?;
        let media_type = packing.media_type().to_owned();
        Ok(Blob { media_type, digest: hasher.finish(), size })
    }

    /// The manifest of these layers: the one that the image came with, where it names them.
    pub fn manifest(&self, layers: &[Blob]) -> Manifest {
        let same = |original: &&Manifest| {
            original.layers.iter().map(|layer| &layer.digest).eq(layers.iter().map(|it| &it.digest))
        };
        if let Some(original) = self.original.as_ref().filter(same) {
            return original.clone();
        }
        let document = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        Manifest {
            media_type: MANIFEST.to_owned(),
            document: document.to_string(),
            layers: layers.to_owned(),
        }
    }
}

/// Hashes and counts what is written.
struct Counted<W> {
    output: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
