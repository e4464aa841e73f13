//! Files that are put into an image, as the archive of a layer.
//!
//! First all that is to be copied is listed, then it is written in the order of the paths that it
//! gets, so neither the order of the sources nor that of their directories shows in the layer.
//! Directories on the way are said again as they are, so the layer needs none below it. A project's
//! files have no owner and no time of their own: they are root's unless the build says otherwise,
//! and as old as the image is.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
};

use nix::sys::stat::{SFlag, fstat};

use super::{
    attributes::described,
    place::{place, status},
    publish::Sealing,
    source::{self, Content, Found, Source},
};
use crate::{
    Error, Result,
    image::{
        Image,
        archive::{Described, WHITEOUT, Writer, join},
        digest::{Algorithm, Digest, Hasher},
        limits::ImportLimits,
        problem::{Problem, shown},
        store::{LayerDir, LayerKey, Store},
        unpack::kind,
    },
};

/// Where files that are copied come from.
#[derive(Clone, Copy)]
pub enum CopyFrom<'a> {
    /// A directory of the host. What `selects` says no to is left out; it is asked for directories
    /// too (the second argument), and for what is in them all the same.
    Directory(&'a Path, &'a (dyn Fn(&Path, bool) -> bool + Sync)),
    /// The files of another image.
    Image(&'a Image),
    /// Names and contents.
    Files(&'a [(String, Vec<u8>)]),
    /// Whatever is asked for is a symbolic link to this.
    Link(&'a str),
}

impl std::fmt::Debug for CopyFrom<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(path, _) => f.debug_tuple("Directory").field(path).finish(),
            Self::Image(image) => f.debug_tuple("Image").field(&image.digest).finish(),
            Self::Files(files) => f.debug_tuple("Files").field(&files.len()).finish(),
            Self::Link(target) => f.debug_tuple("Link").field(target).finish(),
        }
    }
}

/// What is copied into an image.
#[derive(Clone, Copy)]
pub struct Copying<'a> {
    /// Where it comes from.
    pub from: CopyFrom<'a>,
    /// What of that: relative to its root. Of a directory, what is in it. With none, only the
    /// directory `to` is made, where it is missing.
    pub paths: &'a [PathBuf],
    /// The absolute path that it gets: that of a directory where there is one, where what is copied
    /// is one, and where the path ends in a slash; otherwise that of the one file.
    pub to: &'a str,
    /// Whose it becomes, user and group. Without this it is root's, or as it is in the image.
    pub owner: Option<(u32, u32)>,
    /// What permissions become, of files and of directories (`true`); without this they stay.
    pub mode: Option<&'a (dyn Fn(u32, bool) -> u32 + Sync)>,
    /// Whether what there is in the directory `to` before is hidden.
    pub alone: bool,
}

impl std::fmt::Debug for Copying<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { from, paths, to, owner, mode: _, alone } = self;
        let mut shown = f.debug_struct("Copying");
        shown.field("from", from).field("paths", paths).field("to", to).field("owner", owner);
        shown.field("alone", alone);
        shown.finish_non_exhaustive()
    }
}

/// Something on its way into a layer.
#[derive(Debug)]
enum Item {
    Directory(Described),
    File(Described, u64, Vec<u8>),
    Link(Described, Vec<u8>),
    Fifo(Described),
}

/// All that one copy writes, by the path that it gets.
type Items = BTreeMap<Vec<u8>, Item>;

impl Store {
    /// Makes a layer of files that are copied in, to lie over `below`; [`None`] where there are none.
    /// The same files come to the same layer, which is then found and not made again.
    ///
    /// # Errors
    /// With [`crate::Fault::Pipeline`] where a file is not there or cannot be part of a layer.
    pub fn copy_in(
        &self,
        copying: Copying<'_>,
        below: &[LayerDir],
        how: Sealing<'_>,
    ) -> Result<Option<LayerDir>> {
        let doing = format!("copy files to `{}`", copying.to);
        match self.chosen(copying, below, how, &doing)? {
            None => Ok(None),
            Some((_, SeenCopy { layer: Some(layer), .. })) => Ok(Some(layer)),
            Some((chosen, _)) => self.make_layer(below, how, &doing, |to| chosen.write(to)),
        }
    }

    /// What [`Self::copy_in`] would come to, without making it.
    ///
    /// # Errors
    /// As [`Self::copy_in`].
    pub fn seen_copy(
        &self,
        copying: Copying<'_>,
        below: &[LayerDir],
        how: Sealing<'_>,
    ) -> Result<Option<SeenCopy>> {
        let doing = format!("look at the files to copy to `{}`", copying.to);
        Ok(self.chosen(copying, below, how, &doing)?.map(|(_, seen)| seen))
    }

    /// What is to be copied, and its layer: the archive names it, so one that is there is found without
    /// storing it again.
    fn chosen<'a>(
        &self,
        copying: Copying<'a>,
        below: &[LayerDir],
        how: Sealing<'_>,
        doing: &str,
    ) -> Result<Option<(Chosen<'a>, SeenCopy)>> {
        let chosen = Chosen::new(copying, below, how).map_err(|problem| problem.during(doing))?;
        let Some(chosen) = chosen else { return Ok(None) };
        let diff_id = chosen.diff_id(how).map_err(|problem| problem.during(doing))?;
        let layer = self.lease(&LayerKey::Diff(diff_id.clone()), &diff_id)?;
        Ok(Some((chosen, SeenCopy { diff_id, layer })))
    }
}

/// The layer of files that are copied in, as it is or would be.
#[derive(Debug)]
pub struct SeenCopy {
    /// Of the layer.
    pub diff_id: Digest,
    /// The layer, where the store has it.
    pub layer: Option<LayerDir>,
}

/// All that one copy writes, and where it comes from.
struct Chosen<'a> {
    source: Source<'a>,
    items: Items,
    alone: Option<Vec<u8>>,
}

impl<'a> Chosen<'a> {
    /// [`None`] where there is nothing to write.
    fn new(
        copying: Copying<'a>,
        below: &[LayerDir],
        how: Sealing<'_>,
    ) -> Result<Option<Self>, Problem> {
        let roots: Vec<BorrowedFd<'_>> = below.iter().rev().map(LayerDir::as_fd).collect();
        let source = Source::open(copying.from)?;
        let (items, alone) = (Items::new(), None);
        let mut plan = Plan { copying, roots: &roots, how, items, names: 0, alone };
        plan.all(&source)?;
        let Plan { items, alone, .. } = plan;
        Ok((!items.is_empty()).then_some(Self { source, items, alone }))
    }

    fn write(&self, to: &mut Writer<'_>) -> Result<(), Problem> {
        write(&self.items, self.alone.as_deref(), &self.source, to)
    }

    fn diff_id(&self, how: Sealing<'_>) -> Result<Digest, Problem> {
        let mut hasher = Hashed(Hasher::new(Algorithm::Sha256));
        let mut writer = Writer::new(&mut hasher, how.moment, how.limits);
        self.write(&mut writer)?;
        writer.finish()?;
        Ok(hasher.0.finish())
    }
}

impl Image {
    /// The ids of `user[:group]`, names or numbers, by the image's own files.
    ///
    /// # Errors
    /// Where the image does not know the name.
    pub fn ids_of(&self, name: &str) -> Result<(u32, u32)> {
        let doing = || format!("look up the user `{}` in the image", shown(name.as_bytes()));
        let roots: Vec<BorrowedFd<'_>> = self.layers.iter().rev().map(LayerDir::as_fd).collect();
        let limits = ImportLimits::default();
        let read = |path: &str| -> Result<String> {
            let found = place(&roots, path.as_bytes(), &limits);
            let content = found.and_then(|found| source::text(&roots, &found.path, &limits));
            content.map_err(|problem| problem.during(doing()))
        };
        crate::init::ids_of(name, &read("etc/passwd")?, &read("etc/group")?)
            .map_err(|error| Error::pipeline(doing(), error))
    }
}

struct Plan<'a> {
    copying: Copying<'a>,
    /// The layers below, highest first.
    roots: &'a [BorrowedFd<'a>],
    how: Sealing<'a>,
    items: Items,
    /// Bytes of names in memory.
    names: usize,
    /// The directory that hides what the layers below have in it.
    alone: Option<Vec<u8>>,
}

impl Plan<'_> {
    fn all(&mut self, source: &Source<'_>) -> Result<(), Problem> {
        let to = self.copying.to.as_bytes();
        let target = place(self.roots, to, self.how.limits)?;
        self.alone = self.copying.alone.then(|| target.path.clone());
        let many = self.copying.paths.len() > 1;
        let into = target.is_directory || to.ends_with(b"/") || many;
        if self.copying.paths.is_empty() && (self.copying.alone || !target.is_directory) {
            self.directory(&target.path)?;
        }
        for path in self.copying.paths {
            let found = source.find(path, self.how.limits)?;
            let found = found.ok_or_else(|| {
                Problem::refused(path.as_os_str().as_encoded_bytes(), "there is no such file")
            })?;
            if found.is_directory() {
                self.directory(&target.path)?;
                source.walk(&found.path, self.how.limits, &mut |below, found| {
                    self.item(&join(&target.path, below), found, source)
                })?;
            } else {
                // As it was asked for: it may be a link to another.
                let name = path.file_name().unwrap_or_default().as_encoded_bytes();
                let at = if into { join(&target.path, name) } else { target.path.clone() };
                self.item(&at, &found, source)?;
            }
        }
        Ok(())
    }

    /// A directory that is copied into: as it is, or made with those above it.
    fn directory(&mut self, path: &[u8]) -> Result<(), Problem> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends = ends.map(|(end, _)| end).chain([path.len()]);
        for end in std::iter::once(0).chain(ends) {
            let path = path.get(..end).unwrap_or_default();
            if self.items.contains_key(path) {
                continue;
            }
            let there = status(self.roots, path, self.how.limits)?;
            if there.as_ref().is_some_and(|(_, status)| kind(status) != SFlag::S_IFDIR) {
                return Err(Problem::refused(path, "a file stands where a directory has to be"));
            }
            // One that is made anew for this says itself what it is.
            let anew = self.copying.paths.is_empty() && self.alone.as_deref() == Some(path);
            let described = match there.filter(|_| !anew) {
                Some((parent, status)) => {
                    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                    let fd = source::open_directory(&parent, name)?;
                    described(&status, &fd, self.how.limits)?
                }
                None if path.is_empty() => self.root()?,
                None => {
                    let (uid, gid) = self.copying.owner.unwrap_or_default();
                    let mtime = i64::try_from(self.how.moment).unwrap_or(i64::MAX);
                    let mode = match self.copying.mode {
                        Some(mode) if self.copying.paths.is_empty() => mode(0o755, true),
                        _ => 0o755,
                    };
                    Described { uid, gid, mode, mtime, attributes: Vec::new() }
                }
            };
            self.add(path.to_vec(), Item::Directory(described))?;
        }
        Ok(())
    }

    /// The root as the highest layer has it.
    fn root(&self) -> Result<Described, Problem> {
        match self.roots.first() {
            Some(root) => {
                let status = fstat(root).map_err(|error| Problem::Read(error.into()))?;
                described(&status, root, self.how.limits)
            }
            None => Ok(Described { mode: 0o755, ..Described::default() }),
        }
    }

    fn item(&mut self, path: &[u8], found: &Found, source: &Source<'_>) -> Result<(), Problem> {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if name.starts_with(WHITEOUT) {
            let why = "a name that begins with `.wh.` cannot be part of a layer";
            return Err(Problem::refused(path, why));
        }
        let above = path.len().saturating_sub(name.len() + 1);
        self.directory(path.get(..above).unwrap_or_default())?;
        let mut about = found.described(source, self.how.limits)?;
        if !source.is_image() {
            (about.uid, about.gid) = (0, 0);
            about.mtime = i64::try_from(self.how.moment).unwrap_or(i64::MAX);
        }
        if let Some((uid, gid)) = self.copying.owner {
            (about.uid, about.gid) = (uid, gid);
        }
        if let Some(mode) = self.copying.mode.filter(|_| found.kind != SFlag::S_IFLNK) {
            about.mode = mode(about.mode & 0o7777, found.is_directory()) & 0o7777;
        }
        let item = match found.kind {
            SFlag::S_IFDIR => Item::Directory(about),
            SFlag::S_IFREG => Item::File(about, found.size, found.path.clone()),
            SFlag::S_IFLNK => Item::Link(about, found.target.clone()),
            SFlag::S_IFIFO => Item::Fifo(about),
            // It is of use only to the process that made it.
            SFlag::S_IFSOCK => return Ok(()),
            _ => return Err(Problem::refused(path, "a device cannot be part of a layer")),
        };
        let is_directory = matches!(item, Item::Directory(_));
        let there = status(self.roots, path, self.how.limits)?;
        let there = there.map(|(_, status)| kind(&status) == SFlag::S_IFDIR);
        let there = match self.items.get(path) {
            Some(item) => Some(matches!(item, Item::Directory(_))),
            None => there,
        };
        if there == Some(true) && !is_directory {
            return Err(Problem::refused(path, "a directory stands where a file is to be"));
        }
        self.add(path.to_vec(), item)
    }

    fn add(&mut self, path: Vec<u8>, item: Item) -> Result<(), Problem> {
        // An allocation, the tree's slot and what is known of the file weigh about this much each.
        const OVERHEAD: usize = 160;
        self.names += path.len() + OVERHEAD;
        let limits = self.how.limits;
        if self.names > limits.directory_names.saturating_mul(2) {
            let limit = limits.directory_names.saturating_mul(2) as u64;
            return Err(Problem::Limit { what: "bytes of names of files to copy", limit });
        }
        if self.items.len() as u64 >= limits.entries {
            let limit = limits.entries;
            return Err(Problem::Limit { what: "files and directories", limit });
        }
        self.items.insert(path, item);
        Ok(())
    }
}

fn write(
    items: &Items,
    alone: Option<&[u8]>,
    source: &Source<'_>,
    to: &mut Writer<'_>,
) -> Result<(), Problem> {
    for (path, item) in items {
        match item {
            Item::Directory(about) => {
                to.directory(path, about)?;
                if alone == Some(path.as_slice()) {
                    to.opaque(path)?;
                }
            }
            Item::Link(about, target) => to.symbolic_link(path, about, target)?,
            Item::Fifo(about) => to.fifo(path, about)?,
            Item::File(about, size, at) => source.content(at, |content| match content {
                Content::File(mut file) => to.file(path, about, &mut file, (*size, false)),
                Content::Bytes(bytes) => to.bytes(path, about, bytes),
            })?,
        }
    }
    Ok(())
}

struct Hashed(Hasher);

impl io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
