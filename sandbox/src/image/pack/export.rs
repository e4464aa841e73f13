//! Exporting: an image as files that other tools take in.
//!
//! Entries are sorted, and belong to root and to no time, so the same image gives the same bytes.
//! The target appears whole or not at all.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
};

use serde_json::json;
use tar::{EntryType, Header};

use super::bundle::{Blob, Bundle, Packing};
use crate::{
    Error, Result,
    error::Doing as _,
    image::{
        digest::Digest,
        reference::Reference,
        store::{Scratch, Store},
    },
};

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportForm {
    /// A directory with an OCI image layout.
    Layout,
    /// A tar archive of one.
    LayoutArchive,
    /// What `docker save` writes and `docker load` reads.
    DockerArchive,
}

/// Part of an export.
enum Content {
    Bytes(Vec<u8>),
    File(PathBuf, u64),
    Directory,
}

type Contents = BTreeMap<String, Content>;

impl Store {
    /// Writes the image with this name to `target`, where nothing may be yet; `done` is told of
    /// each layer. Returns the digest of its manifest, for forms that have one.
    ///
    /// # Errors
    /// Where the store does not have the image, or the target cannot be written.
    pub fn export(
        &self,
        reference: &Reference,
        target: &Path,
        form: ExportForm,
        packing: Packing,
        done: &(dyn Fn(usize, &Blob) + Sync),
    ) -> Result<Option<Digest>> {
        let doing = || format!("export `{reference}` to `{}`", target.display());
        if target.symlink_metadata().is_ok() {
            return Err(Error::pipeline(doing(), "it is there already")
                .remedy("name a path where nothing is, or remove what is there"));
        }
        let bundle = self.bundle(reference)?;
        let scratch = Scratch::new(self)?;
        let wanted: Vec<_> = (0..bundle.count()).collect();
        let packing = if form == ExportForm::DockerArchive { Packing::Plain } else { packing };
        let layers = bundle.pack(&wanted, scratch.path(), packing, done)?;
        let (contents, digest) = match form {
            ExportForm::DockerArchive => (docker(&bundle, &layers, scratch.path()), None),
            _ => {
                let (contents, digest) = layout(&bundle, &layers, scratch.path());
                (contents, Some(digest))
            }
        };
        let written = match form {
            ExportForm::Layout => write_directory(&contents, target),
            _ => write_archive(&contents, target),
        };
        written.system(doing)?;
        Ok(digest)
    }
}

fn layout(bundle: &Bundle, layers: &[(usize, Blob)], scratch: &Path) -> (Contents, Digest) {
    let blobs: Vec<_> = layers.iter().map(|(_, blob)| blob.clone()).collect();
    let manifest = bundle.manifest(&blobs);
    let digest = manifest.digest();
    let name = |digest: &Digest| format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex());
    let mut contents = Contents::new();
    for directory in ["blobs", "blobs/sha256"] {
        contents.insert(directory.to_owned(), Content::Directory);
    }
    for (number, blob) in layers {
        let content = Content::File(scratch.join(number.to_string()), blob.size);
        contents.insert(name(&blob.digest), content);
    }
    let mut index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": manifest.media_type,
            "digest": digest.to_string(),
            "size": manifest.document.len(),
        }],
    });
    if let Some(tag) = bundle.reference.tag()
        && let Some(descriptor) = index.pointer_mut("/manifests/0")
    {
        // The tag for most tools, the whole name for containerd and docker.
        descriptor["annotations"] = json!({
            "io.containerd.image.name": bundle.reference.to_string(),
            "org.opencontainers.image.ref.name": tag,
        });
    }
    let bytes = |text: &str| Content::Bytes(text.as_bytes().to_vec());
    contents.insert(name(&bundle.config.digest), bytes(&bundle.document));
    contents.insert(name(&digest), bytes(&manifest.document));
    contents.insert("index.json".to_owned(), bytes(&index.to_string()));
    contents.insert("oci-layout".to_owned(), bytes("{\"imageLayoutVersion\":\"1.0.0\"}"));
    (contents, digest)
}

fn docker(bundle: &Bundle, layers: &[(usize, Blob)], scratch: &Path) -> Contents {
    let mut contents = Contents::new();
    let config = format!("{}.json", bundle.config.digest.hex());
    let mut members = Vec::new();
    for (number, blob) in layers {
        // A layer that is there twice is one file.
        let directory = blob.digest.hex();
        let member = format!("{directory}/layer.tar");
        let content = Content::File(scratch.join(number.to_string()), blob.size);
        contents.insert(directory.to_owned(), Content::Directory);
        contents.insert(member.clone(), content);
        members.push(member);
    }
    let tags = bundle.reference.tag().map(|_| vec![bundle.reference.to_string()]);
    let manifest = json!([{ "Config": config, "RepoTags": tags, "Layers": members }]);
    let bytes = |text: &str| Content::Bytes(text.as_bytes().to_vec());
    contents.insert(config, bytes(&bundle.document));
    contents.insert("manifest.json".to_owned(), bytes(&manifest.to_string()));
    contents
}

/// Beside the target, so that a rename is all that is left to do.
fn beside(target: &Path) -> (&Path, tempfile::Builder<'static, 'static>) {
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    builder.prefix(".cofferdam-export-");
    (parent.unwrap_or_else(|| Path::new(".")), builder)
}

fn write_directory(contents: &Contents, target: &Path) -> io::Result<()> {
    let (parent, builder) = beside(target);
    let directory = builder.tempdir_in(parent)?;
    for (name, content) in contents {
        let path = directory.path().join(name);
        match content {
            Content::Directory => fs::create_dir(path)?,
            Content::Bytes(bytes) => fs::write(path, bytes)?,
            Content::File(source, _) => {
                io::copy(&mut File::open(source)?, &mut File::create_new(path)?)?;
            }
        }
    }
    // Made for its owner alone; what is exported is for others.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(directory.path(), open)?;
    fs::rename(directory.path(), target)?;
    let _renamed = directory.keep();
    Ok(())
}

fn write_archive(contents: &Contents, target: &Path) -> io::Result<()> {
    let (parent, builder) = beside(target);
    let mut file = builder.tempfile_in(parent)?;
    let mut archive = tar::Builder::new(io::BufWriter::with_capacity(256 * 1024, &mut file));
    for (name, content) in contents {
        let (kind, mode, size): (_, _, u64) = match content {
            Content::Directory => (EntryType::Directory, 0o755, 0),
            Content::Bytes(bytes) => (EntryType::Regular, 0o644, bytes.len() as u64),
            Content::File(_, size) => (EntryType::Regular, 0o644, *size),
        };
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        let mut data: Box<dyn Read> = match content {
            Content::Directory => Box::new(io::empty()),
            Content::Bytes(bytes) => Box::new(bytes.as_slice()),
            Content::File(source, _) => Box::new(File::open(source)?),
        };
        archive.append_data(&mut header, name, &mut data)?;
    }
    archive.into_inner()?.flush()?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(open)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(target).map(drop).map_err(|error| error.error)
}
