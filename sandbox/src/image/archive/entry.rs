//! What one entry of an archive says, taken from its header and the extensions before it.

use std::io::Read as _;

use tar::{EntryType, Header};

use super::{
    EntryPath, SparseMap, number,
    pax::Extensions,
    reader::{Archive, BLOCK, Skip},
    sparse,
};
use crate::image::problem::Problem;

/// What one entry says; nothing of it has been acted upon.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: EntryPath,
    pub(crate) kind: Kind,
    /// Permission bits with set-user-id, set-group-id and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub(crate) mtime: (i64, u32),
    /// Bytes of data in the archive.
    pub(crate) size: u64,
    /// Where that data lies in a sparse file.
    pub(crate) sparse: Option<SparseMap>,
    /// Extended attributes by full name, as the archive has them.
    pub(crate) attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    /// The target is any text; it is never followed here.
    Symlink(Vec<u8>),
    /// The target is the path of another entry.
    HardLink(EntryPath),
    Fifo,
    /// A character or block device.
    Device,
    /// A GNU volume label, which is no file.
    Label,
}

/// What the extension headers before an entry said about it.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) extensions: Option<Extensions>,
    pub(super) long_name: Option<Vec<u8>>,
    pub(super) long_link: Option<Vec<u8>>,
}

impl Pending {
    pub(super) fn is_some(&self) -> bool {
        self.extensions.is_some() || self.long_name.is_some() || self.long_link.is_some()
    }
}

impl<R: Skip> Archive<'_, R> {
    /// Begins the entry that this header announces: its data is next.
    pub(super) fn entry(&mut self, header: &Header, pending: Pending) -> Result<Entry, Problem> {
        let Pending { extensions, long_name, long_link } = pending;
        let mut extensions = extensions.unwrap_or_default();
        if extensions.path.is_some() && long_name.is_some()
            || extensions.link.is_some() && long_link.is_some()
        {
            return Err(self.damaged("an entry has both a PAX and a GNU long name"));
        }
        let name = extensions.sparse.name.take();
        let name = name.or_else(|| extensions.path.take()).or(long_name);
        let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
        let path = EntryPath::parse(&name, self.limits)?;
        let field = |what: &str, value: Option<u64>| {
            value.ok_or_else(|| {
                Problem::refused(&name, format!("its {what} is no number that fits"))
            })
        };

        let old = header.as_old();
        let mut size = match extensions.size {
            Some(size) => size,
            None => field("size", number::unsigned(&old.size))?,
        };
        let link = extensions.link.take().or(long_link);
        let link =
            || link.unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
        let kind = match header.entry_type() {
            EntryType::Regular if name.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink(self.symlink_target(&name, link())?),
            EntryType::Link => Kind::HardLink(EntryPath::parse(&link(), self.limits)?),
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char | EntryType::Block => Kind::Device,
            other if other.as_byte() == b'V' => Kind::Label,
            other => {
                let why = format!("its type `{}` is unknown", other.as_byte().escape_ascii());
                return Err(Problem::refused(&name, why));
            }
        };
        if kind != Kind::File && size != 0 {
            return Err(Problem::refused(
                &name,
                format!(
                    "it is no file and yet has {size} bytes of data, which readers disagree about"
                ),
            ));
        }

        let gnu_map = match header.entry_type() {
            EntryType::GNUSparse => Some(self.gnu_sparse(header, size)?),
            _ => None,
        };
        self.data = size;
        self.padding = size.next_multiple_of(BLOCK).saturating_sub(size);
        let sparse = match gnu_map {
            Some(map) => Some(map),
            None => self.pax_sparse(&extensions, &kind, &mut size)?,
        };

        let id = |what: &str, pax: Option<u64>, old: &[u8]| {
            let id = field(what, pax.or_else(|| number::unsigned(old)))?;
            let why = || Problem::refused(&name, format!("its {what} {id} is 2^31 or more"));
            i32::try_from(id).map(i32::cast_unsigned).map_err(|_| why())
        };
        let uid = id("user id", extensions.uid, &old.uid)?;
        let gid = id("group id", extensions.gid, &old.gid)?;
        let mode = field("mode", number::unsigned(&old.mode))?;
        let (seconds, nanoseconds) = match extensions.mtime {
            Some(time) => time,
            None => (field("time", number::time(&old.mtime))?, 0),
        };
        Ok(Entry {
            path,
            kind,
            mode: u32::try_from(mode & 0o7777).unwrap_or_default(),
            uid,
            gid,
            mtime: (i64::try_from(seconds).unwrap_or(i64::MAX), nanoseconds),
            size,
            sparse,
            attributes: extensions.attributes,
        })
    }

    fn symlink_target(&self, name: &[u8], target: Vec<u8>) -> Result<Vec<u8>, Problem> {
        if target.is_empty() || target.len() >= self.limits.path || target.contains(&0) {
            return Err(Problem::refused(name, "the target of the symbolic link is no path"));
        }
        Ok(target)
    }

    /// The map of an old GNU sparse file: four pieces in the header, more in blocks after it.
    fn gnu_sparse(&mut self, header: &Header, stored: u64) -> Result<SparseMap, Problem> {
        let Some(gnu) = header.as_gnu() else {
            return Err(self.damaged("a GNU sparse file has no GNU header"));
        };
        let mut pieces = Vec::new();
        // The four pieces lie in bytes 386 to 482 of the header.
        let inline = header.as_bytes().get(386..482).unwrap_or_default();
        sparse::add_gnu(inline, &mut pieces).map_err(|why| self.damaged(why))?;
        let mut more = gnu.isextended != [0];
        while more {
            let block = self.block()?.ok_or_else(|| self.damaged("it ends in a sparse header"))?;
            let (fields, flag) = block.split_at(504);
            let before = pieces.len();
            sparse::add_gnu(fields, &mut pieces).map_err(|why| self.damaged(why))?;
            more = flag.first() != Some(&0);
            if more && pieces.len() == before {
                return Err(self.damaged("a sparse header goes on without adding anything"));
            }
        }
        let size = number::unsigned(&gnu.realsize);
        let size = size.ok_or_else(|| self.damaged("the size of a sparse file is no number"))?;
        SparseMap::new(size, pieces, stored).map_err(|why| self.damaged(why))
    }

    /// The map of a PAX sparse file; in form 1.0 it stands before the data and `size` shrinks.
    fn pax_sparse(
        &mut self,
        extensions: &Extensions,
        kind: &Kind,
        size: &mut u64,
    ) -> Result<Option<SparseMap>, Problem> {
        let records = &extensions.sparse;
        if !records.is_some() {
            return Ok(None);
        }
        if *kind != Kind::File {
            return Err(self.damaged("something that is no file is called sparse"));
        }
        let apparent = records.size;
        let apparent = apparent.ok_or_else(|| self.damaged("a sparse file has no size"))?;
        let pieces = if records.map_in_data().map_err(|why| self.damaged(why))? {
            let at = self.at;
            let pieces = sparse::read_map(
                || {
                    let mut block = [0; 512];
                    self.read_exact(&mut block).map_err(Problem::from)?;
                    self.took(&block)?;
                    Ok(block)
                },
                |why| Problem::Damaged { at, why: why.to_owned() },
            )?;
            *size = self.data;
            pieces
        } else {
            records.pieces.clone()
        };
        SparseMap::new(apparent, pieces, *size).map(Some).map_err(|why| self.damaged(why))
    }
}
