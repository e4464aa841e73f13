//! Where a run finds its project, where its results go, and what it is called.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::job::brought;
use crate::{exit::Exit, hexadecimal, problem::Problem, report::record::FILE_NAME};

/// The project, which must be there.
pub(super) fn workspace(said: &Path) -> Result<PathBuf, Problem> {
    let problem = || Problem::new(Exit::NoInput, format!("no workspace `{}`", said.display()));
    let path = fs::canonicalize(said).map_err(|error| {
        problem().because(error).remedy("name a directory that exists with `--workspace`")
    })?;
    if path.is_dir() { Ok(path) } else { Err(problem().because("it is not a directory")) }
}

/// The run's directory, made anew: an old one's files would mix with this run's. What is not of a
/// run is not removed.
pub(super) fn directory(said: Option<&Path>, state: &Path, run: &str) -> Result<PathBuf, Problem> {
    let directory = said.map_or_else(|| state.join("runs").join(run), Path::to_owned);
    let problem = |error: io::Error| failed_to_make(&directory, error);
    let parts = ["logs", "artifacts", "results", brought::DIRECTORY];
    if !directory.join(FILE_NAME).exists()
        && let Some(part) = parts.iter().find(|part| directory.join(part).exists())
    {
        let foreign = directory.join(part);
        let message = format!("`{}` is there, and not of an earlier run", foreign.display());
        return Err(Problem::new(Exit::NoInput, message)
            .remedy("choose another directory with `--out`, or remove it"));
    }
    for old in parts {
        match fs::remove_dir_all(directory.join(old)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(problem)?,
        }
    }
    fs::create_dir_all(directory.join("logs")).map_err(problem)?;
    fs::canonicalize(&directory).map_err(problem)
}

/// What a run is called. Where its results go to the state directory, no other run has this name: the
/// directory of it is made with it.
#[derive(Debug)]
pub(super) struct Name {
    id: String,
    reserved: Option<PathBuf>,
}

impl Name {
    /// Draws one. With `elsewhere`, the run has another directory than the state's.
    pub(super) fn draw(now: SystemTime, elsewhere: bool, state: &Path) -> Result<Self, Problem> {
        if elsewhere {
            return Ok(Self { id: run_id(now)?, reserved: None });
        }
        // As the sandbox makes it, which may come later.
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(state);
        made.map_err(|error| failed_to_make(state, error))?;
        Self::reserve(&state.join("runs"), || run_id(now))
    }

    fn reserve(
        runs: &Path,
        mut draw: impl FnMut() -> Result<String, Problem>,
    ) -> Result<Self, Problem> {
        let problem = |error: io::Error| failed_to_make(runs, error);
        fs::create_dir_all(runs).map_err(problem)?;
        loop {
            let id = draw()?;
            let reserved = runs.join(&id);
            match fs::create_dir(&reserved) {
                Ok(()) => return Ok(Self { id, reserved: Some(reserved) }),
                // Two runs of one second.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(problem(error)),
            }
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

/// A run that did not begin leaves nothing.
impl Drop for Name {
    fn drop(&mut self) {
        // It is not empty where it has begun, and then it stays.
        self.reserved.as_ref().map(fs::remove_dir);
    }
}

fn failed_to_make(directory: &Path, error: io::Error) -> Problem {
    Problem::new(Exit::NoInput, format!("failed to make `{}`", directory.display()))
        .because(error)
        .remedy("choose another directory with `--out`")
}

/// The time and a few letters of chance: sorted by time.
fn run_id(now: SystemTime) -> Result<String, Problem> {
    let mut random = [0; 2];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .map_err(|error| Problem::new(Exit::System, "failed to draw a run id").because(error))?;
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let time =
        jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::try_from(seconds).unwrap_or_default();
    Ok(format!("{}-{}", time.strftime("%Y%m%d-%H%M%S"), hexadecimal::lower(&random)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_runs_have_one_name() {
        let state = tempfile::tempdir().unwrap();
        let runs = state.path().join("runs");
        let draw = |ids: &[&str]| {
            let mut ids = ids.iter().map(|id| (*id).to_owned());
            Name::reserve(&runs, || Ok(ids.next().unwrap())).unwrap()
        };
        let first = draw(&["a"]);
        let result = runs.join("a/logs");
        fs::create_dir(&result).unwrap();
        let second = draw(&["a", "a", "b"]);
        assert_eq!((first.id(), second.id()), ("a", "b"));
        drop((first, second));
        assert!(result.exists() && !runs.join("b").exists(), "only what has begun stays");
    }

    #[test]
    fn only_what_is_of_a_run_is_removed_from_its_directory() {
        let out = tempfile::tempdir().unwrap();
        let kept = out.path().join("results/kept");
        fs::create_dir(out.path().join("results")).unwrap();
        fs::write(&kept, "").unwrap();
        let make = || directory(Some(out.path()), Path::new("/none"), "id");
        let problem = make().unwrap_err();
        assert!(problem.to_string().contains("not of an earlier run"), "{problem}");
        assert!(kept.exists());
        fs::write(out.path().join(FILE_NAME), "{}").unwrap();
        make().unwrap();
        assert!(!kept.exists() && out.path().join("logs").is_dir());
    }
}
