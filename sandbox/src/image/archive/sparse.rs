//! Sparse files: GNU's old header chain and the three PAX forms, 0.0, 0.1 and 1.0.
//!
//! A map lists where the data lies. It must be sorted, free of overlap, inside the file, and add
//! up to the bytes that the archive holds; everything else is damage.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use nix::{
    errno::Errno,
    unistd::{Whence, lseek},
};

use super::{number, pax::decimal};

/// How many pieces one sparse file may have; the largest seen in practice have a few thousand.
const PIECES: usize = 1 << 16;

/// Where the data of a sparse file lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SparseMap {
    /// The size of the file with its holes.
    pub(crate) size: u64,
    /// Offset and length of each piece, ascending.
    pub(crate) pieces: Vec<(u64, u64)>,
}

impl SparseMap {
    /// Checks the pieces against the file's size and the bytes that the archive holds for it.
    pub(crate) fn new(size: u64, pieces: Vec<(u64, u64)>, stored: u64) -> Result<Self, String> {
        let mut end = 0_u64;
        let mut total = 0_u64;
        for (offset, length) in &pieces {
            let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= size);
            end = next.ok_or("the map of a sparse file overlaps or leaves it")?;
            total = total.saturating_add(*length);
        }
        if total != stored {
            return Err(format!("a sparse file maps {total} bytes and holds {stored}"));
        }
        Ok(Self { size, pieces })
    }
}

/// Adds the pieces of a GNU sparse header or of one of its extension blocks: pairs of 12-byte
/// fields, of which the first blank one ends the list.
pub(super) fn add_gnu(fields: &[u8], pieces: &mut Vec<(u64, u64)>) -> Result<(), String> {
    let (pairs, _rest) = fields.as_chunks::<24>();
    for pair in pairs {
        let (offset, length) = pair.split_at(12);
        if offset.first() == Some(&0) || length.first() == Some(&0) {
            return Ok(());
        }
        match (number::unsigned(offset), number::unsigned(length)) {
            (Some(offset), Some(length)) if pieces.len() < PIECES => pieces.push((offset, length)),
            _ => return Err("the map of a sparse file is malformed or too long".to_owned()),
        }
    }
    Ok(())
}

/// The `GNU.sparse.*` records of one extended header.
#[derive(Debug, Default)]
pub(crate) struct PaxSparse {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) pieces: Vec<(u64, u64)>,
    offset: Option<u64>,
}

impl PaxSparse {
    pub(super) fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let too_long = || "the map of a sparse file is too long".to_owned();
        match key {
            b"major" => self.major = Some(decimal("GNU.sparse.major", value)?),
            b"minor" => self.minor = Some(decimal("GNU.sparse.minor", value)?),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(decimal("GNU.sparse.size", value)?),
            b"numblocks" => {}
            b"offset" => self.offset = Some(decimal("GNU.sparse.offset", value)?),
            b"numbytes" => {
                let offset = self.offset.take().ok_or("`GNU.sparse.numbytes` has no offset")?;
                if self.pieces.len() >= PIECES {
                    return Err(too_long());
                }
                self.pieces.push((offset, decimal("GNU.sparse.numbytes", value)?));
            }
            b"map" => {
                let mut numbers = value.split(|byte| *byte == b',');
                self.pieces.clear();
                while let Some(offset) = numbers.next() {
                    let length = numbers.next().ok_or("`GNU.sparse.map` has an odd length")?;
                    if self.pieces.len() >= PIECES {
                        return Err(too_long());
                    }
                    let offset = decimal("GNU.sparse.map", offset)?;
                    self.pieces.push((offset, decimal("GNU.sparse.map", length)?));
                }
            }
            _ => return Err(format!("`GNU.sparse.{}` is unknown", key.escape_ascii())),
        }
        Ok(())
    }

    /// Whether any record was seen.
    pub(super) fn is_some(&self) -> bool {
        self.major.is_some() || self.size.is_some() || !self.pieces.is_empty()
    }

    /// Whether the map stands before the data (form 1.0).
    pub(super) fn map_in_data(&self) -> Result<bool, String> {
        match (self.major, self.minor) {
            (Some(1), Some(0)) => Ok(true),
            (None, None) | (Some(0), Some(0 | 1)) => Ok(false),
            _ => Err("this form of sparse file is unknown".to_owned()),
        }
    }
}

/// Reads the map that stands before the data in form 1.0: decimal numbers, one a line, the count
/// of pieces first, padded to whole blocks. `next_block` yields those blocks.
pub(super) fn read_map(
    mut next_block: impl FnMut() -> Result<[u8; 512], super::super::problem::Problem>,
    bad: impl Fn(&str) -> super::super::problem::Problem,
) -> Result<Vec<(u64, u64)>, super::super::problem::Problem> {
    let malformed = || bad("the map of a sparse file is malformed or too long");
    let mut block = next_block()?.into_iter();
    let mut number = || {
        let mut value = None::<u64>;
        loop {
            let Some(byte) = block.next() else {
                block = next_block()?.into_iter();
                continue;
            };
            if byte == b'\n' {
                return value.ok_or_else(malformed);
            }
            let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10).ok_or_else(malformed)?;
            let next = value.unwrap_or(0).checked_mul(10);
            value = next.and_then(|value| value.checked_add(u64::from(digit)));
            if value.is_none() {
                return Err(malformed());
            }
        }
    };
    let count = number()?;
    let count =
        usize::try_from(count).ok().filter(|count| *count <= PIECES).ok_or_else(malformed)?;
    let mut pieces = Vec::new();
    for _ in 0..count {
        pieces.push((number()?, number()?));
    }
    Ok(pieces)
}
/// Holes are told in units of so many bytes, so that where they are depends on what a file holds and
/// not on how its file system keeps it.
const UNIT: u64 = 64 * 1024;
/// Holes of less than that in all are written as zeros.
const WORTHWHILE: u64 = 1024 * 1024;
/// The most pieces that are written; a file with more is written whole.
const PIECES_WRITTEN: usize = 1 << 14;

/// Where `file` of `size` bytes holds anything but zeros, and its end; [`None`] where it has too few
/// holes for that to matter, or too many.
pub(super) fn pieces(file: &File, size: u64) -> io::Result<Option<Vec<(u64, u64)>>> {
    let mut pieces: Vec<(u64, u64)> = Vec::new();
    let mut unit = vec![0; usize::try_from(UNIT).unwrap_or_default()];
    let (mut at, mut held) = (0, 0);
    while at < size {
        let from = i64::try_from(at).unwrap_or(i64::MAX);
        match lseek(file, from, Whence::SeekData) {
            // There is nothing but a hole from here on.
            Err(Errno::ENXIO) => break,
            // A file system that knows no holes has none.
            Err(Errno::EINVAL) => {}
            found => at = found?.cast_unsigned() / UNIT * UNIT,
        }
        let length = UNIT.min(size.saturating_sub(at));
        let bytes = unit.get_mut(..usize::try_from(length).unwrap_or_default());
        let bytes = bytes.unwrap_or_default();
        file.read_exact_at(bytes, at)?;
        if bytes.iter().any(|byte| *byte != 0) {
            held += length;
            match pieces.last_mut() {
                Some((offset, before)) if *offset + *before == at => *before += length,
                _ => pieces.push((at, length)),
            }
            if pieces.len() > PIECES_WRITTEN {
                return Ok(None);
            }
        }
        at += UNIT;
    }
    if size.saturating_sub(held) < WORTHWHILE {
        return Ok(None);
    }
    // The last piece ends where the file does, as GNU tar has it.
    pieces.push((size, 0));
    Ok(Some(pieces))
}
