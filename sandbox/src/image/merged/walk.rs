//! Walks the tree that overlayfs would show of some layers, in the order of names.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    rc::Rc,
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag},
    sys::stat::{FileStat, SFlag, fstatat},
};

use super::Entry;
use crate::{
    Result,
    error::Doing as _,
    image::{
        Image,
        unpack::{self, is_whiteout, kind},
    },
    sys::beneath::open_beneath,
};

/// The entries of an image, each directory before what is in it, names in the order of their
/// bytes. The root itself is not among them.
#[derive(Debug)]
pub(crate) struct Walk {
    /// Highest first.
    layers: Vec<OwnedFd>,
    directories: Vec<Directory>,
    /// Only what is below this is told, and the directories on the way there.
    only: PathBuf,
    /// Components of the paths that are told at most.
    parts: usize,
}

/// A directory on the way to the current entry.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    /// The layers that it is merged from, highest first.
    layers: Vec<usize>,
    names: std::vec::IntoIter<OsString>,
    /// Open while the walk is in this one and in none below, so that a deep tree does not take a
    /// descriptor per level and layer.
    open: Option<Rc<[Rc<OwnedFd>]>>,
}

impl Walk {
    /// Begins at the root of `image`.
    pub(crate) fn new(image: &Image) -> Result<Self> {
        Self::below(image, Path::new(""), usize::MAX)
    }

    /// As [`Self::new`], and goes into no directory but `only`, those above it and those in it, nor
    /// into one whose path has `parts` components or more.
    pub(crate) fn below(image: &Image, only: &Path, parts: usize) -> Result<Self> {
        let layers = image.layers.iter().rev().map(|layer| {
            let copy = layer.as_fd().try_clone_to_owned();
            copy.system(|| format!("open the layer `{}`", layer.diff_id))
        });
        let layers = layers.collect::<Result<_>>()?;
        let mut walk = Self { layers, directories: Vec::new(), only: only.to_owned(), parts };
        let all = (0..walk.layers.len()).collect();
        walk.enter(PathBuf::new(), all).system(|| "list the root directory of an image")?;
        Ok(walk)
    }

    /// The next entry.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>> {
        loop {
            let Some(directory) = self.directories.last_mut() else { return Ok(None) };
            let Some(name) = directory.names.next() else {
                self.directories.pop();
                continue;
            };
            let path = directory.path.join(&name);
            let doing = || format!("read `/{}` of an image", path.display());
            let found = self.look(&name).system(doing)?;
            let Some((parent, status, below)) = found else { continue };
            let on_the_way = path.starts_with(&self.only) || self.only.starts_with(&path);
            let on_the_way = on_the_way && path.components().count() < self.parts;
            if let Some(below) = below.filter(|_| on_the_way) {
                self.enter(path.clone(), below).system(doing)?;
            }
            return Ok(Some(Entry { path, status, parent, name }));
        }
    }

    /// Finds what the topmost layer has under `name` in the current directory, unless that says
    /// that there is nothing; for a directory, with the layers that it is merged from.
    #[expect(clippy::type_complexity, reason = "three things that are found together")]
    fn look(
        &mut self,
        name: &OsStr,
    ) -> io::Result<Option<(Rc<OwnedFd>, FileStat, Option<Vec<usize>>)>> {
        let open = self.open()?;
        let Some(directory) = self.directories.last() else { return Ok(None) };
        let mut found: Option<(Rc<OwnedFd>, FileStat)> = None;
        let mut merged = Vec::new();
        for (layer, parent) in directory.layers.iter().zip(open.iter()) {
            let status = match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) => continue,
                other => other?,
            };
            let is_directory = kind(&status) == SFlag::S_IFDIR;
            if is_directory {
                merged.push(*layer);
            }
            let first = found.is_none();
            // A whiteout hides what is lower, and so does anything that is no directory.
            if first && !is_whiteout(&status) {
                found = Some((Rc::clone(parent), status));
            }
            if !is_directory || hides_lower(parent, name)? {
                break;
            }
        }
        Ok(found.map(|(parent, status)| {
            let below = (kind(&status) == SFlag::S_IFDIR).then_some(merged);
            (parent, status, below)
        }))
    }

    /// The current directory in each of its layers.
    fn open(&mut self) -> io::Result<Rc<[Rc<OwnedFd>]>> {
        let none = || io::Error::from(io::ErrorKind::NotFound);
        let directory = self.directories.last_mut().ok_or_else(none)?;
        if let Some(open) = &directory.open {
            return Ok(Rc::clone(open));
        }
        let open = open_all(&self.layers, &directory.layers, &directory.path)?;
        directory.open = Some(Rc::clone(&open));
        Ok(open)
    }

    fn enter(&mut self, path: PathBuf, layers: Vec<usize>) -> io::Result<()> {
        if let Some(above) = self.directories.last_mut() {
            above.open = None;
        }
        let open = open_all(&self.layers, &layers, &path)?;
        let mut names = BTreeSet::new();
        for directory in open.iter() {
            let again = directory.try_clone()?;
            let mut listing = Dir::from_fd(again)?;
            for entry in listing.iter() {
                let entry = entry?;
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                if name != "." && name != ".." {
                    names.insert(name.to_owned());
                }
            }
        }
        let names = names.into_iter().collect::<Vec<_>>().into_iter();
        self.directories.push(Directory { path, layers, names, open: Some(open) });
        Ok(())
    }
}

fn open_all(roots: &[OwnedFd], layers: &[usize], path: &Path) -> io::Result<Rc<[Rc<OwnedFd>]>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let roots = layers.iter().filter_map(|layer| roots.get(*layer));
    roots.map(|root| Ok(Rc::new(open_beneath(root.as_fd(), path, flags)?))).collect()
}

fn hides_lower(parent: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    let directory = open_beneath(parent.as_fd(), name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    Ok(unpack::is_opaque(&directory)?)
}
