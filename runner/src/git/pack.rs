//! Tag objects in packs (gitformat-pack(5)): where an index says that one is, whole or as what
//! changed from another.

use std::{fs::File, os::unix::fs::FileExt as _};

use super::{
    object::{Id, TAG_MAX, inflated},
    repository::Repository,
};

/// The most packs that are looked at.
const PACKS_MAX: usize = 4096;
/// How long a chain of changes may be; git's own bound.
const CHAIN_MAX: usize = 4095;
/// Where the table of first bytes begins in an index of version 2, and what follows it.
const FANOUT: u64 = 8;
const NAMES: u64 = FANOUT + 256 * 4;
/// What an index of version 2 begins with.
const MAGIC: [u8; 8] = [0xff, b't', b'O', b'c', 0, 0, 0, 2];
/// Types of entries.
const TAG: u8 = 4;
const OFFSET_DELTA: u8 = 6;
const REFERENCE_DELTA: u8 = 7;

/// The content of a tag object that is in a pack.
pub(super) fn tag(repository: &Repository, id: &Id) -> Option<Vec<u8>> {
    let directory = repository.common.below("objects/pack").ok()?;
    let names = directory.entries(".", PACKS_MAX).ok()?;
    names.iter().filter_map(|(name, _)| name.strip_suffix(".idx")).find_map(|name| {
        let index = directory.file(&format!("{name}.idx")).ok()?;
        let offset = offset_of(&index, id)?;
        let pack = Pack { file: directory.file(&format!("{name}.pack")).ok()?, index };
        pack.tag(offset, id.to_bytes().len())
    })
}

/// Where the entry of an object begins in the pack of this index.
fn offset_of(index: &File, id: &Id) -> Option<u64> {
    if bytes::<8>(index, 0)? != MAGIC {
        return None;
    }
    let name = id.to_bytes();
    let width = u64::try_from(name.len()).ok()?;
    let first = u64::from(*name.first()?);
    let fanout =
        |at: u64| bytes(index, FANOUT + 4 * at).map(|it| u64::from(u32::from_be_bytes(it)));
    let all = fanout(255)?;
    let mut low = if first == 0 { 0 } else { fanout(first - 1)? };
    let mut high = fanout(first)?.min(all);
    let mut own = vec![0; name.len()];
    while low < high {
        let middle = low.midpoint(high);
        index.read_exact_at(&mut own, NAMES + width * middle).ok()?;
        match own.cmp(&name) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => {
                let offsets = NAMES + (width + 4) * all;
                let offset = u32::from_be_bytes(bytes(index, offsets + 4 * middle)?);
                if offset & 0x8000_0000 == 0 {
                    return Some(u64::from(offset));
                }
                // Packs over 2 GiB have a second table.
                let long = u64::from(offset & 0x7fff_ffff);
                return bytes(index, offsets + 4 * all + 8 * long).map(u64::from_be_bytes);
            }
        }
    }
    None
}

fn bytes<const N: usize>(file: &File, at: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, at).ok()?;
    Some(bytes)
}

struct Pack {
    file: File,
    index: File,
}

/// The beginning of an entry.
struct Entry {
    kind: u8,
    size: u64,
    /// Where its own data begin.
    data: u64,
}

impl Pack {
    /// The content of the entry at `offset`, if it is a tag. `width` is the length of names.
    fn tag(&self, offset: u64, width: usize) -> Option<Vec<u8>> {
        let mut changes = Vec::new();
        let mut at = offset;
        for _ in 0..CHAIN_MAX {
            let entry = self.entry(at)?;
            if entry.size > TAG_MAX {
                return None;
            }
            match entry.kind {
                TAG => {
                    let whole = self.inflated(entry.data, entry.size)?;
                    return changes.iter().rev().try_fold(whole, |base, (data, size)| {
                        apply(&base, &self.inflated(*data, *size)?)
                    });
                }
                OFFSET_DELTA => {
                    let (back, length) = self.distance(entry.data)?;
                    changes.push((entry.data + length, entry.size));
                    at = at.checked_sub(back).filter(|base| *base < at)?;
                }
                REFERENCE_DELTA => {
                    let mut name = vec![0; width];
                    self.file.read_exact_at(&mut name, entry.data).ok()?;
                    changes.push((entry.data + width as u64, entry.size));
                    at = offset_of(&self.index, &Id::from_bytes(&name)?)?;
                }
                _ => return None,
            }
        }
        None
    }

    fn entry(&self, at: u64) -> Option<Entry> {
        let [first] = bytes(&self.file, at)?;
        let mut size = u64::from(first & 15);
        let (mut data, mut shift, mut last) = (at + 1, 4, first);
        while last & 0x80 != 0 {
            [last] = bytes(&self.file, data)?;
            size |= u64::from(last & 0x7f).checked_shl(shift).filter(|_| shift < 57)?;
            data += 1;
            shift += 7;
        }
        Some(Entry { kind: (first >> 4) & 7, size, data })
    }

    /// How far before an entry its base begins, and how many bytes say so.
    fn distance(&self, at: u64) -> Option<(u64, u64)> {
        let mut distance: u64 = 0;
        for length in 1..=9 {
            let [byte] = bytes(&self.file, at + length - 1)?;
            distance = (distance << 7) | u64::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Some((distance, length));
            }
            distance += 1;
        }
        None
    }

    fn inflated(&self, at: u64, size: u64) -> Option<Vec<u8>> {
        let whole = inflated(Tail { file: &self.file, at }, size)?;
        (whole.len() as u64 == size).then_some(whole)
    }
}

/// A file, read from a place on.
struct Tail<'a> {
    file: &'a File,
    at: u64,
}

impl std::io::Read for Tail<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// What becomes of `base` by a delta; [`None`] where that is damaged or too large.
fn apply(base: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    let mut rest = delta.iter().copied();
    let mut size = || {
        let (mut size, mut shift) = (0_u64, 0);
        loop {
            let byte = rest.next()?;
            size |= u64::from(byte & 0x7f).checked_shl(shift).filter(|_| shift < 57)?;
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(size);
            }
        }
    };
    let (source, target) = (size()?, size()?);
    if source != base.len() as u64 || target > TAG_MAX {
        return None;
    }
    let mut made = Vec::new();
    while let Some(command) = rest.next() {
        if command & 0x80 == 0 {
            let new: Vec<u8> = rest.by_ref().take(command.into()).collect();
            if new.len() != usize::from(command) || new.is_empty() {
                return None;
            }
            made.extend(new);
        } else {
            let mut number = |bits: std::ops::Range<u8>| {
                let mut number = 0_usize;
                for (place, bit) in bits.enumerate() {
                    if command & (1 << bit) != 0 {
                        number |= usize::from(rest.next()?) << (8 * place);
                    }
                }
                Some(number)
            };
            let (offset, length) = (number(0..4)?, number(4..7)?);
            let length = if length == 0 { 0x1_0000 } else { length };
            made.extend_from_slice(base.get(offset..offset.checked_add(length)?)?);
        }
        if made.len() as u64 > target {
            return None;
        }
    }
    (made.len() as u64 == target).then_some(made)
}
