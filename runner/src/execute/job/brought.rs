//! The artifacts of needed jobs, at the paths that they had, as a layer over the project.
//!
//! They are linked into a tree that stands for the container's `/`, so bringing them takes no room
//! and no time; where the tree and the results lie on different file systems, they are copied.

use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions},
    io,
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
    path::{Component, Path, PathBuf},
};

use cofferdam_jobs::state::Fault;
use cofferdam_sandbox::WORKSPACE;
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, OFlag, openat},
    libc,
    sys::stat::{Mode, fchmod, mkdirat},
    unistd::{linkat, symlinkat},
};
use tempfile::TempDir;

/// Where the trees are, below the run's directory.
pub(in crate::execute) const DIRECTORY: &str = "brought";

/// What one job brings.
#[derive(Debug)]
pub(in crate::execute) struct Brings {
    /// The job's name.
    pub(in crate::execute) job: String,
    /// Where its artifacts are.
    pub(in crate::execute) directory: PathBuf,
    /// Their paths there.
    pub(in crate::execute) files: Vec<PathBuf>,
}

/// Makes the tree for a job whose steps start in `workdir`; it goes when dropped.
pub(in crate::execute) fn tree(
    run: &Path,
    workdir: Option<&str>,
    brings: &[Brings],
) -> Result<TempDir, (Fault, String)> {
    let system = |error: io::Error| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        let why = source.unwrap_or_else(|| error.to_string());
        (Fault::System, format!("failed to bring the artifacts of other jobs: {why}"))
    };
    let make = || -> io::Result<TempDir> {
        fs::create_dir_all(run.join(DIRECTORY))?;
        let tree = TempDir::new_in(run.join(DIRECTORY))?;
        fs::set_permissions(tree.path(), Permissions::from_mode(0o755))?;
        Ok(tree)
    };
    let tree = make().map_err(system)?;
    let root = OwnedFd::from(File::open(tree.path()).map_err(system)?);
    let workdir = Path::new(workdir.unwrap_or(WORKSPACE));
    let base = Path::new(WORKSPACE).join(workdir);
    let mut whose: BTreeMap<&Path, &str> = BTreeMap::new();
    for Brings { job, directory, files } in brings {
        for file in files {
            if let Some(other) = whose.insert(file, job) {
                let file = file.display();
                let message = format!("`{other}` and `{job}` both bring the artifact `{file}`");
                return Err((Fault::Pipeline, message));
            }
            let inside = base.join(file);
            place(&root, &inside, &directory.join(file)).map_err(|error| {
                if !is_in_the_way(&error) {
                    return system(error);
                }
                let file = file.display();
                let why = "what is a directory of one job is none of another";
                (Fault::Pipeline, format!("the artifact `{file}` of `{job}` has no place: {why}"))
            })?;
        }
    }
    Ok(tree)
}

/// Puts the artifact `source` at `inside` of `tree`. No link is followed that another job has
/// brought: links that stay inside of the artifacts of each may lead anywhere from those of two.
fn place(tree: &OwnedFd, inside: &Path, source: &Path) -> io::Result<()> {
    let names = inside.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let names: Vec<_> = names.collect();
    let Some((name, parents)) = names.split_last() else { return Ok(()) };
    let mut directory = tree.try_clone()?;
    for parent in parents {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let open = |directory: &OwnedFd| openat(directory, *parent, flags, Mode::empty());
        directory = match mkdirat(&directory, *parent, Mode::S_IRWXU) {
            Ok(()) => {
                let made = open(&directory)?;
                // Whoever a step runs as may add to them, as to the workspace.
                fchmod(&made, Mode::from_bits_truncate(0o777))?;
                made
            }
            Err(Errno::EEXIST) => open(&directory)?,
            Err(error) => return Err(error.into()),
        };
    }
    if source.symlink_metadata()?.is_symlink() {
        return Ok(symlinkat(fs::read_link(source)?.as_path(), &directory, *name)?);
    }
    match linkat(AT_FDCWD, source, &directory, *name, AtFlags::empty()) {
        Err(Errno::EXDEV) => {
            let mut source = File::open(source)?;
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let mut copy = File::from(openat(&directory, *name, flags, Mode::S_IRWXU)?);
            io::copy(&mut source, &mut copy)?;
            copy.set_permissions(source.metadata()?.permissions())
        }
        other => Ok(other?),
    }
}

/// Whether what one job brings stands where another's has to be.
fn is_in_the_way(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EEXIST | libc::ENOTDIR | libc::ELOOP))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_keep_their_paths_below_the_working_directory() {
        let run = tempfile::tempdir().unwrap();
        let artifacts = run.path().join("artifacts/a");
        fs::create_dir_all(artifacts.join("deep")).unwrap();
        fs::write(artifacts.join("deep/file"), "content").unwrap();
        symlink("file", artifacts.join("deep/link")).unwrap();
        let brings = |job: &str| Brings {
            job: job.to_owned(),
            directory: artifacts.clone(),
            files: vec!["deep/file".into(), "deep/link".into()],
        };
        for (workdir, place) in
            [(None, "workspace"), (Some("sub"), "workspace/sub"), (Some("/srv/app"), "srv/app")]
        {
            let tree = tree(run.path(), workdir, &[brings("a")]).unwrap();
            let link = tree.path().join(place).join("deep/link");
            assert_eq!(fs::read_to_string(link).unwrap(), "content", "{workdir:?}");
        }
        let (fault, message) = tree(run.path(), None, &[brings("a"), brings("b")]).unwrap_err();
        assert_eq!(fault, Fault::Pipeline);
        assert_eq!(message, "`a` and `b` both bring the artifact `deep/file`");
    }

    #[test]
    fn no_link_of_another_job_is_followed() {
        let run = tempfile::tempdir().unwrap();
        let made = |job: &str| {
            let directory = run.path().join(job);
            fs::create_dir(&directory).unwrap();
            directory
        };
        let (one, two, outside) = (made("one"), made("two"), made("outside"));
        symlink(&outside, one.join("d")).unwrap();
        fs::create_dir(two.join("d")).unwrap();
        fs::write(two.join("d/file"), "content").unwrap();
        let brings = |job: &str, directory: &Path, file: &str| Brings {
            job: job.to_owned(),
            directory: directory.to_owned(),
            files: vec![file.into()],
        };
        let (link, file) = (brings("one", &one, "d"), brings("two", &two, "d/file"));
        let said = [[&link, &file], [&file, &link]].map(|[first, second]| {
            let copy = |it: &Brings| brings(&it.job, &it.directory, it.files[0].to_str().unwrap());
            let (fault, message) =
                tree(run.path(), None, &[copy(first), copy(second)]).unwrap_err();
            assert_eq!(fault, Fault::Pipeline);
            message
        });
        assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
        insta::assert_snapshot!(said.join("\n"), @r"
        the artifact `d/file` of `two` has no place: what is a directory of one job is none of another
        the artifact `d` of `one` has no place: what is a directory of one job is none of another
        ");
    }
}
