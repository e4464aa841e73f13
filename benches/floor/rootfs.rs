//! The root file system that every subject starts: a static busybox, in a directory of its own.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// Where a static busybox may be.
const BUSYBOX: [&str; 3] =
    ["/bin/busybox", "/usr/bin/busybox", "/usr/lib/initramfs-tools/bin/busybox"];
const APPLETS: [&str; 10] =
    ["cat", "grep", "head", "id", "sh", "sleep", "test", "touch", "true", "yes"];

/// It is removed when dropped.
#[derive(Debug)]
pub(crate) struct Rootfs(TempDir);

impl Rootfs {
    pub(crate) fn make() -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let all = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), all.clone())?;
        let root = layer(directory.path());
        for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            fs::create_dir_all(root.join(name))?;
        }
        let busybox = BUSYBOX.iter().find(|path| Path::new(path).exists()).ok_or_else(|| {
            let why = "there is no static busybox; Debian's package is `busybox-static`";
            io::Error::new(io::ErrorKind::NotFound, why)
        })?;
        fs::copy(busybox, root.join("bin/busybox"))?;
        fs::set_permissions(root.join("bin/busybox"), all)?;
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet))?;
        }
        Ok(Self(directory))
    }

    /// Its directory, which has room for whatever else a subject needs.
    pub(crate) fn directory(&self) -> &Path {
        self.0.path()
    }

    /// Writes it as an archive, in which all files are root's.
    pub(crate) fn archive(&self, archive: &Path) -> io::Result<()> {
        let mut builder = tar::Builder::new(io::BufWriter::new(fs::File::create(archive)?));
        builder.follow_symlinks(false);
        builder.mode(tar::HeaderMode::Deterministic);
        builder.append_dir_all(".", layer(self.directory()))?;
        builder.into_inner()?.flush()
    }
}

/// The root file system in the directory of a [`Rootfs`], to be read only.
pub(crate) fn layer(directory: &Path) -> PathBuf {
    directory.join("rootfs")
}
