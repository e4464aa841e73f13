//! Which directories of a full file system hold most, for the sentence that says it is full.
//!
//! The job may still be running, and whatever it made is there: links are not followed, and
//! entries, depth and time are bounded. What is not reached is not counted, so the answer is a
//! hint and not an account.

use std::{
    collections::{BTreeMap, HashSet},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    dir::{Dir, OwningIter},
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{FileStat, Mode, SFlag, fstatat},
};

/// How many directories are named at most.
const NAMED: usize = 3;
/// Components of a directory's path; what lies deeper counts as part of it.
const COMPONENTS: usize = 2;
/// Entries that are looked at.
const ENTRIES: usize = 200_000;
/// Levels that are looked into; each holds two descriptors.
const DEPTH: usize = 32;
/// Directories that are told apart at most; more count as part of those above them.
const TOLD_APART: usize = 10_000;
/// How long it may take.
const PATIENCE: Duration = Duration::from_millis(250);
/// Bytes of a block as `stat(2)` counts them, whatever the file system's are.
const COUNTED_BLOCK: u64 = 512;

/// A directory being read.
struct Level {
    directory: OwnedFd,
    entries: OwningIter,
    /// The directory that its files count for.
    counted_for: String,
    components: usize,
}

impl Level {
    /// `None` where it cannot be read, is a link, or has gone.
    fn open<P: nix::NixPath + ?Sized>(
        at: BorrowedFd<'_>,
        name: &P,
        counted_for: String,
        components: usize,
    ) -> Option<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = openat(at, name, flags, Mode::empty()).ok()?;
        let entries = Dir::from_fd(directory.try_clone().ok()?).ok()?.into_iter();
        Some(Self { directory, entries, counted_for, components })
    }
}

/// The largest directories below `top`, largest first; `shown` maps names in `top` to paths.
pub(super) fn directories(top: BorrowedFd<'_>, shown: &[(&str, &str)]) -> Vec<(String, u64)> {
    let mut walk = Walk {
        bytes: BTreeMap::new(),
        linked: HashSet::new(),
        left: ENTRIES,
        deadline: Instant::now() + PATIENCE,
    };
    for (name, path) in shown {
        let components = path.split('/').filter(|part| !part.is_empty()).count();
        if let Some(level) = Level::open(top, *name, (*path).to_owned(), components) {
            walk.run(level);
        }
    }
    let mut found: Vec<_> = walk.bytes.into_iter().filter(|(_, bytes)| *bytes > 0).collect();
    found.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    found.truncate(NAMED);
    for (path, _) in &mut found {
        if path.is_empty() {
            path.push('/');
        }
    }
    found
}

struct Walk {
    bytes: BTreeMap<String, u64>,
    /// Inodes with several names that were counted.
    linked: HashSet<u64>,
    left: usize,
    deadline: Instant,
}

impl Walk {
    fn run(&mut self, first: Level) {
        let mut levels = vec![first];
        while let Some(level) = levels.last_mut() {
            let Some(Ok(entry)) = level.entries.next() else {
                levels.pop();
                continue;
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if self.left == 0 || Instant::now() > self.deadline {
                return;
            }
            self.left -= 1;
            let status = fstatat(&level.directory, name, AtFlags::AT_SYMLINK_NOFOLLOW);
            let Ok(status) = status else { continue };
            self.count(&level.counted_for, &status);
            let is_directory =
                SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR;
            if !is_directory || levels.len() >= DEPTH {
                continue;
            }
            let Some(level) = levels.last() else { return };
            let components = level.components + 1;
            let counted_for = if components > COMPONENTS || self.bytes.len() >= TOLD_APART {
                level.counted_for.clone()
            } else {
                format!("{}/{}", level.counted_for, printable(&name.to_string_lossy()))
            };
            let below = Level::open(level.directory.as_fd(), name, counted_for, components);
            levels.extend(below);
        }
    }

    fn count(&mut self, directory: &str, status: &FileStat) {
        if status.st_nlink > 1
            && SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT != SFlag::S_IFDIR
            && !self.linked.insert(status.st_ino)
        {
            return;
        }
        let bytes = u64::try_from(status.st_blocks).unwrap_or(0).saturating_mul(COUNTED_BLOCK);
        match self.bytes.get_mut(directory) {
            Some(sum) => *sum = sum.saturating_add(bytes),
            None => drop(self.bytes.insert(directory.to_owned(), bytes)),
        }
    }
}

/// A job chooses its names, and they are shown in terminals.
fn printable(name: &str) -> String {
    name.replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn files_count_for_the_directory_two_levels_down() {
        let top = tempfile::tempdir().unwrap();
        let write = |path: &str, kib: usize| {
            let path = top.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![1; kib * 1024]).unwrap();
        };
        write("root/tmp/big", 400);
        write("root/root/.cargo/registry/src/deep", 300);
        write("root/var/small", 100);
        write("workspace/target/debug/a", 256);
        write("workspace/target/debug/b", 256);
        fs::hard_link(top.path().join("root/tmp/big"), top.path().join("root/var/again")).unwrap();
        std::os::unix::fs::symlink("/", top.path().join("workspace/link")).unwrap();
        let file = fs::File::open(top.path()).unwrap();
        let found = directories(file.as_fd(), &[("root", ""), ("workspace", "/workspace")]);
        let names: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
        // Which of the two names of one file is met first is the file system's to say.
        assert_eq!(names[0], "/workspace/target");
        assert!(names.contains(&"/root/.cargo"), "{found:?}");
        assert_eq!(found.len(), NAMED);
        assert!(found[0].1 >= 512 * 1024, "{found:?}");
    }

    #[test]
    fn a_tree_deeper_than_the_bound_is_survived() {
        let top = tempfile::tempdir().unwrap();
        let mut path = top.path().join("root");
        for _ in 0..60 {
            path.push("d");
        }
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("far"), [1; 4096]).unwrap();
        let file = fs::File::open(Path::new(top.path())).unwrap();
        directories(file.as_fd(), &[("root", ""), ("missing", "/missing")]);
    }
}
