//! Making the host image's layer: directories, generated files, and copies of public ones.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown,
        symlink,
    },
    path::Path,
};

use super::{
    fingerprint::varying,
    sources::{ETC, MERGED, is_private},
};
use crate::ids;

/// The account that a step may run as when it should not be root.
pub(super) const CI: u32 = 1000;

/// Directories with their modes. Mount points are made as well: they cannot be made below a
/// read-only root.
const DIRECTORIES: [(&str, u32); 21] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("home/ci", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("run/lock", 0o1777),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
    ("workspace", 0o755),
];

const FILES: [(&str, &str); 4] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\n\
         ci:x:1000:1000:ci:/home/ci:/bin/sh\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    ("etc/group", "root:x:0:\ntty:x:5:\nci:x:1000:\nnogroup:x:65534:\n"),
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n\
         protocols: files\nservices: files\nethers: files\nrpc: files\n",
    ),
    // Mounted over, each container's own.
    ("etc/resolv.conf", ""),
];

/// Bounds of what is copied: a directory of `/etc` that someone filled must not fill the store.
const FILE: u64 = 8 << 20;
const ENTRIES: usize = 20_000;
const DEPTH: usize = 8;

/// Makes the layer at `diff` from the host's files below `root`.
pub(super) fn skeleton(root: &Path, diff: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(diff)?;
    fs::set_permissions(diff, fs::Permissions::from_mode(0o755))?;
    for (name, mode) in DIRECTORIES {
        let path = diff.join(name);
        DirBuilder::new().create(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    if let Some(owner) = ids::owner(CI) {
        lchown(diff.join("home/ci"), Some(owner), Some(owner))?;
    }
    symlink("/run", diff.join("var/run"))?;
    symlink("/run/lock", diff.join("var/lock"))?;
    symlink("/proc/self/mounts", diff.join("etc/mtab"))?;
    for (name, content) in FILES {
        write(&diff.join(name), content.as_bytes(), 0o644)?;
    }
    for name in MERGED {
        let source = root.join(name);
        match source.symlink_metadata() {
            Ok(metadata) if metadata.is_symlink() => {
                symlink(fs::read_link(&source)?, diff.join(name))?;
            }
            // A mount point.
            Ok(metadata) if metadata.is_dir() => fs::create_dir(diff.join(name))?,
            _ => {}
        }
    }
    let (source, target) = (root.join("etc"), diff.join("etc"));
    let mut left = ENTRIES;
    for name in ETC.into_iter().map(str::to_owned).chain(varying(&source)) {
        if let Some(parent) = Path::new(&name).parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(target.join(parent))?;
        }
        copy(&source.join(&name), &target.join(&name), DEPTH, &mut left)?;
    }
    Ok(())
}

/// Copies a file that everyone may read, a link as it is, or a directory of these. What is absent
/// or not for everyone is left out: the image is for looking at, and a tool that misses a file
/// says so itself.
fn copy(source: &Path, target: &Path, depth: usize, left: &mut usize) -> io::Result<()> {
    let name = source.file_name().unwrap_or_default().to_string_lossy();
    let Ok(metadata) = source.symlink_metadata() else { return Ok(()) };
    if is_private(&name) || *left == 0 {
        return Ok(());
    }
    *left -= 1;
    if metadata.is_symlink() {
        return symlink(fs::read_link(source)?, target);
    }
    if metadata.is_dir() && metadata.mode() & 0o005 == 0o005 && depth > 0 {
        DirBuilder::new().mode(0o755).create(target)?;
        for entry in fs::read_dir(source)? {
            let entry = entry?;
            copy(&entry.path(), &target.join(entry.file_name()), depth - 1, left)?;
        }
        return Ok(());
    }
    if metadata.is_file() && metadata.mode() & 0o004 != 0 && metadata.len() <= FILE {
        let mut content = Vec::new();
        File::open(source)?.take(FILE).read_to_end(&mut content)?;
        let executable = metadata.mode() & 0o111;
        write(target, &content, 0o644 | executable)?;
    }
    Ok(())
}

fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.set_permissions(fs::Permissions::from_mode(mode))
}
