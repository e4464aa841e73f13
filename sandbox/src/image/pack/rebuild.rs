//! A layer's archive, made again from its recipe and its files, and checked against its diff id.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _},
    path::Path,
};

use nix::fcntl::OFlag;

use super::recipe::{Piece, RECIPE, REPLACED, REPLACED_NAMES, Recipe};
use crate::{
    Error, Result,
    error::Doing as _,
    image::{
        archive::EntryPath,
        digest::Hasher,
        store::{LayerDir, LayerKey, LayerUse},
    },
    sys::beneath::open_beneath,
};

impl LayerDir {
    /// Writes the layer's archive, uncompressed, as it came.
    ///
    /// # Errors
    /// Where the layer is one of this host's own, was taken in by a version that wrote no recipe,
    /// or is no longer what it was.
    pub fn write_archive(&self, output: &mut dyn Write) -> Result<()> {
        let doing = || format!("make the archive of the layer `{}`", self.diff_id);
        let layer = self.path.parent().unwrap_or(&self.path);
        let recipe = match File::open(layer.join(RECIPE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_of_this_host(self) => {
                let why = "it is of this host's own files, which are not given away";
                return Err(Error::pipeline(doing(), why)
                    .remedy("make the image from another one than `host`"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::system(doing(), "the store does not know how it was made")
                    .remedy("remove the image, and pull or import it again"));
            }
            other => other.system(doing)?,
        };
        let mut hashed = Hashed { output, hasher: Hasher::new(self.diff_id.algorithm()) };
        let mut rebuild = Rebuild::new(self, layer, &mut hashed).system(doing)?;
        rebuild.run(Recipe::new(recipe).system(doing)?).system(doing)?;
        let found = hashed.hasher.finish();
        if found != self.diff_id {
            let why = format!("its files changed: they are `{found}` now");
            return Err(
                Error::system(doing(), why).remedy("remove the image, and pull or import it again")
            );
        }
        Ok(())
    }
}

/// Whether a layer is one of this host's own files.
fn is_of_this_host(layer: &LayerDir) -> bool {
    let key = LayerKey::parse(&LayerUse::of(layer).layer);
    matches!(key, Some(LayerKey::Host(_)))
}

struct Hashed<'a> {
    output: &'a mut dyn Write,
    hasher: Hasher,
}

impl Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.output.write_all(bytes)
    }
}

struct Rebuild<'a, 'b> {
    layer: &'a LayerDir,
    replaced: Option<File>,
    names: Vec<(Vec<u8>, u64)>,
    output: &'a mut Hashed<'b>,
    buffer: Vec<u8>,
    /// Files that came so far.
    files: u64,
}

impl<'a, 'b> Rebuild<'a, 'b> {
    fn new(layer: &'a LayerDir, path: &Path, output: &'a mut Hashed<'b>) -> io::Result<Self> {
        let names = match fs::read(path.join(REPLACED_NAMES)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => postcard::from_bytes(&other?).map_err(io::Error::other)?,
        };
        let replaced = match names.is_empty() {
            true => None,
            false => Some(File::open(path.join(REPLACED))?),
        };
        Ok(Self { layer, replaced, names, output, buffer: vec![0; 256 * 1024], files: 0 })
    }

    fn run(&mut self, mut recipe: Recipe<File>) -> io::Result<()> {
        while let Some(piece) = recipe.next()? {
            match piece {
                Piece::Bytes(bytes) => self.output.write(&bytes)?,
                Piece::File { path, pieces } => {
                    self.files += 1;
                    let mut file = self.open(&path)?;
                    for (offset, length) in pieces {
                        self.copy(&mut file, offset, length)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Opens the file that the archive has at `path`: where it is now, or where it was put when a
    /// later entry took its place, or that of a directory above it.
    fn open(&self, path: &EntryPath) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
        let path = path.as_bytes();
        let moved = self.names.iter().enumerate().find_map(|(number, (replaced, before))| {
            let rest = path.strip_prefix(replaced.as_slice())?;
            let within = rest.is_empty() || rest.starts_with(b"/");
            (within && self.files <= *before).then_some((number, rest))
        });
        let file = match (moved, &self.replaced) {
            (Some((number, rest)), Some(replaced)) => {
                let mut name = number.to_string().into_bytes();
                name.extend_from_slice(rest);
                open_beneath(replaced.as_fd(), OsStr::from_bytes(&name), flags)?
            }
            _ => open_beneath(self.layer.as_fd(), OsStr::from_bytes(path), flags)?,
        };
        Ok(File::from(file))
    }

    fn copy(&mut self, file: &mut File, offset: u64, length: u64) -> io::Result<()> {
        file.seek(SeekFrom::Start(offset))?;
        let mut left = length;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let read = file.read(self.buffer.get_mut(..wanted).unwrap_or_default())?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.output.write(self.buffer.get(..read).unwrap_or_default())?;
            left -= read as u64;
        }
        Ok(())
    }
}
