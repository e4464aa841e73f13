//! The files of a source: members of a directory or of a tar archive, opened by exact name.
//!
//! A tar archive is never extracted: its members are indexed, and read where they lie. A
//! compressed one is decompressed to an unnamed file first, for it cannot be read from the middle.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Seek as _, SeekFrom, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{FileExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::fcntl::OFlag;

use super::{
    Origin,
    index::{Member, Shape, index},
};
use crate::{
    Error, Result,
    error::Doing as _,
    image::{
        archive::Skip,
        compression::{Compressed, Compression, Decompressed},
        digest::{Algorithm, Digest, HashingReader},
        limits::{Budget, ImportLimits},
        problem::{Problem, shown},
    },
    sys::beneath::open_beneath,
};

/// What a path turned out to be.
#[derive(Debug)]
pub(crate) enum Source {
    /// An OCI image layout (OCI image specification, "Image Layout").
    Layout(Files),
    /// What `docker save` writes.
    Docker(Files),
    /// A root file system; the archive is read from its start.
    Rootfs(File),
}

/// Files that can be opened by name, any number of times and from any thread.
#[derive(Debug)]
pub(crate) struct Files {
    path: PathBuf,
    /// Bytes that a JSON document may have.
    document_limit: u64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Directory(OwnedFd),
    Archive { file: Arc<File>, members: HashMap<String, Member> },
}

/// One file, or the part of an archive that holds it.
#[derive(Debug)]
pub(crate) struct FileReader {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(buffer.get_mut(..wanted).unwrap_or_default(), self.offset)?;
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

impl Source {
    /// Looks at `path` and tells what it is. `scratch` is where a large temporary file may go.
    pub(crate) fn open(path: &Path, scratch: &Path, limits: &ImportLimits) -> Result<Self> {
        let doing = || format!("open the image source `{}`", path.display());
        // Opening a FIFO must not wait for a writer.
        let flags = OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits())
            .open(path)
            .pipeline(doing)
            .map_err(|error| error.remedy("check the path; it must be readable by this user"))?;
        let kind = file.metadata().system(doing)?.file_type();
        if kind.is_dir() {
            let place = Place::Directory(file.into());
            let document_limit = limits.document;
            let files = Files { path: path.to_owned(), document_limit, place };
            return match (files.has("oci-layout"), files.has("index.json")) {
                (true, true) => Ok(Self::Layout(files)),
                _ => Err(Error::pipeline(doing(), "the directory is no OCI image layout: it lacks `oci-layout` or `index.json`")
                    .remedy("give the directory that holds `index.json`, a `docker save` archive, or a tar archive of a root file system")),
            };
        }
        if !kind.is_file() {
            return Err(Error::pipeline(doing(), "it is neither a file nor a directory"));
        }
        Self::archive(path, file, scratch, limits).map_err(|problem| problem.during(doing()))
    }

    fn archive(
        path: &Path,
        file: File,
        scratch: &Path,
        limits: &ImportLimits,
    ) -> Result<Self, Problem> {
        let mut start = [0; 4];
        let read = file.read_at(&mut start, 0)?;
        let compression = Compression::of(start.get(..read).unwrap_or_default());
        let index = match compression {
            Compression::None => index(SeekSkip::new(&file)?, limits)?,
            _ => index(decompress(&file, &Budget::new(limits))?, limits)?,
        };
        if index.shape == Shape::Rootfs {
            (&file).seek(SeekFrom::Start(0))?;
            return Ok(Self::Rootfs(file));
        }
        let file = match compression {
            Compression::None => file,
            // The index fits the decompressed bytes, so it serves for the copy as well.
            _ => spool(&file, scratch, limits)?,
        };
        let place = Place::Archive { file: Arc::new(file), members: index.members };
        let files = Files { path: path.to_owned(), document_limit: limits.document, place };
        Ok(if index.shape == Shape::Layout { Self::Layout(files) } else { Self::Docker(files) })
    }
}

fn decompress<'a>(
    file: &'a File,
    budget: &'a Budget<'a>,
) -> Result<Decompressed<'a, &'a File>, Problem> {
    let mut start = file;
    start.seek(SeekFrom::Start(0))?;
    let hashing = HashingReader::new(start, Algorithm::Sha256);
    Ok(Decompressed::new(Compressed::new(hashing)?, budget)?)
}

/// Decompresses a whole archive into a file without a name, which goes with its descriptor.
fn spool(file: &File, scratch: &Path, limits: &ImportLimits) -> Result<File, Problem> {
    let budget = Budget::new(limits);
    let mut input = decompress(file, &budget)?;
    let write = |error: io::Error| Problem::write(b"a decompressed copy", error);
    let mut copy = tempfile::tempfile_in(scratch).map_err(write)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = input.read(&mut buffer)?;
        if read == 0 {
            return Ok(copy);
        }
        copy.write_all(buffer.get(..read).unwrap_or_default()).map_err(write)?;
    }
}

/// A plain archive file, of which the data is passed over by seeking.
struct SeekSkip<'a> {
    file: &'a File,
    offset: u64,
    size: u64,
}

impl<'a> SeekSkip<'a> {
    fn new(file: &'a File) -> io::Result<Self> {
        Ok(Self { file, offset: 0, size: file.metadata()?.len() })
    }
}

impl Read for SeekSkip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

impl Skip for SeekSkip<'_> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        match self.offset.checked_add(count) {
            Some(next) if next <= self.size => {
                self.offset = next;
                Ok(())
            }
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Files {
    /// The path that the user gave, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn has(&self, name: &str) -> bool {
        self.open(name).is_ok()
    }

    /// Opens the file `name`; also tells its size.
    pub(crate) fn open(&self, name: &str) -> Result<(FileReader, u64)> {
        let doing = || format!("open `{}` in `{}`", shown(name.as_bytes()), self.path.display());
        match &self.place {
            Place::Directory(directory) => {
                let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
                let file = open_beneath(directory.as_fd(), name, flags).pipeline(doing)?;
                let file = File::from(file);
                let metadata = file.metadata().system(doing)?;
                if !metadata.is_file() {
                    return Err(Error::pipeline(doing(), "it is no plain file"));
                }
                let size = metadata.len();
                Ok((FileReader { file: Arc::new(file), offset: 0, left: size }, size))
            }
            Place::Archive { file, members } => {
                let mut member = members.get(name.strip_prefix("./").unwrap_or(name));
                // One link is all that the formats need; more could go round in circles.
                if let Some(Member::Link(target)) = member {
                    member = members.get(target);
                }
                match member {
                    Some(Member::File { offset, size }) => {
                        let file = Arc::clone(file);
                        Ok((FileReader { file, offset: *offset, left: *size }, *size))
                    }
                    _ => Err(Error::pipeline(doing(), "the archive does not hold it")),
                }
            }
        }
    }

    /// Reads a whole JSON document.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>> {
        let doing = || format!("read `{}` in `{}`", shown(name.as_bytes()), self.path.display());
        let (reader, size) = self.open(name)?;
        let limit = self.document_limit;
        if size > limit {
            return Err(Error::pipeline(
                doing(),
                format!("it has {size} bytes, {limit} are allowed"),
            ));
        }
        let mut document = Vec::new();
        reader.take(limit).read_to_end(&mut document).system(doing)?;
        Ok(document)
    }
}

impl Origin for Files {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn manifest(&self, digest: &Digest, size: u64) -> Result<Vec<u8>> {
        self.document(digest, size)
    }

    fn document(&self, digest: &Digest, _size: u64) -> Result<Vec<u8>> {
        self.read(&blob_name(digest))
    }

    fn layer(&self, digest: &Digest, _size: u64) -> Result<Box<dyn Read + Send + '_>> {
        let (reader, _) = self.open(&blob_name(digest))?;
        Ok(Box::new(reader))
    }
}

/// Where an image layout keeps the blob with this digest.
pub(crate) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}
