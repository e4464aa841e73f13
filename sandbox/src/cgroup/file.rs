//! Reading and writing the small files of a cgroup.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use crate::error::{Doing as _, Result};

/// No file read here is longer, except `cgroup.procs`, which is read to its end.
const LONGEST: u64 = 64 * 1024;

/// The whole text of a file.
pub(super) fn read(path: &Path) -> Result<String> {
    read_optional(path).and_then(|text| {
        text.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
            .system(|| format!("read `{}`", path.display()))
    })
}

/// The whole text of a file, or nothing where the kernel does not have this file.
pub(super) fn read_optional(path: &Path) -> Result<Option<String>> {
    let mut text = String::new();
    let result =
        File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text).map(|_| ()));
    match result {
        Ok(()) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).system(|| format!("read `{}`", path.display())),
    }
}

/// Writes a value in one call, as the kernel wants it.
pub(super) fn write(path: &Path, value: &str) -> Result<()> {
    try_write(path, value).system(|| format!("write `{value}` to `{}`", path.display()))
}

/// As [`write`], for callers that look at the errno.
pub(super) fn try_write(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

/// The process ids in `cgroup.procs`. Those that the caller's pid namespace does not show come
/// as 0.
pub(super) fn processes(directory: &Path) -> Result<Vec<i32>> {
    let path = directory.join("cgroup.procs");
    let text = std::fs::read_to_string(&path).system(|| format!("read `{}`", path.display()))?;
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
