//! A process' mount table, as the kernel writes it (proc_pid_mountinfo(5)).

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::kernel_file;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount<'table> {
    /// Its number in this table.
    pub(crate) number: &'table str,
    /// What it shows of its file system.
    pub(crate) shown: Tree,
    /// Where it is mounted.
    pub(crate) point: PathBuf,
    /// How it propagates, such as `shared:1`; empty where it does not.
    pub(crate) propagation: Vec<&'table str>,
    /// The type of its file system.
    pub(crate) kind: &'table str,
    /// What it was made of.
    pub(crate) source: PathBuf,
    /// The options of its file system.
    pub(crate) options: &'table str,
}

/// A directory or file by its place in a file system, whatever path leads there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tree {
    /// The number of the file system, `major:minor`.
    pub(crate) device: String,
    /// The path below its root.
    pub(crate) root: PathBuf,
}

impl Tree {
    /// Whether this lies in `other`, or is it.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.device == other.device && self.root.starts_with(&other.root)
    }
}

/// The mounts of a table; lines that are none are left out.
pub(crate) fn mounts(table: &str) -> impl Iterator<Item = Mount<'_>> {
    table.lines().filter_map(mount)
}

fn mount(line: &str) -> Option<Mount<'_>> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ');
    let (number, _) = (fields.next()?, fields.next()?);
    let (device, root, point) = (fields.next()?, fields.next()?, fields.next()?);
    let mut file_system = file_system.split(' ');
    let (kind, source) = (file_system.next()?, file_system.next()?);
    Some(Mount {
        number,
        shown: Tree { device: device.to_owned(), root: unescape(root) },
        point: unescape(point),
        propagation: fields.skip(1).collect(),
        kind,
        source: unescape(source),
        options: file_system.next()?,
    })
}

/// The mount in which `path` lies, an absolute path without links.
pub(crate) fn holding<'table>(table: &'table str, path: &Path) -> Option<Mount<'table>> {
    // Of mounts on one point the last one is in sight, and `max_by_key` takes the last of equals.
    mounts(table)
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.components().count())
}

/// The places below `path` on which something is mounted.
pub(crate) fn below(table: &str, path: &Path) -> impl Iterator<Item = PathBuf> {
    let points = mounts(table).map(|mount| mount.point);
    points.filter(move |point| point != path && point.starts_with(path))
}

/// Where `path` lies, an absolute path without links.
fn tree(table: &str, path: &Path) -> Option<Tree> {
    let mount = holding(table, path)?;
    let below = path.strip_prefix(&mount.point).ok()?;
    Some(Tree { device: mount.shown.device, root: join(&mount.shown.root, below) })
}

/// Where paths of the host lie. The table is read once for each: what is mounted over one later does
/// not change where it lay when it was first asked for.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<BTreeMap<PathBuf, Option<Tree>>>);

impl Places {
    /// Where `path` lies, an absolute path without links; `None` where this process' table does not
    /// say, as in some containers.
    pub(crate) fn tree(&self, path: &Path) -> io::Result<Option<Tree>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tree) = known.get(path) {
            return Ok(tree.clone());
        }
        let tree = tree(&kernel_file::read("/proc/self/mountinfo")?, path);
        known.insert(path.to_owned(), tree.clone());
        Ok(tree)
    }
}

/// Joining an empty path would leave a trailing slash.
pub(crate) fn join(path: &Path, below: &Path) -> PathBuf {
    if below == Path::new("") { path.to_owned() } else { path.join(below) }
}

/// Undoes the octal escapes of blanks and backslashes.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let octal = |byte: &u8| (b'0'..=b'7').contains(byte).then(|| byte - b'0');
        rest = after;
        if let (b'\\', [high, middle, low, after @ ..]) = (first, after)
            && let (Some(high @ 0..=3), Some(middle), Some(low)) =
                (octal(high), octal(middle), octal(low))
        {
            bytes.push(high * 64 + middle * 8 + low);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = r"
1 0 254:1 / / rw - btrfs /dev/sda2 rw,subvol=/
2 1 0:21 / /a rw shared:9 master:1 - overlay overlay rw,lowerdir=/x
3 1 0:22 /in /a rw,relatime - nfs host:/x rw
4 1 254:2 /home/u /home/with\040blank ro - ext4 /dev/sda3 rw
none of it
";

    #[test]
    fn fields() {
        let found: Vec<_> = mounts(TABLE).collect();
        assert_eq!(found.len(), 4);
        assert_eq!(found.iter().map(|mount| mount.number).collect::<String>(), "1234");
        assert_eq!(found[1].propagation, ["shared:9", "master:1"]);
        assert_eq!((found[1].kind, found[1].options), ("overlay", "rw,lowerdir=/x"));
        assert!(found[0].propagation.is_empty());
        assert_eq!(found[3].point, Path::new("/home/with blank"));
    }

    #[test]
    fn a_path_lies_in_the_nearest_mount_in_sight() {
        let check = |path: &str, source: &str, device: &str, root: &str| {
            let path = Path::new(path);
            assert_eq!(holding(TABLE, path).unwrap().source, Path::new(source), "{path:?}");
            let expected = Tree { device: device.to_owned(), root: root.into() };
            assert_eq!(tree(TABLE, path), Some(expected), "{path:?}");
        };
        check("/", "/dev/sda2", "254:1", "/");
        check("/ab/c", "/dev/sda2", "254:1", "/ab/c");
        check("/a/b", "host:/x", "0:22", "/in/b");
        check("/home/with blank/p", "/dev/sda3", "254:2", "/home/u/p");
        assert_eq!(tree("", Path::new("/")), None);
    }

    #[test]
    fn what_is_mounted_below() {
        let check = |path: &str, expected: Option<&str>| {
            let first = below(TABLE, Path::new(path)).next();
            assert_eq!(first, expected.map(PathBuf::from), "{path}");
        };
        check("/home", Some("/home/with blank"));
        check("/home/with blank", None);
        check("/ho", None);
        check("/", Some("/a"));
    }

    #[test]
    fn trees_lie_in_others_of_their_file_system() {
        let tree = |device: &str, root: &str| Tree { device: device.to_owned(), root: root.into() };
        for (inner, outer, within) in [
            (tree("8:1", "/a/b"), tree("8:1", "/a"), true),
            (tree("8:1", "/a"), tree("8:1", "/a"), true),
            (tree("8:1", "/ab"), tree("8:1", "/a"), false),
            (tree("8:1", "/"), tree("8:1", "/a"), false),
            (tree("8:2", "/a/b"), tree("8:1", "/a"), false),
        ] {
            assert_eq!(inner.is_within(&outer), within, "{inner:?} {outer:?}");
        }
    }

    #[test]
    fn names_are_unescaped() {
        let check = |text: &str, expected: &str| {
            assert_eq!(unescape(text), Path::new(expected), "{text}");
        };
        check(r"/sys/fs/c\040g", "/sys/fs/c g");
        check(r"/a\134b\011c", "/a\\b\tc");
        check(r"/a\04", r"/a\04");
        check(r"/a\400", r"/a\400");
        check(r"\", r"\");
    }
}
