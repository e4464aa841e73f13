//! Archives and layouts made byte by byte, and a look at what came of them.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    ops::ControlFlow,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tar::{EntryType, Header};

use crate::{
    Result,
    image::{Digest, Image, ImportOptions, Keep, Reference, Store, platform},
};

/// An archive being written, header by header, so that every field can lie.
#[derive(Clone, Default)]
pub(super) struct Archive(pub(super) Vec<u8>);

impl Archive {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A header as honest writers make it; the name is taken as it is.
    pub(super) fn header(kind: EntryType, name: &[u8], size: u64) -> Header {
        let mut header = Header::new_ustar();
        let old = header.as_old_mut();
        let length = name.len().min(100);
        old.name[..length].copy_from_slice(&name[..length]);
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_cksum();
        header
    }

    pub(super) fn raw(mut self, header: &Header, data: &[u8]) -> Self {
        self.0.extend_from_slice(header.as_bytes());
        self.block(data);
        self
    }

    fn block(&mut self, data: &[u8]) {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    /// Changes the header of the last call before it is written.
    pub(super) fn with(
        self,
        kind: EntryType,
        name: &[u8],
        data: &[u8],
        change: impl FnOnce(&mut Header),
    ) -> Self {
        let mut header = Self::header(kind, name, data.len() as u64);
        change(&mut header);
        header.set_cksum();
        self.raw(&header, data)
    }

    pub(super) fn file(self, name: &str, data: &[u8]) -> Self {
        self.with(EntryType::Regular, name.as_bytes(), data, |_| {})
    }

    pub(super) fn dir(self, name: &str) -> Self {
        self.with(EntryType::Directory, name.as_bytes(), b"", |_| {})
    }

    pub(super) fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        self.with(kind, name.as_bytes(), b"", |header| {
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        })
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, name, target)
    }

    pub(super) fn hardlink(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Link, name, target)
    }

    /// A PAX extended header with these records, for the entry that follows.
    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length += 1;
            }
            write!(data, "{length} {key}=").unwrap();
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.with(EntryType::XHeader, b"PaxHeader", &data, |_| {})
    }

    /// The archive with its end.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

pub(super) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(data: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(data, 1).unwrap()
}

/// How a layout's layers are stored.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stored {
    Plain,
    Gzip,
    Zstd,
}

impl Stored {
    pub(super) fn encode(self, layer: &[u8]) -> (Vec<u8>, &'static str) {
        match self {
            Self::Plain => (layer.to_vec(), "application/vnd.oci.image.layer.v1.tar"),
            Self::Gzip => (gzip(layer), "application/vnd.oci.image.layer.v1.tar+gzip"),
            Self::Zstd => (zstd(layer), "application/vnd.oci.image.layer.v1.tar+zstd"),
        }
    }
}

/// The files of a source, by their paths in it.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

pub(super) fn add_blob(files: &mut Files, content: &[u8]) -> Digest {
    let digest = Digest::of(content);
    files.insert(format!("blobs/sha256/{}", digest.hex()), content.to_vec());
    digest
}

pub(super) fn config(layers: &[Vec<u8>], architecture: &str) -> String {
    let ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": { "Env": ["A=b"], "Cmd": ["sh"], "User": "1000", "WorkingDir": "/work" },
        "rootfs": { "type": "layers", "diff_ids": ids },
    })
    .to_string()
}

/// The descriptor of a blob.
pub(super) fn descriptor(media_type: &str, content: &[u8]) -> serde_json::Value {
    serde_json::json!({
        "mediaType": media_type,
        "digest": Digest::of(content).to_string(),
        "size": content.len(),
    })
}

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// An image's manifest, with its blobs added to `files`.
pub(super) fn manifest(files: &mut Files, layers: &[Vec<u8>], stored: Stored) -> Vec<u8> {
    let config = config(layers, platform::architecture());
    add_blob(files, config.as_bytes());
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            let (blob, media_type) = stored.encode(layer);
            add_blob(files, &blob);
            descriptor(media_type, &blob)
        })
        .collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, config.as_bytes()),
        "layers": layers,
    });
    manifest.to_string().into_bytes()
}

/// An image layout that holds the given manifests.
pub(super) fn index(files: &mut Files, manifests: &[serde_json::Value]) {
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": manifests,
    });
    files.insert("index.json".to_owned(), index.to_string().into_bytes());
    files.insert("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
}

/// A whole image layout of one image.
pub(super) fn layout(layers: &[Vec<u8>], stored: Stored) -> Files {
    let mut files = Files::new();
    let manifest = manifest(&mut files, layers, stored);
    add_blob(&mut files, &manifest);
    index(&mut files, &[descriptor(MANIFEST, &manifest)]);
    files
}

/// A `docker save` archive's files.
pub(super) fn docker(layers: &[Vec<u8>]) -> Files {
    let mut files = Files::new();
    let config = config(layers, platform::architecture());
    let name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let mut members = Vec::new();
    for layer in layers {
        let member = format!("{}/layer.tar", Digest::of(layer).hex());
        files.insert(member.clone(), layer.clone());
        members.push(member);
    }
    let manifest =
        serde_json::json!([{ "Config": name, "RepoTags": ["app:v1"], "Layers": members }]);
    files.insert(name, config.into_bytes());
    files.insert("manifest.json".to_owned(), manifest.to_string().into_bytes());
    files
}

/// The files as one tar archive.
pub(super) fn pack(files: &Files) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A store of its own, and room for sources beside it.
pub(super) struct Bench {
    directory: tempfile::TempDir,
    pub(super) store: Store,
}

impl Bench {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("state")).unwrap();
        Self { directory, store }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a source file.
    pub(super) fn source(&self, content: &[u8]) -> PathBuf {
        let path = self.path("source");
        fs::write(&path, content).unwrap();
        path
    }

    /// Writes a source directory.
    pub(super) fn source_directory(&self, files: &Files) -> PathBuf {
        let path = self.path("layout");
        if path.exists() {
            fs::remove_dir_all(&path).unwrap();
        }
        for (name, content) in files {
            let path = path.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        path
    }

    pub(super) fn import(&self, path: &Path) -> Result<Image> {
        self.import_with(path, &ImportOptions::default())
    }

    pub(super) fn import_with(&self, path: &Path, options: &ImportOptions) -> Result<Image> {
        self.store.import(path, &name("test/image:v1"), options, &|_| ControlFlow::Continue(()))
    }

    /// Checks that nothing but whole, published things is in the store.
    pub(super) fn assert_whole(&self) {
        for directory in ["tmp", "locks"] {
            let left: Vec<_> = fs::read_dir(self.store.path().join(directory))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            assert!(left.is_empty(), "left behind: {left:?}");
        }
    }
}

/// The host's disk, however full, does not matter.
pub(super) fn at_most(bytes: u64) -> Keep {
    Keep { bytes, free: 0, used_within: Duration::ZERO }
}

/// Sweeps until only so many layers are in use, and returns how many went: a process that another
/// test is just starting has a copy of every lock until it runs its program.
#[track_caller]
pub(super) fn sweep_down_to(bench: &Bench, in_use: usize) -> usize {
    let mut layers = 0;
    for _ in 0..1000 {
        let swept = bench.store.collect(at_most(u64::MAX), false).unwrap().swept;
        layers += swept.layers;
        if swept.layers_in_use <= in_use {
            return layers;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("more than {in_use} layers stay in use");
}

pub(super) fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

/// The whole error, with its sources.
pub(super) fn message(error: &crate::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// The ids of a file. Who is not root can give no file away, so there all are shown as root's.
fn shown_ids(metadata: &fs::Metadata) -> (u32, u32) {
    match nix::unistd::geteuid().is_root() {
        true => (metadata.uid(), metadata.gid()),
        false => (0, 0),
    }
}

/// A listing as it must be: as given for root, and with root's ids for anyone else.
pub(super) fn owned(listing: &str) -> String {
    if nix::unistd::geteuid().is_root() {
        return listing.to_owned();
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let word = |word: &str| {
        let (text, end) = word.split_at(word.trim_end().len());
        match text.split_once(':') {
            Some((uid, gid)) if is_number(uid) && is_number(gid) => format!("0:0{end}"),
            _ => word.to_owned(),
        }
    };
    listing.split_inclusive([' ', '\n']).map(word).collect()
}

/// A tree as text: one line for each entry, sorted, with what matters of it.
pub(super) fn listing(root: &Path) -> String {
    let mut lines = Vec::new();
    list(root, root, &mut lines);
    lines.sort();
    lines.join("\n")
}

fn list(root: &Path, path: &Path, lines: &mut Vec<String>) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let kind = metadata.file_type();
        let mode = metadata.mode() & 0o7777;
        let (uid, gid) = shown_ids(&metadata);
        let line = if kind.is_symlink() {
            format!("{name} -> {}", fs::read_link(&path).unwrap().display())
        } else if kind.is_char_device() && metadata.rdev() == 0 {
            format!("{name} whiteout")
        } else if kind.is_dir() {
            list(root, &path, lines);
            let opaque = if is_opaque(&path) { " opaque" } else { "" };
            format!("{name}/ {mode:o} {uid}:{gid}{opaque}")
        } else if kind.is_file() {
            let content = fs::read(&path).unwrap();
            let content = String::from_utf8_lossy(&content[..content.len().min(40)]).into_owned();
            let links = metadata.nlink();
            let links = if links > 1 { format!(" links={links}") } else { String::new() };
            format!("{name} {mode:o} {uid}:{gid}{links} {content:?}")
        } else {
            format!("{name} {kind:?} {mode:o}")
        };
        lines.push(line);
    }
}

pub(super) fn attribute(path: &Path, name: &std::ffi::CStr) -> Option<Vec<u8>> {
    use std::os::fd::AsFd as _;
    let file = fs::File::open(path).unwrap();
    crate::sys::beneath::attribute(file.as_fd(), name).unwrap()
}

fn is_opaque(path: &Path) -> bool {
    attribute(path, c"user.overlay.opaque").is_some()
}
