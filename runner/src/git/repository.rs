//! Where the files of a repository are, and how they are read.
//!
//! In a further working tree, and in a submodule, `.git` is a file that names the repository. It
//! could name any other of the caller's as well, so it counts only where the repository names this
//! directory in turn.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    libc::{O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK},
};

/// The longest file that holds a path, in bytes.
const PATH_MAX: u64 = 4096;
/// The longest configuration that is read, in bytes.
const CONFIGURATION_MAX: u64 = 256 * 1024;

/// A directory of a repository.
#[derive(Debug)]
pub(super) struct Directory(OwnedFd);

impl Directory {
    fn open(path: &Path) -> io::Result<Self> {
        let flags = O_DIRECTORY | O_NOFOLLOW;
        Ok(Self(File::options().read(true).custom_flags(flags).open(path)?.into()))
    }

    /// A directory below this one; no part of the path is a link.
    pub(super) fn below(&self, path: &str) -> io::Result<Self> {
        Ok(Self(self.opened(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?))
    }

    /// A regular file below this one; no part of the path is a link.
    pub(super) fn file(&self, path: &str) -> io::Result<File> {
        let file = File::from(self.opened(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("no regular file"));
        }
        Ok(file)
    }

    fn opened(&self, path: &str, flags: OFlag) -> io::Result<OwnedFd> {
        let resolve = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        Ok(openat2(self.0.as_fd(), path, how)?)
    }

    /// The text of a file of at most `most` bytes.
    pub(super) fn text(&self, path: &str, most: u64) -> io::Result<String> {
        let mut text = String::new();
        self.file(path)?.take(most + 1).read_to_string(&mut text)?;
        if text.len() as u64 > most {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        Ok(text)
    }

    /// Names and whether they are directories, of what is in a directory below this one and is
    /// neither link nor special; at most `most`.
    pub(super) fn entries(&self, path: &str, most: usize) -> io::Result<Vec<(String, bool)>> {
        let directory = self.opened(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let mut found = Vec::new();
        for entry in nix::dir::Dir::from_fd(directory)? {
            let entry = entry?;
            let is_directory = match entry.file_type() {
                Some(nix::dir::Type::Directory) => true,
                Some(nix::dir::Type::File) => false,
                _ => continue,
            };
            if let Ok(name) = entry.file_name().to_str()
                && !matches!(name, "." | "..")
            {
                found.push((name.to_owned(), is_directory));
            }
            if found.len() > most {
                return Err(io::Error::from(io::ErrorKind::FileTooLarge));
            }
        }
        Ok(found)
    }

    fn is(&self, other: &Self) -> io::Result<bool> {
        let of = |it: &Self| nix::sys::stat::fstat(&it.0).map(|stat| (stat.st_dev, stat.st_ino));
        Ok(of(self)? == of(other)?)
    }
}

/// The repository of a project.
#[derive(Debug)]
pub(super) struct Repository {
    /// What is of this working tree alone, such as `HEAD`.
    pub(super) own: Directory,
    /// What is of all working trees of the repository.
    pub(super) common: Directory,
}

/// A repository that is not in its working tree.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Linked {
    /// What is of all working trees.
    pub(crate) common: PathBuf,
    /// What is of this one, below that: the empty path where that is the same.
    pub(crate) own: String,
}

impl Repository {
    /// The one of the project at `workspace`; [`None`] where it has none, or one that is not its.
    pub(super) fn of(workspace: &Path) -> Option<Self> {
        let path = workspace.join(".git");
        if fs::symlink_metadata(&path).ok()?.is_dir() {
            let open = || Directory::open(&path).ok();
            return Some(Self { own: open()?, common: open()? });
        }
        let Linked { common, own } = linked(workspace)?;
        let common = Directory::open(&common).ok()?;
        let own = common.below(if own.is_empty() { "." } else { &own }).ok()?;
        Some(Self { own, common })
    }
}

/// Where the repository of a project is whose `.git` is a file; [`None`] where that is none, or
/// where the repository that it names does not name the project.
pub(crate) fn linked(workspace: &Path) -> Option<Linked> {
    let file = workspace.join(".git");
    let said = small(&file)?;
    let own = fs::canonicalize(workspace.join(said.strip_prefix("gitdir: ")?)).ok()?;
    let directory = Directory::open(&own).ok()?;
    let Ok(common) = directory.text("commondir", PATH_MAX) else {
        return is_submodule(&own, &directory, workspace)
            .then_some(Linked { common: own, own: String::new() });
    };
    // Both directions: a project could bring a directory that names it and any repository at all.
    let back = directory.text("gitdir", PATH_MAX).ok()?;
    if !is_same(&own.join(line(&back)), &file) {
        return None;
    }
    let common = fs::canonicalize(own.join(line(&common))).ok()?;
    let below = format!("worktrees/{}", own.file_name()?.to_str()?);
    let known = Directory::open(&common).ok()?.below(&below).ok()?;
    known.is(&directory).ok()?.then_some(Linked { common, own: below })
}

/// Whether `core.worktree` of the repository `own` is the project.
fn is_submodule(own: &Path, directory: &Directory, workspace: &Path) -> bool {
    let Ok(configuration) = directory.text("config", CONFIGURATION_MAX) else { return false };
    let mut section = "";
    for line in configuration.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section.eq_ignore_ascii_case("[core]")
            && let Some((key, value)) = line.split_once('=')
            && key.trim().eq_ignore_ascii_case("worktree")
        {
            return is_same(&own.join(value.trim().trim_matches('"')), workspace);
        }
    }
    false
}

/// Whether two paths lead to the same file.
fn is_same(one: &Path, other: &Path) -> bool {
    let of = |path| fs::metadata(path).map(|it| (it.dev(), it.ino())).ok();
    of(one).is_some_and(|one| of(other) == Some(one))
}

/// The first line of a regular file that is no link.
fn small(path: &Path) -> Option<String> {
    let file = File::options().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > PATH_MAX {
        return None;
    }
    let mut text = String::new();
    file.take(PATH_MAX).read_to_string(&mut text).ok()?;
    Some(line(&text).to_owned())
}

fn line(text: &str) -> &str {
    text.trim_end_matches(['\r', '\n'])
}
