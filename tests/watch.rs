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
    binary::{Cofferdam, file, kill},
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

    fn text(&self) -> String {
        fs::read_to_string(self.printed.path()).unwrap_or_default()
    }

    fn until(&self, what: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !what(&self.text()) {
            assert!(Instant::now() < deadline, "it did not come about:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// ^C ends it.
    fn interrupt(mut self) {
        kill(self.child.id(), Signal::SIGINT);
        let status = self.child.wait().expect("wait");
        assert_eq!(status.code(), Some(130), "{}", self.text());
    }
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
    watched.until(|text| text.matches("watching").count() == 1);
    assert!(
        watched.text().contains("see   | first") && watched.text().contains("blind | blind again"),
        "{}",
        watched.text()
    );
    // What a job does not see does not run again; what a run writes is no change.
    file(project.path(), "input", "second\n");
    watched.until(|text| text.matches("watching").count() == 2);
    assert!(watched.text().contains("see | second"), "{}", watched.text());
    assert_eq!(watched.text().matches("| blind again").count(), 1, "{}", watched.text());
    // The pipeline is for all.
    fs::create_dir(project.path().join("deep")).expect("a directory");
    file(
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
    needs!(Need::Containers, Need::Root, Need::Program("git"));
    let project = tempfile::tempdir().expect("a directory");
    file(
        project.path(),
        "cofferdam.yml",
        "jobs: { kept: { workspace: git, steps: [{ run: cat input }] }, live: { steps: [{ run: echo \"live again\" }] } }\n",
    );
    let git = |arguments: &[&str]| {
        let mut git = crate::binary::program("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-C"]).arg(project.path());
        let output = git.args(arguments).output().expect("git");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    file(project.path(), "input", "first\n");
    git(&["init", "-q", "."]);
    git(&["add", "."]);
    git(&["commit", "-qm", "one"]);
    let watched = Watched::start(project.path());
    watched.until(|text| text.matches("watching").count() == 1);
    assert!(
        watched.text().contains("kept | first") && watched.text().contains("live | live again"),
        "{}",
        watched.text()
    );
    // A write is for those who see the project as it is.
    file(project.path(), "input", "second\n");
    watched.until(|text| text.matches("watching").count() == 2);
    assert!(!watched.text().contains("| second"), "{}", watched.text());
    // What git writes besides is nothing, and a commit is for those who see what is committed.
    git(&["add", "."]);
    git(&["commit", "-qm", "two"]);
    watched.until(|text| {
        text.contains("a commit: running again") && text.matches("watching").count() == 3
    });
    assert!(watched.text().contains("kept | second"), "{}", watched.text());
    assert_eq!(watched.text().matches("| live again").count(), 2, "{}", watched.text());
    watched.interrupt();
}
