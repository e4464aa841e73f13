//! Reading and writing the small files of a cgroup.

use std::{
    fs::{DirBuilder, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::LazyLock,
};

use crate::{
    error::{Doing as _, Result},
    kernel_file,
};

/// The whole text of a file.
pub(super) fn read(path: &Path) -> Result<String> {
    read_optional(path).and_then(|text| {
        text.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
            .system(|| format!("read `{}`", path.display()))
    })
}

/// The whole text of a file, or nothing where the kernel does not have this file.
pub(super) fn read_optional(path: &Path) -> Result<Option<String>> {
    match kernel_file::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).system(|| format!("read `{}`", path.display())),
    }
}

/// Writes a value in one call, as the kernel wants it.
pub(super) fn write(path: &Path, value: &str) -> Result<()> {
    try_write(path, value).system(|| format!("write `{value}` to `{}`", path.display()))
}

/// Writes values one after the other, each in one call.
pub(super) fn write_each(path: &Path, values: impl IntoIterator<Item = String>) -> Result<()> {
    let doing = |value: &str| format!("write `{value}` to `{}`", path.display());
    let mut file = OpenOptions::new().write(true).open(path).system(|| doing(""))?;
    for value in values {
        file.write_all(value.as_bytes()).system(|| doing(&value))?;
    }
    Ok(())
}

/// As [`write`], for callers that look at the errno.
pub(super) fn try_write(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

/// Makes the directory of a group, which everyone may look into whatever the caller's umask: the kernel
/// walks it with the rights of whoever mounts the tree in a container (cgroup_namespaces(7)).
pub(super) fn make_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().mode(GROUP_MODE).create(directory)?;
    if *KEPT_MODE == GROUP_MODE {
        return Ok(());
    }
    std::fs::set_permissions(directory, Permissions::from_mode(GROUP_MODE)).inspect_err(|_| {
        std::fs::remove_dir(directory).ok();
    })
}

/// The permissions of a group's directory.
const GROUP_MODE: u32 = 0o755;

/// What this process' umask leaves of them. It is the caller's, and none that makes groups changes it.
static KEPT_MODE: LazyLock<u32> = LazyLock::new(|| {
    let status = kernel_file::read(Path::new("/proc/self/status")).unwrap_or_default();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let umask = umask.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok());
    umask.map_or(0, |umask| GROUP_MODE & !umask)
});

/// The process ids in `cgroup.procs`. Those that the caller's pid namespace does not show come
/// as 0.
pub(super) fn processes(directory: &Path) -> Result<Vec<i32>> {
    let path = directory.join("cgroup.procs");
    let text = kernel_file::read(&path).system(|| format!("read `{}`", path.display()))?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// The groups directly below a group.
pub(super) fn children(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            children.push(entry.path());
        }
    }
    Ok(children)
}
