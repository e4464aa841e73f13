//! How a layer's archive is made again from its files, byte for byte.
//!
//! The files of a layer are kept, its archive is not: it would take as much again. What the files
//! do not tell (headers, their order, padding, what was left out on purpose) is written down while
//! the archive is unpacked, compressed, beside the files. It is less than a thousandth of the archive.
//!
//! ```text
//! 0  length  bytes                          bytes of the archive that stand in no file
//! 1  length  path  count  (offset length)…  bytes that stand in a file of the layer
//! ```
//!
//! Numbers are 64-bit, little-endian. A file that a later entry of the same layer replaced is kept
//! apart, in `replaced`, and named by where that was.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write as _},
    path::Path,
};

use crate::image::{archive::EntryPath, limits::ImportLimits};

/// The recipe beside a layer's files.
pub(crate) const RECIPE: &str = "archive.zst";
/// Files that are in the archive and no longer in the layer.
pub(crate) const REPLACED: &str = "replaced";
/// Which of them were where.
pub(crate) const REPLACED_NAMES: &str = "replaced.names";

/// Fast: the recipe is written while everything else waits for it.
const LEVEL: i32 = 1;
/// Bytes that are collected before they become one piece.
const PIECE: usize = 64 * 1024;

/// A recipe being written.
pub(crate) struct Recorder {
    output: zstd::stream::write::Encoder<'static, BufWriter<File>>,
    bytes: Vec<u8>,
    files: u64,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Recorder {
    /// Begins the recipe of the layer that is being made in `layer`.
    pub(crate) fn create(layer: &Path) -> io::Result<Self> {
        let file = BufWriter::new(File::create_new(layer.join(RECIPE))?);
        let output = zstd::stream::write::Encoder::new(file, LEVEL)?;
        Ok(Self { output, bytes: Vec::new(), files: 0 })
    }

    /// Adds bytes that stand in no file.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    /// Adds the parts of a file that the archive holds.
    pub(crate) fn file(&mut self, path: &EntryPath, pieces: &[(u64, u64)]) -> io::Result<()> {
        self.flush()?;
        self.files += 1;
        self.output.write_all(&[1])?;
        self.number(path.as_bytes().len() as u64)?;
        self.output.write_all(path.as_bytes())?;
        self.number(pieces.len() as u64)?;
        for (offset, length) in pieces {
            self.number(*offset)?;
            self.number(*length)?;
        }
        Ok(())
    }

    /// How many files were added: what is replaced now was one of them.
    pub(crate) fn files(&self) -> u64 {
        self.files
    }

    /// Ends the recipe.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.output.finish()?.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        self.output.write_all(&[0])?;
        self.number(self.bytes.len() as u64)?;
        self.output.write_all(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }

    fn number(&mut self, number: u64) -> io::Result<()> {
        self.output.write_all(&number.to_le_bytes())
    }
}

/// One piece of an archive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Bytes(Vec<u8>),
    File { path: EntryPath, pieces: Vec<(u64, u64)> },
}

/// A recipe being read.
pub(crate) struct Recipe<R: Read> {
    input: BufReader<zstd::stream::read::Decoder<'static, BufReader<R>>>,
    limits: ImportLimits,
}

impl<R: Read> Recipe<R> {
    pub(crate) fn new(input: R) -> io::Result<Self> {
        let input = BufReader::new(zstd::stream::read::Decoder::new(input)?);
        Ok(Self { input, limits: ImportLimits::default() })
    }

    /// The next piece; `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Piece>> {
        let mut kind = [0];
        if self.input.read(&mut kind)? == 0 {
            return Ok(None);
        }
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "the recipe is malformed");
        let piece = match kind {
            [0] => Piece::Bytes(self.text(PIECE as u64 * 64)?),
            [1] => {
                let path = self.text(self.limits.path as u64)?;
                let path = EntryPath::parse(&path, &self.limits).map_err(|_| malformed())?;
                let count = self.number()?;
                let pieces = (0..count).map(|_| Ok((self.number()?, self.number()?)));
                Piece::File { path, pieces: pieces.collect::<io::Result<_>>()? }
            }
            _ => return Err(malformed()),
        };
        Ok(Some(piece))
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.input.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn text(&mut self, most: u64) -> io::Result<Vec<u8>> {
        let length = self.number()?;
        if length > most {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a piece is too long"));
        }
        let mut text = Vec::new();
        (&mut self.input).take(length).read_to_end(&mut text)?;
        if text.len() as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(text)
    }
}
