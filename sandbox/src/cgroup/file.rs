//! Reading and writing the small files of a cgroup.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
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
