//! Removes a directory tree that a hostile job or image left behind.
//!
//! The tree may be deeper than the stack or the file descriptor limit, wider than memory, and
//! closed to its own owner. So the walk is iterative, streams each directory, holds a fixed
//! number of descriptors, opens nothing but directories and follows no link. What lies deeper is
//! moved up beside the tree's top and walked from there, which keeps every path short.
//!
//! Nothing else may be changing the tree: its processes are dead by then.

use std::{
    ffi::{CStr, CString, OsStr},
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use nix::{
    dir::{Dir, OwningIter, Type},
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat, renameat},
    sys::stat::{FchmodatFlags, Mode, SFlag, fchmod, fchmodat, fstatat},
    unistd::{UnlinkatFlags, unlinkat},
};

/// How many levels are open at once at most; each takes two descriptors.
const DEPTH: usize = 64;

/// Removes `name` below `parent`, whatever it is; that it is already gone counts as success.
///
/// A mount point inside ends it with `EBUSY`: a mount is the caller's to undo first.
pub(crate) fn remove_tree(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let name = CString::new(name.as_bytes())?;
    match unlinkat(parent, name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(error) => return Err(error.into()),
    }
    let mut removal = Removal::below(parent);
    removal.remove_directory(&name)?;
    // Every directory that was too deep is now a sibling of the tree's top.
    let mut next = 0;
    while next < removal.moved {
        let name = removal.deep_name(next)?;
        removal.remove_directory(&name)?;
        next += 1;
    }
    Ok(())
}

/// One removal below `parent`, and how many directories it had to move up so far.
struct Removal<'a> {
    parent: BorrowedFd<'a>,
    moved: u64,
    nonce: String,
}

/// A directory being emptied. The listing goes on where it was after each subdirectory, so that a
/// wide directory is read once.
struct Level {
    name: CString,
    fd: OwnedFd,
    entries: OwningIter,
    removed_any: bool,
}

impl<'a> Removal<'a> {
    fn below(parent: BorrowedFd<'a>) -> Self {
        static REMOVALS: AtomicU64 = AtomicU64::new(0);
        let count = REMOVALS.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Self { parent, moved: 0, nonce: format!("{}-{now}-{count}", std::process::id()) }
    }

    fn remove_directory(&mut self, name: &CStr) -> io::Result<()> {
        let mut levels = vec![Level::open(self.parent, name)?];
        while let Some(level) = levels.last_mut() {
            if let Some(child) = level.empty_until_directory()? {
                if levels.len() < DEPTH {
                    let above = levels.last().ok_or(Errno::EINVAL)?;
                    levels.push(Level::open(above.fd.as_fd(), &child)?);
                } else {
                    let from = levels.last().ok_or(Errno::EINVAL)?;
                    self.move_up(from.fd.as_fd(), &child)?;
                }
                continue;
            }
            let Some(level) = levels.pop() else { break };
            let removed = match levels.last_mut() {
                Some(above) => above.unlink(&level.name, UnlinkatFlags::RemoveDir),
                None => unlinkat(self.parent, level.name.as_c_str(), UnlinkatFlags::RemoveDir)
                    .map_err(io::Error::from),
            };
            match removed {
                // A file system may skip entries when others go while it lists: read it again.
                Err(error)
                    if error.raw_os_error() == Some(libc::ENOTEMPTY) && level.removed_any =>
                {
                    let above = levels.last().map_or(self.parent, |above| above.fd.as_fd());
                    let again = Level::open(above, &level.name)?;
                    levels.push(again);
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// Moves a directory that lies too deep up beside the tree's top.
    fn move_up(&mut self, from: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        // A directory that its owner may not write cannot be moved: its `..` would change.
        make_accessible(from, name)?;
        let target = self.deep_name(self.moved)?;
        match renameat(from, name, self.parent, target.as_c_str()) {
            Err(Errno::EACCES) => {
                fchmod(from, Mode::S_IRWXU)?;
                renameat(from, name, self.parent, target.as_c_str())?;
            }
            other => other?,
        }
        self.moved += 1;
        Ok(())
    }

    /// The name under which the directory number `index` that was too deep waits its turn.
    fn deep_name(&self, index: u64) -> io::Result<CString> {
        Ok(CString::new(format!(".deep-{}-{index}", self.nonce))?)
    }
}

impl Level {
    fn open(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = match openat(parent, name, flags, Mode::empty()) {
            Err(Errno::EACCES) => {
                make_accessible(parent, name)?;
                openat(parent, name, flags, Mode::empty())?
            }
            other => other?,
        };
        let entries = Dir::from_fd(fd.try_clone()?)?.into_iter();
        Ok(Self { name: name.to_owned(), fd, entries, removed_any: false })
    }

    /// Removes entries up to the next that is itself a directory, and names it; `None` at the end.
    fn empty_until_directory(&mut self) -> io::Result<Option<CString>> {
        while let Some(entry) = self.entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if entry.file_type() == Some(Type::Directory) {
                self.removed_any = true;
                return Ok(Some(name.to_owned()));
            }
            match self.unlink(name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) => self.removed_any = true,
                // Some file systems do not tell the type while listing.
                Err(error) if error.raw_os_error() == Some(libc::EISDIR) => {
                    self.removed_any = true;
                    return Ok(Some(name.to_owned()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Unlinks an entry, first opening the directory to its owner where it is closed.
    fn unlink(&self, name: &CStr, flag: UnlinkatFlags) -> io::Result<()> {
        let removed = match unlinkat(&self.fd, name, flag) {
            Err(Errno::EACCES) => {
                fchmod(&self.fd, Mode::S_IRWXU)?;
                unlinkat(&self.fd, name, flag)
            }
            other => other,
        };
        match removed {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Gives the owner of a directory the right to list and change it.
fn make_accessible(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let stat = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFDIR {
        return Err(Errno::ENOTDIR.into());
    }
    if stat.st_mode & 0o700 == 0o700 {
        return Ok(());
    }
    // Following is harmless: the entry was just seen to be a directory and nothing else runs.
    Ok(fchmodat(parent, name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?)
}

#[cfg(test)]
mod tests {
    use std::{fs, fs::File, os::unix::fs::PermissionsExt as _, path::Path};

    use nix::{fcntl::open, sys::stat::mkdirat};

    use super::*;

    /// Builds a tree with `make` in a fresh directory and checks that removal leaves only the
    /// bystander that was there before.
    fn check(make: impl FnOnce(&Path)) {
        check_in(&tempfile::tempdir().unwrap(), make);
    }

    fn check_in(directory: &tempfile::TempDir, make: impl FnOnce(&Path)) {
        let bystander = directory.path().join("bystander");
        fs::create_dir(&bystander).unwrap();
        fs::write(bystander.join("file"), "kept").unwrap();
        make(&directory.path().join("tree"));
        let parent = File::open(directory.path()).unwrap();
        remove_tree(parent.as_fd(), OsStr::new("tree")).unwrap();
        let left: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["bystander"]);
        assert_eq!(fs::read_to_string(bystander.join("file")).unwrap(), "kept");
    }

    #[test]
    fn what_is_already_gone_is_success() {
        check(|_| {});
    }

    #[test]
    fn files_links_and_fifos_go_and_link_targets_stay() {
        check(|tree| fs::write(tree, "a file at the top").unwrap());
        check(|tree| std::os::unix::fs::symlink("bystander", tree).unwrap());
        check(|tree| {
            fs::create_dir(tree).unwrap();
            std::os::unix::fs::symlink("../bystander", tree.join("link")).unwrap();
            fs::hard_link(tree.join("../bystander/file"), tree.join("hard")).unwrap();
            nix::unistd::mkfifo(&tree.join("fifo"), Mode::S_IRWXU).unwrap();
        });
    }

    #[test]
    fn a_wide_directory_goes() {
        check(|tree| {
            for index in 0..300 {
                fs::create_dir_all(tree.join(format!("d{index}/inner"))).unwrap();
                fs::write(tree.join(format!("f{index}")), "").unwrap();
            }
        });
    }

    /// 10 000 levels: longer than any path may be, and many times deeper than the walk holds open; some
    /// are closed to their owner.
    #[test]
    fn a_deep_tree_goes() {
        // In memory where there is such a place: a disk takes a millisecond for each directory.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        check_in(&directory, |tree| {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            let beside = open(tree.parent().unwrap(), flags, Mode::empty()).unwrap();
            // Pieces, each hung below the lowest level of the next: it is made without going deep,
            // where each step costs more on some hosts.
            let mut above: Option<CString> = None;
            for piece in 0..100 {
                let name = if piece == 99 { "tree".to_owned() } else { format!("piece-{piece}") };
                let name = CString::new(name).unwrap();
                mkdirat(&beside, name.as_c_str(), Mode::S_IRWXU).unwrap();
                let mut fd = openat(&beside, name.as_c_str(), flags, Mode::empty()).unwrap();
                for level in 0..100 {
                    mkdirat(&fd, "deeper", Mode::S_IRWXU).unwrap();
                    mkdirat(&fd, "beside", Mode::S_IRWXU).unwrap();
                    let next = openat(&fd, "deeper", flags, Mode::empty()).unwrap();
                    if level == 50 {
                        fchmod(&fd, Mode::empty()).unwrap();
                    }
                    fd = next;
                }
                if let Some(above) = above.replace(name) {
                    renameat(&beside, above.as_c_str(), &fd, "deeper").unwrap();
                }
            }
        });
    }

    /// `COFFERDAM_HOSTILE_FILES` says how many (20 000 unless told otherwise; the full proof is a
    /// million).
    #[test]
    fn many_files_go() {
        let files = std::env::var("COFFERDAM_HOSTILE_FILES")
            .map_or(20_000, |text| text.parse().expect("COFFERDAM_HOSTILE_FILES: a number"));
        check(|tree| {
            fs::create_dir_all(tree.join("below")).unwrap();
            let first = tree.join("first");
            fs::write(&first, "").unwrap();
            // Names cost less than inodes; a file system may allow few names for each, though.
            for index in 0..files {
                let name =
                    tree.join(if index % 2 == 0 { "below" } else { "" }).join(index.to_string());
                if index % 100 == 0 || fs::hard_link(&first, &name).is_err() {
                    fs::write(&name, "").unwrap();
                }
            }
        });
    }

    #[test]
    fn directories_closed_to_their_owner_go() {
        check(|tree| {
            fs::create_dir_all(tree.join("closed/inner")).unwrap();
            fs::write(tree.join("closed/file"), "").unwrap();
            fs::set_permissions(tree.join("closed/inner"), fs::Permissions::from_mode(0o0))
                .unwrap();
            fs::set_permissions(tree.join("closed"), fs::Permissions::from_mode(0o500)).unwrap();
            fs::set_permissions(tree, fs::Permissions::from_mode(0o0)).unwrap();
        });
    }
}
