//! What the store writes about images, names and layers: small JSON files.
//!
//! These are the store's own types, apart from what the crate hands out, so that either can
//! change without the other.

use std::{
    fs::{self, DirBuilder, DirEntry, File, FileTimes},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{LayerDir, LayerKey, Scratch, Store};
use crate::{
    Error, Result,
    error::Doing as _,
    image::{digest::Digest, reference::Reference},
};

/// An image as the store keeps it.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct ImageRecord {
    /// The configuration document; its SHA-256 is the image's id.
    pub(crate) config: String,
    /// The manifest document, where the source had one.
    pub(crate) manifest: Option<String>,
    /// Lowest first.
    pub(crate) layers: Vec<LayerUse>,
}

/// One layer of an image.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct LayerUse {
    pub(crate) diff_id: String,
    /// The [`LayerKey`].
    pub(crate) layer: String,
}

impl LayerUse {
    /// Of a layer that is held.
    pub(crate) fn of(layer: &LayerDir) -> Self {
        let path = layer.path.parent().unwrap_or(&layer.path);
        let kind = path.parent().and_then(Path::file_name).unwrap_or_default();
        let name = path.file_name().unwrap_or_default();
        let key = format!("{}/{}", kind.to_string_lossy(), name.to_string_lossy());
        Self { diff_id: layer.diff_id.to_string(), layer: key }
    }
}

/// What is known of a layer's making.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct LayerRecord {
    pub(crate) diff_id: String,
    /// Archive members, bytes of the uncompressed archive.
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    /// Left out on purpose.
    pub(crate) devices_skipped: u64,
    pub(crate) attributes_dropped: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct NameRecord {
    reference: String,
    image: String,
    manifest: Option<String>,
    /// Whether the image can be had again without anyone's doing.
    #[serde(default)]
    replaceable: bool,
}

/// A name in the store and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageSummary {
    /// The name.
    pub reference: Reference,
    /// The image's id: the digest of its configuration.
    pub id: Digest,
    /// The digest of its manifest, where the source had one.
    pub manifest: Option<Digest>,
    /// Whether it came from where it can be had again without anyone's doing.
    pub replaceable: bool,
}

impl Store {
    fn image_path(&self, id: &Digest) -> PathBuf {
        self.root.join("images/sha256").join(format!("{}.json", id.hex()))
    }

    fn name_path(&self, reference: &Reference) -> PathBuf {
        // A name can be longer than a file name, and the hash needs no escaping.
        let hash = Digest::of(reference.to_string().as_bytes());
        self.root.join("names").join(format!("{}.json", hash.hex()))
    }

    pub(crate) fn image_record(&self, id: &Digest) -> Result<Option<ImageRecord>> {
        read(self.image_path(id))
    }

    /// Writes an image and a name for it. The caller holds leases on all of its layers, and the
    /// store's lock is held meanwhile, so that removal sees either neither or both.
    pub(crate) fn publish_image(
        &self,
        scratch: &Scratch,
        id: &Digest,
        manifest: Option<&Digest>,
        record: &ImageRecord,
        (reference, replaceable): (&Reference, bool),
    ) -> Result<()> {
        let _lock = self.lock_shared()?;
        write(scratch, self.image_path(id), record)?;
        let reference = reference.clone();
        let (id, manifest) = (id.clone(), manifest.cloned());
        self.publish_name(scratch, &ImageSummary { reference, id, manifest, replaceable })
    }

    /// Writes an image without a name, which stays until the next removal of what no name leads to.
    pub(crate) fn publish_unnamed(
        &self,
        scratch: &Scratch,
        id: &Digest,
        record: &ImageRecord,
    ) -> Result<()> {
        let _lock = self.lock_shared()?;
        write(scratch, self.image_path(id), record)
    }

    /// Writes a name for an image that is there, while the store's lock is held.
    pub(super) fn publish_name(&self, scratch: &Scratch, summary: &ImageSummary) -> Result<()> {
        let name = NameRecord {
            reference: summary.reference.to_string(),
            image: summary.id.to_string(),
            manifest: summary.manifest.as_ref().map(Digest::to_string),
            replaceable: summary.replaceable,
        };
        write(scratch, self.name_path(&summary.reference), &name)
    }

    /// Remembers that an image was asked for by a name. A store that cannot be written any more
    /// can still be used, so that is no error.
    pub(crate) fn note_use(&self, reference: &Reference) {
        note_use(&self.name_path(reference));
    }

    /// When an image was last asked for by a name; `None` where that is gone.
    pub(super) fn last_use(&self, reference: &Reference) -> Result<Option<SystemTime>> {
        let path = self.name_path(reference);
        match fs::metadata(&path).and_then(|found| found.modified()) {
            Ok(time) => Ok(Some(time)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).system(|| format!("look at `{}`", path.display())),
        }
    }

    /// What is known of a layer in the store.
    pub(super) fn layer_record(&self, key: &LayerKey) -> Result<Option<LayerRecord>> {
        read(self.layer_path(key).join("layer.json"))
    }

    /// What `reference` stands for, exactly as it is written.
    pub(crate) fn resolve(&self, reference: &Reference) -> Result<Option<ImageSummary>> {
        let record: Option<NameRecord> = read(self.name_path(reference))?;
        record.map(summary).transpose()
    }

    /// Every name in the store, sorted.
    pub fn list(&self) -> Result<Vec<ImageSummary>> {
        let path = self.root.join("names");
        let doing = || format!("list `{}`", path.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).system(doing)? {
            // A name may go while the list is read.
            if let Some(record) = read::<NameRecord>(entry.system(doing)?.path())? {
                names.push(summary(record)?);
            }
        }
        names.sort_unstable_by(|a, b| a.reference.cmp(&b.reference));
        Ok(names)
    }

    /// The ids of all images in the store, named or not.
    pub(super) fn image_ids(&self) -> Result<Vec<Digest>> {
        let listed = by_digest(&self.root.join("images/sha256"))?;
        Ok(listed.into_iter().map(|(id, _)| id).collect())
    }

    pub(super) fn remove_name(&self, reference: &Reference) -> Result<bool> {
        remove(self.name_path(reference))
    }

    pub(super) fn remove_image(&self, id: &Digest) -> Result<bool> {
        remove(self.image_path(id))
    }
}

fn summary(record: NameRecord) -> Result<ImageSummary> {
    let doing = || format!("read the name `{}` in the image store", record.reference);
    Ok(ImageSummary {
        reference: record.reference.parse::<Reference>().system(doing)?,
        id: record.image.parse::<Digest>().system(doing)?,
        manifest: match &record.manifest {
            Some(digest) => Some(digest.parse::<Digest>().system(doing)?),
            None => None,
        },
        replaceable: record.replaceable,
    })
}

pub(super) fn read<T: DeserializeOwned>(path: PathBuf) -> Result<Option<T>> {
    let doing = || format!("read `{}`", path.display());
    let document = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.system(doing)?,
    };
    serde_json::from_slice(&document).map(Some).map_err(|error| {
        Error::system(doing(), error).remedy("remove that file and import the image again")
    })
}

pub(super) fn write(scratch: &Scratch, path: PathBuf, record: &impl Serialize) -> Result<()> {
    let doing = || format!("write `{}`", path.display());
    let document = serde_json::to_vec(record).system(doing)?;
    scratch.publish_file(&path, &document).system(doing)
}

/// Makes the directory of records that stores of earlier versions have none of.
pub(super) fn make_directory(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.system(|| format!("make `{}`", path.display()))
}

/// The records of a directory that are named by digests.
fn by_digest(path: &Path) -> Result<Vec<(Digest, DirEntry)>> {
    let doing = || format!("list `{}`", path.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(path).system(doing)? {
        let entry = entry.system(doing)?;
        let name = entry.file_name();
        let hex = name.to_str().and_then(|name| name.strip_suffix(".json"));
        let digest = hex.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
        found.extend(digest.map(|digest| (digest, entry)));
    }
    Ok(found)
}

/// The records of a directory that [`make_directory`] makes, each with where it lies and when it was
/// last used; none before it was made.
pub(super) fn uses(path: &Path) -> Result<Vec<(Digest, PathBuf, SystemTime)>> {
    if !path.try_exists().system(|| format!("look for `{}`", path.display()))? {
        return Ok(Vec::new());
    }
    let used = |entry: &DirEntry| entry.metadata().and_then(|found| found.modified());
    let with = |(digest, entry): (Digest, DirEntry)| {
        (digest, entry.path(), used(&entry).unwrap_or(SystemTime::UNIX_EPOCH))
    };
    Ok(by_digest(path)?.into_iter().map(with).collect())
}

/// Remembers that what a record leads to is used. A store that cannot be written any more can still
/// be used, so that is no error.
pub(super) fn note_use(path: &Path) {
    let now = FileTimes::new().set_modified(SystemTime::now());
    let noted = File::options().write(true).open(path).and_then(|file| file.set_times(now));
    if let Err(error) = noted {
        tracing::debug!(%error, path = %path.display(), "a use is not noted");
    }
}

pub(super) fn remove(path: PathBuf) -> Result<bool> {
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).system(|| format!("remove `{}`", path.display())),
    }
}
