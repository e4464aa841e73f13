//! `cofferdam run --watch`: a change in the project is followed by a run, and ^C ends it.

use std::{
    fs,
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tempfile::NamedTempFile;

use crate::{
    binary::{Cofferdam, PATIENCE, file, kill, wait},
    host::{Need, needs},
};

/// `run --watch` of a project, and what it has printed.
struct Watched {
    child: Child,
    printed: NamedTempFile,
}

impl Watched {
    fn start(project: &Path) -> Self {
        let cofferdam = Cofferdam::common().in_directory(project);
        let printed = NamedTempFile::new().expect("a file");
        let log = printed.reopen().expect("a second handle");
        let mut command = cofferdam.command(["run", "--watch", "--out", "results"]);
        command.stdout(log.try_clone().expect("a third handle")).stderr(log);
        let child = command.spawn().expect("start cofferdam");
        Self { child, printed }
    }

    /// Waits until it has run for the `nth` time and watches again.
    #[track_caller]
    fn ran(&self, nth: usize) -> String {
        self.until(|text| text.matches("watching").count() == nth);
        self.text()
    }

    fn text(&self) -> String {
        fs::read_to_string(self.printed.path()).unwrap_or_default()
    }

    #[track_caller]
    fn until(&self, what: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !what(&self.text()) {
            assert!(Instant::now() < deadline, "it did not come about:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// ^C ends it.
    fn interrupt(self) {
        kill(self.child.id(), Signal::SIGINT);
        let printed = self.printed;
        let text = || fs::read_to_string(printed.path()).unwrap_or_default();
        assert_eq!(wait(self.child).status, 130, "{}", text());
    }
}

/// Changes a file at once: one that is emptied and then written is two changes, and a run may come
/// between them.
fn replace(directory: &Path, name: &str, text: &str) {
    let beside = tempfile::tempdir_in(directory.parent().expect("a parent")).expect("a directory");
    fs::rename(file(beside.path(), name, text), directory.join(name)).expect("rename");
}

#[test]
fn a_change_is_followed_by_a_run() {
    needs!(Need::Containers);
    let project = tempfile::tempdir().expect("a directory");
    file(
        project.path(),
        "cofferdam.yml",
        "jobs: { see: { steps: [{ run: cat input }] }, blind: { workspace: none, steps: [{ run: echo \"blind again\" }] } }\n",
    );
    file(project.path(), "input", "first\n");
    let watched = Watched::start(project.path());
    let text = watched.ran(1);
    assert!(text.contains("see   | first") && text.contains("blind | blind again"), "{text}");
    // What a job does not see does not run again; what a run writes is no change.
    replace(project.path(), "input", "second\n");
    let text = watched.ran(2);
    assert!(text.contains("see | second"), "{text}");
    assert_eq!(text.matches("| blind again").count(), 1, "{text}");
    // The pipeline is for all.
    fs::create_dir(project.path().join("deep")).expect("a directory");
    replace(
        project.path(),
        "cofferdam.yml",
        "jobs: { see: { steps: [{ run: cat input }] }, blind: { workspace: none, steps: [{ run: echo \"changed now\" }] } }\n",
    );
    watched.until(|text| text.contains("| changed now") && text.matches("watching").count() >= 3);
    watched.interrupt();
}

/// A job that sees what is committed runs again when that changes, and not at every write.
#[test]
fn a_commit_is_followed_by_a_run() {
    needs!(Need::Containers, Need::Program("git"));
    let directory = tempfile::tempdir().expect("a directory");
    let project = directory.path().join("project");
    fs::create_dir(&project).expect("a directory");
    commits(&project, &project);
}

/// In a further working tree git keeps what it knows elsewhere.
#[test]
fn a_commit_in_a_further_working_tree_is_followed_by_a_run() {
    needs!(Need::Containers, Need::Program("git"));
    let directory = tempfile::tempdir().expect("a directory");
    let project = directory.path().join("project");
    fs::create_dir(&project).expect("a directory");
    commits(&project, &directory.path().join("further"));
}

/// Makes a repository at `project` and watches its working tree at `tree`, which may be another.
#[track_caller]
fn commits(project: &Path, tree: &Path) {
    file(
        project,
        "cofferdam.yml",
        "jobs: { kept: { workspace: git, steps: [{ run: cat input }] }, live: { steps: [{ run: echo \"live again\" }] } }\n",
    );
    let git = |arguments: &[&str]| {
        let mut git = crate::binary::program("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-C"]);
        git.arg(if tree.exists() { tree } else { project });
        let output = git.args(arguments).output().expect("git");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    file(project, "input", "first\n");
    git(&["init", "-q", "."]);
    git(&["add", "."]);
    git(&["commit", "-qm", "one"]);
    if tree != project {
        let path = tree.to_str().expect("UTF-8");
        git(&["worktree", "add", "-q", "-b", "further", path]);
    }
    let watched = Watched::start(tree);
    let text = watched.ran(1);
    assert!(text.contains("kept | first") && text.contains("live | live again"), "{text}");
    // A write is for those who see the project as it is.
    replace(tree, "input", "second\n");
    let text = watched.ran(2);
    assert!(!text.contains("| second"), "{text}");
    // What git writes besides is nothing, and a commit is for those who see what is committed.
    git(&["add", "."]);
    git(&["commit", "-qm", "two"]);
    let text = watched.ran(3);
    assert!(text.contains("a commit: running again") && text.contains("kept | second"), "{text}");
    assert_eq!(text.matches("| live again").count(), 2, "{text}");
    watched.interrupt();
}
