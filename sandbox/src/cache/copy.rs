//! Copies directories out of a container that has ended, as a layer for later ones.
//!
//! The source is hostile: it is walked beneath its root from descriptor to descriptor, without
//! recursion, and bounded in bytes, entries, names and depth. Ids become what they are inside.
//! What was copied before is as hostile: nothing is written through a link.

use std::{
    fs::{self, File, FileTimes, Permissions},
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::{PermissionsExt as _, chown, lchown, symlink},
    },
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::{
    dir::{Dir, Type},
    errno::Errno,
    fcntl::{OFlag, readlinkat},
    sys::stat::{FileStat, SFlag, fstat},
};

use crate::sys::beneath::open_beneath;

/// Levels of directories.
const DEPTH_MAX: usize = 128;
/// Files, directories and links.
const ENTRIES_MAX: usize = 500_000;
/// Bytes of paths that are remembered on the way: the job chooses them, and the runner's memory is
/// not the job's.
const NAMES_MAX: usize = 64 * 1024 * 1024;
/// What any file takes on a disk besides its content, as most file systems have it: an inode, a
/// name, a block of a directory or of a link. Without it, empty ones would fill the disk unseen.
const ENTRY: u64 = 4096;
/// Bits of a mode that are kept.
const MODE: u32 = 0o777;

/// A copy in the making.
pub(super) struct Copy<'a> {
    /// Where it goes: a tree that stands for `/`.
    pub(super) target: &'a Path,
    /// What an id of the source is inside; `None` where files keep no owner.
    pub(super) inside: Option<&'a dyn Fn(u32) -> u32>,
    /// Bytes that may still be written.
    pub(super) left: u64,
    entries: usize,
    names: usize,
    /// Directories whose attributes are set at the end: writing into them changes their times.
    directories: Vec<(PathBuf, FileStat)>,
}

impl<'a> Copy<'a> {
    /// One of at most `bytes` bytes.
    pub(super) fn new(
        target: &'a Path,
        inside: Option<&'a dyn Fn(u32) -> u32>,
        bytes: u64,
    ) -> Self {
        Self { target, inside, left: bytes, entries: 0, names: 0, directories: Vec::new() }
    }

    /// Adds `path` beneath `root`, which is shown at `place`; whether there is such a thing. One that a
    /// link leads to fails with `ELOOP`, one on another mount with `EXDEV`.
    pub(super) fn add(
        &mut self,
        root: BorrowedFd<'_>,
        place: &Path,
        path: &Path,
    ) -> io::Result<bool> {
        let names: Vec<_> = path
            .components()
            .filter_map(|component| match component {
                Component::Normal(name) => Some(name),
                _ => None,
            })
            .collect();
        let whole: PathBuf = names.iter().collect();
        let found = match open(root, &whole, OFlag::O_PATH) {
            Ok(found) => fstat(&found)?,
            Err(error) if is_absent(&error) && error.raw_os_error() != Some(libc::EXDEV) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let mut parent = PathBuf::new();
        self.directory(root, place, &parent)?;
        for name in names.iter().take(names.len().saturating_sub(1)) {
            parent.push(name);
            self.directory(root, place, &parent)?;
        }
        let is_directory = kind(&found) == SFlag::S_IFDIR;
        let mut waiting = vec![(whole, 0_usize)];
        if !is_directory {
            self.entry(root, place, &waiting.remove(0).0, &found)?;
        }
        while let Some((directory, depth)) = waiting.pop() {
            self.directory(root, place, &directory)?;
            let opened = match open(root, &directory, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
                Err(error) if is_absent(&error) => continue,
                other => other?,
            };
            for entry in Dir::from_fd(opened)?.iter() {
                let entry = entry?;
                let Ok(name) = entry.file_name().to_str() else { continue };
                if matches!(name, "." | "..") {
                    continue;
                }
                let path = directory.join(name);
                match entry.file_type() {
                    Some(Type::Directory) if depth < DEPTH_MAX => {
                        self.remember(&path)?;
                        waiting.push((path, depth + 1));
                    }
                    Some(Type::Directory) => return Err(too_much("levels", DEPTH_MAX)),
                    Some(Type::File | Type::Symlink) => {
                        let opened = open(root, &path, OFlag::O_PATH | OFlag::O_NOFOLLOW);
                        match opened {
                            Ok(opened) => self.entry(root, place, &path, &fstat(&opened)?)?,
                            // A link is not opened by a resolution that follows none.
                            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                                self.link(root, place, &path)?;
                            }
                            Err(error) if is_absent(&error) => {}
                            Err(error) => return Err(error),
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(true)
    }

    /// Sets what was put off to the end.
    pub(super) fn finish(self) -> io::Result<()> {
        for (path, status) in self.directories.iter().rev() {
            self.attributes(path, status)?;
        }
        Ok(())
    }

    fn count(&mut self) -> io::Result<()> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(too_much("files", ENTRIES_MAX));
        }
        self.take(ENTRY)
    }

    fn take(&mut self, bytes: u64) -> io::Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            io::Error::new(io::ErrorKind::FileTooLarge, "there is more than may be kept")
        })?;
        Ok(())
    }

    fn remember(&mut self, path: &Path) -> io::Result<()> {
        self.names += path.as_os_str().len();
        if self.names > NAMES_MAX {
            return Err(too_much("bytes of names of directories", NAMES_MAX));
        }
        Ok(())
    }

    /// Makes a directory like the one at `path`, unless that was done before. A link is none.
    fn directory(&mut self, root: BorrowedFd<'_>, place: &Path, path: &Path) -> io::Result<()> {
        let target = self.target.join(place).join(path);
        if fs::symlink_metadata(&target).is_ok_and(|it| it.is_dir()) {
            return Ok(());
        }
        self.count()?;
        self.remember(&target)?;
        let status = fstat(&open(root, path, OFlag::O_PATH | OFlag::O_DIRECTORY)?)?;
        fs::create_dir(&target)?;
        fs::set_permissions(&target, Permissions::from_mode(0o700))?;
        self.directories.push((target, status));
        Ok(())
    }

    fn entry(
        &mut self,
        root: BorrowedFd<'_>,
        place: &Path,
        path: &Path,
        status: &FileStat,
    ) -> io::Result<()> {
        match kind(status) {
            SFlag::S_IFREG => self.file(root, place, path),
            SFlag::S_IFLNK => self.link(root, place, path),
            _ => Ok(()),
        }
    }

    fn file(&mut self, root: BorrowedFd<'_>, place: &Path, path: &Path) -> io::Result<()> {
        let opened = open(root, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY);
        let source = match opened {
            Err(error) if is_absent(&error) => return Ok(()),
            other => other?,
        };
        let status = fstat(&source)?;
        if kind(&status) != SFlag::S_IFREG {
            return Ok(());
        }
        self.count()?;
        let target = self.target.join(place).join(path);
        let mut file = match File::options().write(true).create_new(true).open(&target) {
            // Another path has it in it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            other => other?,
        };
        let limit = self.left.saturating_add(1);
        let copied = io::copy(&mut File::from(source).take(limit), &mut file)?;
        self.take(copied)?;
        drop(file);
        self.attributes(&target, &status)
    }

    fn link(&mut self, root: BorrowedFd<'_>, place: &Path, path: &Path) -> io::Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let directory = open(root, parent, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let leads_to = match readlinkat(directory.as_fd(), name) {
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            other => other?,
        };
        self.count()?;
        let target = self.target.join(place).join(path);
        match symlink(leads_to, &target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            other => other?,
        }
        if let Some(inside) = self.inside {
            // Whose a link is makes no difference to what it leads to; as its directory is.
            let status = fstat(&directory)?;
            lchown(&target, Some(inside(status.st_uid)), Some(inside(status.st_gid)))?;
        }
        Ok(())
    }

    /// Owner, mode and time of change, which builds go by.
    fn attributes(&self, target: &Path, status: &FileStat) -> io::Result<()> {
        if let Some(inside) = self.inside {
            chown(target, Some(inside(status.st_uid)), Some(inside(status.st_gid)))?;
        }
        fs::set_permissions(target, Permissions::from_mode(status.st_mode & MODE))?;
        let times = FileTimes::new().set_modified(modified(status));
        File::open(target)?.set_times(times)
    }
}

fn modified(status: &FileStat) -> SystemTime {
    let seconds = Duration::from_secs(u64::try_from(status.st_mtime).unwrap_or(0));
    let nanos = Duration::from_nanos(u64::try_from(status.st_mtime_nsec).unwrap_or(0));
    UNIX_EPOCH.checked_add(seconds + nanos).unwrap_or(UNIX_EPOCH)
}

fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlag) -> io::Result<std::os::fd::OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    open_beneath(root, path, flags)
}

fn kind(status: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT
}

/// Whether a failure to open means that nothing of that kind is there.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ENXIO | libc::EXDEV))
}

fn too_much(what: &str, most: usize) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("there are more than {most} {what}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::tests::exchanging;

    #[test]
    fn a_copy_is_a_layer_with_the_same_paths() {
        let source = tempfile::tempdir().unwrap();
        let at = |path: &str| source.path().join(path);
        fs::create_dir_all(at("root/.cache/deep")).unwrap();
        fs::set_permissions(at("root"), Permissions::from_mode(0o700)).unwrap();
        fs::write(at("root/.cache/deep/file"), "content").unwrap();
        fs::set_permissions(at("root/.cache/deep/file"), Permissions::from_mode(0o4751)).unwrap();
        fs::write(at("root/other"), "not taken").unwrap();
        symlink("/etc/passwd", at("root/.cache/link")).unwrap();
        nix::unistd::mkfifo(&at("root/.cache/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let old = UNIX_EPOCH + Duration::from_secs(1_000_000);
        File::open(at("root/.cache/deep/file"))
            .unwrap()
            .set_times(FileTimes::new().set_modified(old))
            .unwrap();
        let target = tempfile::tempdir().unwrap();
        let root = File::open(source.path()).unwrap();
        let mut copy = Copy::new(target.path(), None, 1 << 20);
        assert!(copy.add(root.as_fd(), Path::new(""), Path::new("/root/.cache")).unwrap());
        assert!(!copy.add(root.as_fd(), Path::new(""), Path::new("/root/none")).unwrap());
        copy.finish().unwrap();
        let kept = |path: &str| target.path().join(path);
        let file = fs::metadata(kept("root/.cache/deep/file")).unwrap();
        assert_eq!(file.mode() & 0o7777, 0o751, "no set-user-id bit is kept");
        assert_eq!(file.modified().unwrap(), old);
        assert_eq!(fs::metadata(kept("root")).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::read_link(kept("root/.cache/link")).unwrap(), Path::new("/etc/passwd"));
        for absent in ["root/other", "root/.cache/pipe", "root/none"] {
            assert!(kept(absent).symlink_metadata().is_err(), "{absent}");
        }
    }

    #[test]
    fn too_much_is_refused_and_links_lead_nowhere() {
        let source = tempfile::tempdir().unwrap();
        fs::write(source.path().join("big"), "more than ten bytes").unwrap();
        symlink("/etc", source.path().join("out")).unwrap();
        let root = File::open(source.path()).unwrap();
        for path in ["big", "out/passwd"] {
            let target = tempfile::tempdir().unwrap();
            let mut copy = Copy::new(target.path(), None, ENTRY + 10);
            copy.add(root.as_fd(), Path::new(""), Path::new(path)).unwrap_err();
        }
    }

    #[test]
    fn empty_files_count_as_well() {
        let source = tempfile::tempdir().unwrap();
        for path in ["d/1", "d/2", "d/3"] {
            fs::create_dir_all(source.path().join(path)).unwrap();
        }
        fs::write(source.path().join("d/file"), "").unwrap();
        symlink("file", source.path().join("d/link")).unwrap();
        let root = File::open(source.path()).unwrap();
        let take = |bytes| {
            let target = tempfile::tempdir().unwrap();
            let mut copy = Copy::new(target.path(), None, bytes);
            copy.add(root.as_fd(), Path::new("workspace"), Path::new("d")).map(|_| copy.left)
        };
        // The place itself, `d`, and five in it.
        assert_eq!(take(7 * ENTRY + 1).unwrap(), 1);
        assert_eq!(take(7 * ENTRY - 1).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    /// A job can make many long paths cheaply: each directory is a name to it, and a path here.
    #[test]
    fn names_are_bounded() {
        let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let deep = PathBuf::from_iter(std::iter::repeat_n("d".repeat(250), 12));
        fs::create_dir_all(source.path().join(&deep)).unwrap();
        let root = File::open(source.path()).unwrap();
        let mut copy = Copy::new(target.path(), None, u64::MAX);
        copy.names = NAMES_MAX - 12 * 3000;
        let error = copy.add(root.as_fd(), Path::new(""), Path::new("")).unwrap_err();
        assert!(error.to_string().contains("bytes of names"), "{error}");
        assert!(copy.directories.len() < 12);
    }

    /// CVE-2019-14271, CVE-2021-30465 and their like.
    #[test]
    fn links_that_are_exchanged_lead_nowhere() {
        let (source, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |path: &str| source.path().join(path);
        fs::write(outside.path().join("file"), "theirs").unwrap();
        fs::create_dir_all(at("d/deep")).unwrap();
        fs::write(at("d/deep/file"), "content").unwrap();
        symlink(outside.path(), at("link")).unwrap();
        symlink(outside.path().join("file"), at("other")).unwrap();
        let root = File::open(source.path()).unwrap();
        for (one, other) in [("d/deep", "link"), ("d/deep/file", "other"), ("d", "link")] {
            exchanging(&at(one), &at(other), || {
                for _ in 0..300 {
                    let target = tempfile::tempdir().unwrap();
                    let mut copy = Copy::new(target.path(), None, 1 << 20);
                    // Whether it is there at that moment or not.
                    copy.add(root.as_fd(), Path::new(""), Path::new("d")).ok();
                    copy.finish().ok();
                    let copied = target.path().join("d/deep/file");
                    // One that is a link came as a link, which leads somewhere in a container only.
                    let is_link = |path: &Path| path.is_symlink();
                    let links = copied.ancestors().take(3).any(is_link);
                    assert!(
                        links || !fs::read_to_string(copied).is_ok_and(|it| it == "theirs"),
                        "{one}"
                    );
                }
            });
        }
    }

    #[test]
    fn what_overlaps_is_kept_once_and_no_link_is_written_through() {
        let outside = tempfile::tempdir().unwrap();
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(one.path().join("d")).unwrap();
        fs::write(one.path().join("d/file"), "content").unwrap();
        symlink("file", one.path().join("d/link")).unwrap();
        symlink(outside.path(), one.path().join("out")).unwrap();
        fs::create_dir_all(other.path().join("out/deep")).unwrap();
        fs::write(other.path().join("out/file"), "written").unwrap();
        let [first, second] = [&one, &other].map(|it| File::open(it.path()).unwrap());
        let target = tempfile::tempdir().unwrap();
        let mut copy = Copy::new(target.path(), None, 1 << 20);
        for path in ["", "d", "d/file"] {
            assert!(copy.add(first.as_fd(), Path::new(""), Path::new(path)).unwrap(), "{path}");
        }
        for path in ["out", "out/deep", "out/file"] {
            copy.add(second.as_fd(), Path::new(""), Path::new(path)).unwrap_err();
        }
        assert_eq!(fs::read_to_string(target.path().join("d/file")).unwrap(), "content");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "written outside");
    }
}
