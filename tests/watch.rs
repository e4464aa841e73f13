//! `cofferdam run --watch`: a change in the project is followed by a run, and ^C ends it.

use std::{
    fs,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::{
    binary::{Cofferdam, file, kill},
    host::{Need, needs},
};

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
    let cofferdam = Cofferdam::common().in_directory(project.path());
    let printed = tempfile::NamedTempFile::new().expect("a file");
    let log = printed.reopen().expect("a second handle");
    let mut command = cofferdam.command(["run", "--watch", "--out", "results"]);
    command.stdout(log.try_clone().expect("a third handle")).stderr(log);
    let mut child = command.spawn().expect("start cofferdam");
    let text = || fs::read_to_string(printed.path()).unwrap_or_default();
    let until = |what: &dyn Fn(&str) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !what(&text()) {
            assert!(Instant::now() < deadline, "it did not come about:\n{}", text());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until(&|text| text.matches("watching").count() == 1);
    assert!(
        text().contains("see   | first") && text().contains("blind | blind again"),
        "{}",
        text()
    );
    // What a job does not see does not run again; what a run writes is no change.
    file(project.path(), "input", "second\n");
    until(&|text| text.matches("watching").count() == 2);
    assert!(text().contains("see | second"), "{}", text());
    assert_eq!(text().matches("| blind again").count(), 1, "{}", text());
    // The pipeline is for all.
    fs::create_dir(project.path().join("deep")).expect("a directory");
    file(
        project.path(),
        "cofferdam.yml",
        "jobs: { see: { steps: [{ run: cat input }] }, blind: { workspace: none, steps: [{ run: echo \"changed now\" }] } }\n",
    );
    until(&|text| text.contains("| changed now") && text.matches("watching").count() >= 3);
    kill(child.id(), Signal::SIGINT);
    let status = child.wait().expect("wait");
    assert_eq!(status.code(), Some(130), "{}", text());
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
    let cofferdam = Cofferdam::common().in_directory(project.path());
    let printed = tempfile::NamedTempFile::new().expect("a file");
    let log = printed.reopen().expect("a second handle");
    let mut command = cofferdam.command(["run", "--watch", "--out", "results"]);
    command.stdout(log.try_clone().expect("a third handle")).stderr(log);
    let mut child = command.spawn().expect("start cofferdam");
    let text = || fs::read_to_string(printed.path()).unwrap_or_default();
    let until = |what: &dyn Fn(&str) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !what(&text()) {
            assert!(Instant::now() < deadline, "it did not come about:\n{}", text());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until(&|text| text.matches("watching").count() == 1);
    assert!(text().contains("kept | first") && text().contains("live | live again"), "{}", text());
    // A write is for those who see the project as it is.
    file(project.path(), "input", "second\n");
    until(&|text| text.matches("watching").count() == 2);
    assert!(!text().contains("| second"), "{}", text());
    // What git writes besides is nothing, and a commit is for those who see what is committed.
    git(&["add", "."]);
    git(&["commit", "-qm", "two"]);
    until(&|text| {
        text.contains("a commit: running again") && text.matches("watching").count() == 3
    });
    assert!(text().contains("kept | second"), "{}", text());
    assert_eq!(text().matches("| live again").count(), 2, "{}", text());
    kill(child.id(), Signal::SIGINT);
    assert_eq!(child.wait().expect("wait").code(), Some(130), "{}", text());
}
