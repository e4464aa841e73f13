//! The artifacts of needed jobs, at the paths that they had, as a layer over the project.
//!
//! They are linked into a tree that stands for the container's `/`, so bringing them takes no room
//! and no time; where the tree and the results lie on different file systems, they are copied.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Component, Path, PathBuf},
};

use cofferdam_jobs::state::Fault;
use cofferdam_sandbox::WORKSPACE;
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
            place(tree.path(), &inside, &directory.join(file)).map_err(system)?;
        }
    }
    Ok(tree)
}

fn place(tree: &Path, inside: &Path, source: &Path) -> io::Result<()> {
    let mut target = tree.to_owned();
    let names = inside.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let names: Vec<_> = names.collect();
    let Some((name, parents)) = names.split_last() else { return Ok(()) };
    for parent in parents {
        target.push(parent);
        match fs::create_dir(&target) {
            // Whoever a step runs as may add to them, as to the workspace.
            Ok(()) => fs::set_permissions(&target, Permissions::from_mode(0o777))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    target.push(name);
    if source.symlink_metadata()?.is_symlink() {
        return symlink(fs::read_link(source)?, &target);
    }
    match fs::hard_link(source, &target) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            fs::copy(source, &target).map(drop)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
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
}
