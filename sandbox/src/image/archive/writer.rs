//! Writing layers as tar archives that come out the same for the same files.
//!
//! POSIX headers (ustar), with PAX records for what does not fit them: both are read by every
//! tool that takes images. Times are whole seconds and never later than one moment that the caller
//! gives, which is what `SOURCE_DATE_EPOCH` means to other tools: files that a build has made have
//! the time at which they happened to be made, and nothing else of an archive depends on when it
//! was written.

use std::{
    borrow::Cow,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom, Write},
};

use tar::{EntryType, Header};

use super::sparse;
use crate::image::{limits::ImportLimits, problem::Problem};

/// What a name of at most so many bytes needs no PAX record for.
const NAME: usize = 100;
/// The largest id that fits a header: seven octal digits.
const ID: u32 = 0o7_777_777;
/// The largest size that fits a header: eleven octal digits.
const SIZE: u64 = 0o77_777_777_777;
const BLOCK: u64 = 512;
/// Prefix of OCI whiteouts, and the name that makes a directory opaque.
pub(crate) const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The full name of an extended attribute, and its value.
pub(crate) type ExtendedAttribute = (Vec<u8>, Vec<u8>);

/// Owner, permissions, time and attributes of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Permission bits with set-user-id, set-group-id and sticky.
    pub(crate) mode: u32,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
    /// Sorted.
    pub(crate) attributes: Vec<ExtendedAttribute>,
}

/// An archive in the making.
pub(crate) struct Writer<'a> {
    output: &'a mut dyn Write,
    /// The latest time that an entry may have.
    moment: i64,
    limits: &'a ImportLimits,
    buffer: Vec<u8>,
    entries: u64,
}

impl std::fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("entries", &self.entries).finish_non_exhaustive()
    }
}

impl<'a> Writer<'a> {
    /// Begins an archive of which no entry is younger than `moment`, in seconds since 1970.
    pub(crate) fn new(output: &'a mut dyn Write, moment: u64, limits: &'a ImportLimits) -> Self {
        let moment = i64::try_from(moment).unwrap_or(i64::MAX);
        Self { output, moment, limits, buffer: vec![0; 256 * 1024], entries: 0 }
    }

    /// A directory; the root has an empty path.
    pub(crate) fn directory(&mut self, path: &[u8], described: &Described) -> Result<(), Problem> {
        let mut name = if path.is_empty() { b".".to_vec() } else { path.to_vec() };
        name.push(b'/');
        self.header(&name, EntryType::Directory, described, (0, &[]), Vec::new())
    }

    /// A regular file of `size` bytes, of which none changes while this goes on.
    pub(crate) fn file(
        &mut self,
        path: &[u8],
        described: &Described,
        file: &mut File,
        (size, is_sparse): (u64, bool),
    ) -> Result<(), Problem> {
        if is_sparse && let Some(pieces) = sparse::pieces(file, size).map_err(Problem::Read)? {
            return self.sparse_file(path, described, file, (size, &pieces));
        }
        self.header(path, EntryType::Regular, described, (size, &[]), Vec::new())?;
        self.data(path, file, &[(0, size)])?;
        self.pad(size)
    }

    /// A regular file that holds `content`.
    pub(crate) fn bytes(
        &mut self,
        path: &[u8],
        described: &Described,
        content: &[u8],
    ) -> Result<(), Problem> {
        let size = content.len() as u64;
        self.header(path, EntryType::Regular, described, (size, &[]), Vec::new())?;
        self.write(content)?;
        self.pad(size)
    }

    /// A file with holes, in the form that GNU tar calls 1.0: the map stands before the data.
    fn sparse_file(
        &mut self,
        path: &[u8],
        described: &Described,
        file: &mut File,
        (size, pieces): (u64, &[(u64, u64)]),
    ) -> Result<(), Problem> {
        let mut map = format!("{}\n", pieces.len());
        for (offset, length) in pieces {
            map.extend([offset.to_string(), "\n".into(), length.to_string(), "\n".into()]);
        }
        let data: u64 = pieces.iter().map(|(_, length)| length).sum();
        let map_size = (map.len() as u64).next_multiple_of(BLOCK);
        let records = vec![
            (b"GNU.sparse.major".to_vec(), b"1".to_vec()),
            (b"GNU.sparse.minor".to_vec(), b"0".to_vec()),
            (b"GNU.sparse.name".to_vec(), path.to_vec()),
            (b"GNU.sparse.realsize".to_vec(), size.to_string().into_bytes()),
        ];
        // For readers that know no sparse files: what they make of it does not take the name.
        let name = [b"GNUSparseFile.0/", path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)];
        let name = name.concat();
        self.header(&name, EntryType::Regular, described, (map_size + data, &[]), records)?;
        self.write(map.as_bytes())?;
        self.pad(map.len() as u64)?;
        self.data(path, file, pieces)?;
        self.pad(data)
    }

    /// A symbolic link to `target`.
    pub(crate) fn symbolic_link(
        &mut self,
        path: &[u8],
        described: &Described,
        target: &[u8],
    ) -> Result<(), Problem> {
        self.header(path, EntryType::Symlink, described, (0, target), Vec::new())
    }

    /// One more name for the entry `target` of this archive.
    pub(crate) fn hard_link(
        &mut self,
        path: &[u8],
        described: &Described,
        target: &[u8],
    ) -> Result<(), Problem> {
        self.header(path, EntryType::Link, described, (0, target), Vec::new())
    }

    /// A named pipe.
    pub(crate) fn fifo(&mut self, path: &[u8], described: &Described) -> Result<(), Problem> {
        self.header(path, EntryType::Fifo, described, (0, &[]), Vec::new())
    }

    /// Hides `name` of the layers below in the directory `above`.
    pub(crate) fn whiteout(&mut self, above: &[u8], name: &[u8]) -> Result<(), Problem> {
        let hidden = [WHITEOUT, name].concat();
        self.mark(above, &hidden)
    }

    /// Hides everything that the layers below have in the directory `path`.
    pub(crate) fn opaque(&mut self, path: &[u8]) -> Result<(), Problem> {
        self.mark(path, OPAQUE)
    }

    fn mark(&mut self, above: &[u8], name: &[u8]) -> Result<(), Problem> {
        let path = join(above, name);
        let described = Described { mtime: self.moment, ..Described::default() };
        self.header(&path, EntryType::Regular, &described, (0, &[]), Vec::new())
    }

    /// Ends the archive; how many entries it has.
    pub(crate) fn finish(self) -> Result<u64, Problem> {
        self.output.write_all(&[0; 1024]).map_err(Problem::Read)?;
        Ok(self.entries)
    }

    fn header(
        &mut self,
        name: &[u8],
        kind: EntryType,
        described: &Described,
        (size, link): (u64, &[u8]),
        mut records: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<(), Problem> {
        self.entries += 1;
        let mut header = Header::new_ustar();
        let mut record = |key: &str, value: Cow<'_, [u8]>| {
            records.push((key.as_bytes().to_vec(), value.into_owned()));
        };
        let decimal = |number: u64| Cow::Owned(number.to_string().into_bytes());
        if name.len() > NAME {
            record("path", name.into());
        }
        if link.len() > NAME {
            record("linkpath", link.into());
        }
        if size > SIZE {
            record("size", decimal(size));
        }
        for (key, id) in [("uid", described.uid), ("gid", described.gid)] {
            if id > ID {
                record(key, decimal(u64::from(id)));
            }
        }
        for (name, value) in &described.attributes {
            records.push(([b"SCHILY.xattr.".as_slice(), name].concat(), value.clone()));
        }
        self.extended(records)?;
        let fields = header.as_old_mut();
        put(&mut fields.name, name);
        put(&mut fields.linkname, link);
        header.set_entry_type(kind);
        header.set_mode(described.mode & 0o7777);
        header.set_uid(u64::from(described.uid.min(ID)));
        header.set_gid(u64::from(described.gid.min(ID)));
        header.set_size(if size > SIZE { 0 } else { size });
        header.set_mtime(described.mtime.min(self.moment).max(0).unsigned_abs());
        header.set_cksum();
        self.write(header.as_bytes())
    }

    /// The records before an entry; sorted, so that their order tells nothing.
    fn extended(&mut self, mut records: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), Problem> {
        if records.is_empty() {
            return Ok(());
        }
        records.sort_unstable();
        let mut text = Vec::new();
        for (key, value) in records {
            // The length counts its own digits.
            let rest = key.len() + value.len() + 3;
            let mut length = rest + rest.to_string().len();
            length = rest + length.to_string().len();
            text.extend_from_slice(length.to_string().as_bytes());
            text.push(b' ');
            text.extend_from_slice(&key);
            text.push(b'=');
            text.extend_from_slice(&value);
            text.push(b'\n');
            if text.len() as u64 > self.limits.extension {
                let limit = self.limits.extension;
                return Err(Problem::Limit { what: "bytes of attributes of one file", limit });
            }
        }
        let mut header = Header::new_ustar();
        put(&mut header.as_old_mut().name, b"././@PaxHeader");
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(text.len() as u64);
        header.set_cksum();
        self.write(header.as_bytes())?;
        self.write(&text)?;
        self.pad(text.len() as u64)
    }

    fn data(&mut self, path: &[u8], file: &mut File, pieces: &[(u64, u64)]) -> Result<(), Problem> {
        for (offset, length) in pieces {
            file.seek(SeekFrom::Start(*offset)).map_err(Problem::Read)?;
            let mut left = *length;
            while left > 0 {
                let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
                let buffer = self.buffer.get_mut(..wanted).unwrap_or_default();
                let read = file.read(buffer).map_err(Problem::Read)?;
                if read == 0 {
                    return Err(Problem::refused(path, "it became shorter while it was read"));
                }
                let read_bytes = self.buffer.get(..read).unwrap_or_default();
                self.output.write_all(read_bytes).map_err(Problem::Read)?;
                left -= read as u64;
            }
        }
        Ok(())
    }

    fn pad(&mut self, size: u64) -> Result<(), Problem> {
        let padding = size.next_multiple_of(BLOCK) - size;
        let zeros = [0; 512];
        self.write(zeros.get(..usize::try_from(padding).unwrap_or(0)).unwrap_or_default())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.output.write_all(bytes).map_err(Problem::Read)
    }
}

/// A path with one more component.
pub(crate) fn join(above: &[u8], name: &[u8]) -> Vec<u8> {
    match above {
        b"" => name.to_vec(),
        _ => [above, b"/", name].concat(),
    }
}

/// As much of `text` as fits.
fn put(field: &mut [u8; NAME], text: &[u8]) {
    for (to, from) in field.iter_mut().zip(text) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use std::{io, os::unix::fs::FileExt as _};

    use super::*;
    use crate::image::archive::{Archive, Entry, Kind, Skip};

    struct Bytes<'a>(&'a [u8]);

    impl io::Read for Bytes<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Skip for Bytes<'_> {}

    fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let limits = ImportLimits::default();
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, 1000, &limits);
        write(&mut writer);
        writer.finish().unwrap();
        bytes
    }

    fn entries(bytes: &[u8]) -> Vec<Entry> {
        let limits = ImportLimits::default();
        let mut archive = Archive::new(Bytes(bytes), &limits);
        std::iter::from_fn(|| archive.next().unwrap()).collect()
    }

    #[test]
    fn what_was_written_is_what_is_read() {
        let long = [b"deep/".as_slice(), &[b'x'; 200]].concat();
        let described = Described {
            uid: 70_000,
            gid: 3_000_000,
            mode: 0o4755,
            mtime: 5000,
            attributes: vec![(b"user.note".to_vec(), b"a\n=\0b".to_vec())],
        };
        let bytes = written(|writer| {
            writer.directory(b"", &Described::default()).unwrap();
            writer.directory(b"deep", &described).unwrap();
            writer.symbolic_link(&long, &described, &[b't'; 300]).unwrap();
            writer.hard_link(b"deep/\xff odd\n", &described, &long).unwrap();
            writer.fifo(b"deep/pipe", &described).unwrap();
            writer.whiteout(b"deep", b"gone").unwrap();
            writer.opaque(b"deep").unwrap();
        });
        let read = entries(&bytes);
        let paths: Vec<_> = read.iter().map(|entry| entry.path.as_bytes().to_vec()).collect();
        let expect: [&[u8]; 7] = [
            b"",
            b"deep",
            &long,
            b"deep/\xff odd\n",
            b"deep/pipe",
            b"deep/.wh.gone",
            b"deep/.wh..wh..opq",
        ];
        assert_eq!(paths, expect);
        let Entry { kind, mode, uid, gid, mtime, attributes, .. } = &read[2];
        assert_eq!(*kind, Kind::Symlink(vec![b't'; 300]));
        assert_eq!((*mode, *uid, *gid, *mtime), (0o4755, 70_000, 3_000_000, (1000, 0)));
        assert_eq!(*attributes, described.attributes);
        assert!(matches!(&read[3].kind, Kind::HardLink(target) if target.as_bytes() == long));
    }

    #[test]
    fn holes_are_told_by_content_alone() {
        const MIB: u64 = 1 << 20;
        let sparse = tempfile::tempfile().unwrap();
        sparse.set_len(9 * MIB).unwrap();
        sparse.write_all_at(b"data", 3 * MIB).unwrap();
        let (small, zeros) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        small.set_len(MIB / 2).unwrap();
        zeros.write_all_at(&vec![0; 9 << 20], 0).unwrap();
        zeros.write_all_at(b"data", 3 * MIB).unwrap();
        let archive = |file: &File, size| {
            let mut file = file.try_clone().unwrap();
            let described = Described::default();
            written(|writer| writer.file(b"f", &described, &mut file, (size, true)).unwrap())
        };
        let map = |bytes: &[u8]| {
            let read = entries(bytes);
            assert_eq!(read[0].path.as_bytes(), b"f");
            read[0].sparse.as_ref().map(|map| (map.size, map.pieces.clone()))
        };
        let expect = Some((9 * MIB, vec![(3 * MIB, 65536), (9 * MIB, 0)]));
        assert_eq!(map(&archive(&sparse, 9 * MIB)), expect);
        assert_eq!(archive(&zeros, 9 * MIB), archive(&sparse, 9 * MIB));
        assert_eq!(map(&archive(&small, MIB / 2)), None);
    }
}
