//! Takes files out of a container that has ended: artifacts, results, outputs of steps.
//!
//! The tree belongs to the job and may hold anything: links that lead out, devices, pipes that
//! block, ten thousand levels. Nothing but regular files, directories and links that stay inside
//! comes out, and what was selected and did not is told; every name is opened beneath the tree without
//! following a link, and number, size and depth are bounded. Other mounts are not entered: the reader is the host's root, who could read
//! in `/sys` and in what the operator shows what the job itself could not.

mod destination;
mod left_out;
mod walk;

use std::{
    fs::{File, Permissions},
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    dir::Type,
    fcntl::{OFlag, readlinkat},
    sys::stat::{SFlag, fstat},
};

use crate::{
    error::{Doing as _, Error, Result},
    image::{Algorithm, Digest, HashingReader},
    sys::beneath,
};
use destination::Destination;
pub use left_out::{LeftOut, Reason};

/// How much may come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportLimits {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Number of files and links.
    pub files: usize,
}

impl Default for ExportLimits {
    /// 1 GiB in 100 000 files.
    fn default() -> Self {
        Self { bytes: 1 << 30, files: 100_000 }
    }
}

/// A file that came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Path relative to the directory that was looked through.
    pub path: PathBuf,
    /// Bytes; 0 for a link.
    pub bytes: u64,
    /// SHA-256 of its content; of a link, that of the path it leads to.
    pub digest: Digest,
    /// Whether it is a link, which may lead to a directory, to nothing, or to itself.
    pub is_link: bool,
}

/// What came out, and what did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// Files and links, in order of their names.
    pub files: Vec<Exported>,
    /// What was selected and cannot come out.
    pub left_out: LeftOut,
}

/// Opens `path` beneath `root`, following no link and waiting for nobody; absolute paths count from
/// `root`.
fn open_beneath(root: BorrowedFd<'_>, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let path = path.strip_prefix("/").unwrap_or(path);
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    beneath::open_beneath(root, path, flags | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
}

/// Whether a failure to open means that nothing of that kind is there: it is missing, a link, a
/// device without a driver, or on another mount.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENXIO | libc::EXDEV)
    )
}

/// Opens a regular file beneath `root`; `None` when there is none.
fn open_file(root: BorrowedFd<'_>, path: &Path) -> io::Result<Option<(File, u64)>> {
    let file = match open_beneath(root, path, OFlag::O_RDONLY) {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let status = fstat(&file)?;
    if SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Ok(None);
    }
    Ok(Some((File::from(file), u64::try_from(status.st_size).unwrap_or(0))))
}

/// Reads a regular file beneath `root`, at most `limit` bytes of it; `None` when there is none.
///
/// # Errors
/// When the file cannot be read, or is larger.
pub fn read_file(root: BorrowedFd<'_>, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let doing = || format!("read `{}` of the container", path.display());
    let Some((file, _)) = open_file(root, path).pipeline(doing)? else { return Ok(None) };
    let mut content = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut content).pipeline(doing)?;
    if content.len() as u64 > limit {
        return Err(Error::pipeline(doing(), format!("it is larger than {limit} bytes")));
    }
    Ok(Some(content))
}

/// Copies what `select` wants of the directory `base` beneath `root` into `target` on the host,
/// which is made where it is missing. The files belong to the caller.
///
/// # Errors
/// With [`crate::Fault::Pipeline`] when the limits are exceeded, with [`crate::Fault::System`]
/// when `target` cannot be written.
pub fn export(
    root: BorrowedFd<'_>,
    base: &Path,
    select: &dyn Fn(&Path) -> bool,
    target: &Path,
    limits: ExportLimits,
) -> Result<Export> {
    let mut export = Export::default();
    let base = match open_beneath(root, base, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
        Ok(base) => base,
        Err(error) if is_absent(&error) => return Ok(export),
        Err(error) => {
            return Err(Error::pipeline(
                format!("open `{}` of the container", base.display()),
                error,
            ));
        }
    };
    let write = || format!("write to `{}`", target.display());
    let destination = Destination::open(target).system(write)?;
    let mut left = limits.bytes;
    for (path, kind) in walk::selected(base.as_fd(), select, &mut export.left_out)? {
        if export.files.len() >= limits.files {
            return Err(Error::pipeline(
                format!("take `{}` out of the container", path.display()),
                format!("more than {} files are selected", limits.files),
            )
            .remedy("select fewer, or pack them into one file in the job"));
        }
        let copied = if kind == Type::Symlink {
            copy_link(base.as_fd(), &path, &destination)?
        } else {
            copy_file(base.as_fd(), &path, &destination, left, limits.bytes)?
        };
        match copied {
            Some(copied) => {
                left = left.saturating_sub(copied.bytes);
                export.files.push(copied);
            }
            None if kind == Type::Symlink => export.left_out.add(path, Reason::LeadsOut),
            None => export.left_out.add(path, Reason::NoFile),
        }
    }
    Ok(export)
}

fn copy_file(
    base: BorrowedFd<'_>,
    path: &Path,
    destination: &Destination,
    left: u64,
    limit: u64,
) -> Result<Option<Exported>> {
    let doing = || format!("take `{}` out of the container", path.display());
    let Some((source, size)) = open_file(base, path).pipeline(doing)? else { return Ok(None) };
    if size > left {
        return Err(Error::pipeline(
            doing(),
            format!("the files are larger than {limit} bytes together"),
        )
        .remedy("select fewer of them"));
    }
    let executable = source.metadata().pipeline(doing)?.permissions().mode() & 0o111 != 0;
    let mut source = HashingReader::new(source.take(left), Algorithm::Sha256);
    let mut write = || -> io::Result<u64> {
        let mut file = destination.create_file(path)?;
        let copied = io::copy(&mut source, &mut file)?;
        let mode = if executable { 0o755 } else { 0o644 };
        file.set_permissions(Permissions::from_mode(mode))?;
        Ok(copied)
    };
    let bytes = write().system(|| format!("write `{}`", path.display()))?;
    let (_, digest, _) = source.finish();
    Ok(Some(Exported { bytes, digest, is_link: false, path: path.to_owned() }))
}

/// Copies a link that leads to something inside the exported tree; others do not come out.
fn copy_link(
    base: BorrowedFd<'_>,
    path: &Path,
    destination: &Destination,
) -> Result<Option<Exported>> {
    let doing = || format!("take the link `{}` out of the container", path.display());
    let parent = path.parent().unwrap_or_else(|| Path::new(""));
    let name = path.file_name().unwrap_or_default();
    let directory =
        open_beneath(base, parent, OFlag::O_RDONLY | OFlag::O_DIRECTORY).pipeline(doing)?;
    let Ok(link) = readlinkat(&directory, name) else { return Ok(None) };
    if !stays_inside(parent, Path::new(&link)) {
        return Ok(None);
    }
    destination
        .create_link(path, &link)
        .system(|| format!("write the link `{}`", path.display()))?;
    Ok(Some(Exported {
        bytes: 0,
        digest: Digest::of(link.as_bytes()),
        is_link: true,
        path: path.to_owned(),
    }))
}

/// Whether a link in the directory `parent` stays below the exported tree whatever the links are
/// that it leads through: `..` behind a name could be the parent of wherever that name leads.
fn stays_inside(parent: &Path, link: &Path) -> bool {
    let mut depth = Some(parent.components().count());
    for component in link.components() {
        depth = match component {
            Component::CurDir => depth,
            Component::Normal(_) => Some(0),
            Component::ParentDir => depth.and_then(|depth| depth.checked_sub(1)),
            Component::RootDir | Component::Prefix(_) => None,
        };
        if depth.is_none() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use nix::sys::stat::Mode;

    use super::*;
    use crate::tests::exchanging;

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let path = tree.path();
        fs::create_dir_all(path.join("dist/deep")).unwrap();
        fs::write(path.join("dist/app"), "program").unwrap();
        fs::set_permissions(path.join("dist/app"), Permissions::from_mode(0o4777)).unwrap();
        fs::write(path.join("dist/deep/note"), "text").unwrap();
        symlink("deep/note", path.join("dist/inside")).unwrap();
        symlink("/etc/passwd", path.join("dist/absolute")).unwrap();
        symlink("../../etc/passwd", path.join("dist/climbing")).unwrap();
        symlink("/", path.join("dist/directory")).unwrap();
        nix::unistd::mkfifo(&path.join("dist/pipe"), Mode::from_bits_truncate(0o644)).unwrap();
        tree
    }

    fn run(tree: &Path, limits: ExportLimits) -> (tempfile::TempDir, Result<Export>) {
        let target = tempfile::tempdir().unwrap();
        let root = File::open(tree).unwrap();
        let result = export(root.as_fd(), Path::new("/dist"), &|_| true, target.path(), limits);
        (target, result)
    }

    #[test]
    fn only_harmless_files_come_out() {
        let tree = tree();
        let (target, result) = run(tree.path(), ExportLimits::default());
        let Export { files, left_out } = result.unwrap();
        let paths: Vec<_> = files.into_iter().map(|it| (it.path, it.bytes)).collect();
        let expected =
            [("app", 7), ("deep/note", 4), ("inside", 0)].map(|(path, bytes)| (path.into(), bytes));
        assert_eq!(paths, expected);
        assert_eq!(
            left_out.to_string(),
            "`absolute` leads out, `climbing` leads out, `directory` leads out, `pipe` is no file"
        );
        let mode = fs::metadata(target.path().join("app")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755, "no set-user-id bit comes out");
        assert_eq!(fs::read_to_string(target.path().join("inside")).unwrap(), "text");
    }

    #[test]
    fn only_links_that_stay_inside_come_out() {
        let check = |parent: &str, link: &str, expected: bool| {
            assert_eq!(stays_inside(Path::new(parent), Path::new(link)), expected, "{link}");
        };
        check("", "a", true);
        check("", "./a/b", true);
        check("a/b", "../../c/d", true);
        check("a", "..", true);
        check("a", "../..", false);
        check("", "../a", false);
        check("", "/a", false);
        // With a link `a/b` to `..`, this would be two levels above the tree.
        check("", "a/b/../..", false);
        check("a/b", "c/..", false);
    }

    #[test]
    fn a_link_that_came_out_before_is_not_written_through() {
        let (target, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("note"), "theirs").unwrap();
        symlink(outside.path(), target.path().join("deep")).unwrap();
        symlink(outside.path().join("note"), target.path().join("app")).unwrap();
        let tree = tree();
        let root = File::open(tree.path()).unwrap();
        let base = Path::new("/dist");
        export(root.as_fd(), base, &|_| true, target.path(), ExportLimits::default()).unwrap();
        assert_eq!(fs::read_to_string(outside.path().join("note")).unwrap(), "theirs");
        assert_eq!(fs::read_to_string(target.path().join("deep/note")).unwrap(), "text");
        assert_eq!(fs::read_to_string(target.path().join("app")).unwrap(), "program");
    }

    /// CVE-2019-14271, CVE-2021-30465 and their like.
    #[test]
    fn links_that_are_exchanged_lead_nowhere() {
        let (tree, outside) = (tree(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("note"), "theirs").unwrap();
        let at = |path: &str| tree.path().join(path);
        symlink(outside.path(), at("link")).unwrap();
        symlink(outside.path().join("note"), at("file")).unwrap();
        let root = File::open(tree.path()).unwrap();
        for (one, other) in [("dist/deep", "link"), ("dist/deep/note", "file")] {
            exchanging(&at(one), &at(other), || {
                for _ in 0..300 {
                    // Whether it is there at that moment or not.
                    let (target, _) = run(tree.path(), ExportLimits::default());
                    let taken = fs::read_to_string(target.path().join("deep/note"));
                    assert!(!taken.is_ok_and(|it| it != "text"), "{one}");
                    let read = read_file(root.as_fd(), Path::new("dist/deep/note"), 10);
                    assert!(read.ok().flatten().is_none_or(|it| it == b"text"), "{one}");
                }
            });
        }
    }

    #[test]
    fn too_much_is_refused() {
        let tree = tree();
        for limits in [ExportLimits { bytes: 8, files: 10 }, ExportLimits { bytes: 1000, files: 2 }]
        {
            let (_target, result) = run(tree.path(), limits);
            assert_eq!(result.unwrap_err().fault(), crate::Fault::Pipeline, "{limits:?}");
        }
    }

    #[test]
    fn a_file_is_read_beneath_its_root_only() {
        let tree = tree();
        let root = File::open(tree.path()).unwrap();
        let read = |path: &str| read_file(root.as_fd(), Path::new(path), 10);
        assert_eq!(read("/dist/deep/note").unwrap().as_deref(), Some(&b"text"[..]));
        for missing in [
            "/none",
            "dist/pipe",
            "dist/absolute",
            "dist/directory/etc/passwd",
            "dist",
            "../etc/passwd",
        ] {
            assert!(matches!(read(missing), Ok(None)), "{missing}");
        }
        assert!(read_file(root.as_fd(), Path::new("dist/app"), 3).is_err());
    }
}
