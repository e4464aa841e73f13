//! ^C once ends a run in order, with its cleanup steps; twice ends it now.

use std::{
    io::{BufRead as _, BufReader},
    process::Child,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::{
    binary::{Cofferdam, fixture, kill, wait},
    host::{Need, needs},
    residue::Snapshot,
};

/// A started run of `fixtures/pipelines/cancel.yml` whose first step is under way.
fn started(cofferdam: &Cofferdam, out: &std::path::Path) -> Child {
    let mut child = cofferdam
        .command([
            "run".as_ref(),
            fixture("pipelines/cancel.yml").as_os_str(),
            "--out".as_ref(),
            out.as_os_str(),
        ])
        .spawn()
        .expect("start cofferdam");
    let stdout = child.stdout.take().expect("a pipe");
    let (seen, up) = std::sync::mpsc::channel();
    let mut lines = BufReader::new(stdout).lines();
    // The reader goes on to the end, so that the run never waits for room in the pipe.
    std::thread::spawn(move || {
        while let Some(Ok(line)) = lines.next() {
            if line.contains("started") {
                let _ = seen.send(());
            }
        }
    });
    up.recv_timeout(Duration::from_secs(30)).expect("the step's first line");
    child
}

#[test]
fn once_runs_the_cleanup() {
    needs!(Need::Containers);
    let out = tempfile::tempdir().expect("a directory");
    let cofferdam = Cofferdam::common().in_directory(out.path());
    let mut child = {
        let mut command = cofferdam.command([
            "run".as_ref(),
            fixture("pipelines/cancel.yml").as_os_str(),
            "--out".as_ref(),
            out.path().as_os_str(),
        ]);
        let log = std::fs::File::create(out.path().join("printed")).expect("a file");
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        command.spawn().expect("start cofferdam")
    };
    let printed = || std::fs::read_to_string(out.path().join("printed")).unwrap_or_default();
    await_that(|| printed().contains("started"));
    kill(child.id(), Signal::SIGINT);
    let status = child.wait().expect("wait");
    assert_eq!(status.code(), Some(130), "{}", printed());
    assert!(printed().contains("cleaned up"), "{}", printed());
    assert!(!printed().contains("| never"), "{}", printed());
}

#[test]
fn sigterm_is_like_once() {
    needs!(Need::Containers);
    let out = tempfile::tempdir().expect("a directory");
    let cofferdam = Cofferdam::common().in_directory(out.path());
    let child = started(&cofferdam, out.path());
    kill(child.id(), Signal::SIGTERM);
    let ended = wait(child);
    assert!([130, 143].contains(&ended.status), "{} {}", ended.status, ended.text());
}

#[test]
fn twice_ends_it_now() {
    needs!(Need::Containers);
    let cofferdam = Cofferdam::new();
    let file = tempfile::tempdir().expect("a directory");
    let stubborn = crate::binary::file(
        file.path(),
        "stubborn.yml",
        "jobs: { a: { steps: [{ run: \"trap '' TERM INT; echo started; sleep 100 & wait; sleep 100\" }], \
         cleanup: [{ run: sleep 100 }] } }\n",
    );
    let printed = file.path().join("printed");
    let mut child = {
        let mut command = cofferdam.command([
            "run".as_ref(),
            stubborn.as_os_str(),
            "--out".as_ref(),
            file.path().join("out").as_os_str(),
        ]);
        let log = std::fs::File::create(&printed).expect("a file");
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        command.spawn().expect("start cofferdam")
    };
    let text = || std::fs::read_to_string(&printed).unwrap_or_default();
    await_that(|| text().contains("started"));
    kill(child.id(), Signal::SIGINT);
    std::thread::sleep(Duration::from_millis(100));
    let second = Instant::now();
    kill(child.id(), Signal::SIGINT);
    let status = child.wait().expect("wait");
    assert_eq!(status.code(), Some(130), "{}", text());
    assert!(second.elapsed() < Duration::from_secs(5), "took {:?}", second.elapsed());
    let mine = Snapshot::take(cofferdam.state());
    assert!(!mine.names("process"), "{mine:#?}");
}

/// `cofferdam run | head -1`: in order, as with ^C, and the record is kept.
#[test]
fn a_closed_pipe_is_like_once() {
    needs!(Need::Containers);
    let directory = tempfile::tempdir().expect("a directory");
    let cofferdam = Cofferdam::common().in_directory(directory.path());
    crate::binary::file(
        directory.path(),
        "cofferdam.yml",
        "jobs: { a: { steps: [{ run: 'while :; do echo again; sleep 0.05; done' }], \
         cleanup: [{ run: 'echo swept' }] } }\n",
    );
    let mut child =
        cofferdam.command(["run", "--out", "results"]).spawn().expect("start cofferdam");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let ended = wait(child).expect(141);
    assert_eq!(ended.stderr, "");
    let logs = cofferdam.run(["logs", "results"]).expect(0);
    logs.says(&["again", "swept"]);
    let record =
        std::fs::read_to_string(directory.path().join("results/run.json")).expect("run.json");
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    assert_eq!(record["conclusion"], "cancelled");
}

/// `exec` as well: the command is ended and the status says so.
#[test]
fn exec() {
    needs!(Need::Containers);
    let cofferdam = Cofferdam::common();
    let mut child = cofferdam
        .command(["exec", "host", "--", "sh", "-c", "echo up; sleep 100"])
        .spawn()
        .expect("start cofferdam");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("a line");
    kill(child.id(), Signal::SIGINT);
    let ended = wait(child).expect(130);
    assert!(ended.took < Duration::from_secs(20), "took {:?}", ended.took);
}

/// Waits for something that another process brings about.
#[track_caller]
pub(crate) fn await_that(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "it did not come about in 30 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}
