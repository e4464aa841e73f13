//! ^C once ends a run in order, with its cleanup steps; twice ends it now.

use std::{
    io::{BufRead as _, BufReader},
    process::Child,
};

use nix::sys::signal::Signal;

use crate::{
    binary::{Cofferdam, PATIENCE, await_that, fixture, kill, wait},
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
            if line.contains("| started") {
                let _ = seen.send(());
            }
        }
    });
    up.recv_timeout(PATIENCE).expect("the step's first line");
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
    await_that(|| printed().contains("| started"));
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
        "jobs: { a: { steps: [{ run: \"trap 'echo asked' TERM INT; echo started; while :; do sleep 1000 & wait; done\" }], \
         cleanup: [{ run: sleep 1000 }] } }\n",
    );
    let printed = file.path().join("printed");
    let child = {
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
    await_that(|| text().contains("| started"));
    kill(child.id(), Signal::SIGINT);
    // Two signals that nobody has taken yet would be one.
    await_that(|| text().contains("| asked"));
    kill(child.id(), Signal::SIGINT);
    assert_eq!(wait(child).status, 130, "{}", text());
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

/// What a run leaves that is cancelled at a terminal: `^C` is the terminal's, and who is asked by it.
struct AtTerminal {
    directory: tempfile::TempDir,
    cofferdam: Cofferdam,
    master: std::fs::File,
    child: Child,
    printed: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
}

impl AtTerminal {
    fn run(pipeline: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        crate::binary::file(directory.path(), "cofferdam.yml", pipeline);
        let cofferdam = Cofferdam::common().in_directory(directory.path());
        let terminal = nix::pty::openpty(None, None).expect("a terminal");
        let own = || terminal.slave.try_clone().expect("a second handle");
        let command = cofferdam.command(["run", "--out", "results"]);
        let mut in_session = crate::binary::program("setsid");
        in_session.arg("--ctty").arg(command.get_program()).args(command.get_args());
        in_session
            .env_clear()
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        in_session.env("TERM", "xterm").current_dir(directory.path());
        let child = in_session.stdin(own()).stdout(own()).stderr(own()).spawn().expect("setsid");
        let master = std::fs::File::from(terminal.master);
        let printed = std::sync::Arc::<std::sync::Mutex<Vec<u8>>>::default();
        let (mut reader, sink) = (master.try_clone().expect("a handle"), printed.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = std::io::Read::read(&mut reader, &mut buffer) {
                sink.lock().expect("no panic").extend_from_slice(&buffer[..read]);
            }
        });
        Self { directory, cofferdam, master, child, printed }
    }

    fn says(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.printed.lock().expect("no panic")).contains(text)
    }

    fn interrupt(&mut self) {
        std::io::Write::write_all(&mut self.master, b"\x03").expect("^C");
    }

    /// The output of its steps and its record.
    fn end(mut self) -> (String, serde_json::Value) {
        let status = self.child.wait().expect("wait");
        let printed = String::from_utf8_lossy(&self.printed.lock().expect("no panic")).into_owned();
        assert_eq!(status.code(), Some(130), "{printed}");
        let logs = self.cofferdam.run(["logs", "results"]).expect(0).stdout;
        let record = std::fs::read(self.directory.path().join("results/run.json"));
        (logs, serde_json::from_slice(&record.expect("run.json")).expect("JSON"))
    }
}

/// Conclusions of all steps of a job, cleanup steps last.
fn conclusions(record: &serde_json::Value, job: usize) -> Vec<&str> {
    let steps = record["jobs"][job]["attempts"][0]["steps"].as_array().expect("steps");
    steps.iter().map(|step| step["conclusion"].as_str().unwrap_or("none")).collect()
}

/// What is printed is written so that the names of steps, which are shown as well, are not it.
const CANCELLED: &str = r#"jobs:
  waits:
    steps:
      - run: echo star''ted; sleep 1000
      - { run: echo nev''er, if: always() }
      - { run: echo nev''er, if: cancelled() }
    cleanup:
      - { run: echo nev''er, if: success() }
      - { run: echo swept because canc''elled, if: cancelled() }
      - { run: "echo sweep''ing; test -e /slow || exit 0; sleep 1000" }
      - { run: echo swept a''ll }
  beside: { steps: [{ run: echo si''de by side; sleep 1000 }], cleanup: [{ run: echo nev''er, if: '!cancelled()' }] }
  next: { needs: [waits], if: always(), steps: [{ run: echo nev''er }] }
  last: { needs: [waits], if: cancelled(), steps: [{ run: echo nev''er }] }
"#;

/// After ^C at a terminal nothing starts but cleanup, and that can ask what happened.
#[test]
fn cleanup_knows_of_the_cancel() {
    needs!(Need::Containers, Need::Program("setsid"));
    let mut run = AtTerminal::run(CANCELLED);
    await_that(|| run.says("started") && run.says("side by side"));
    run.interrupt();
    let (logs, record) = run.end();
    for text in ["swept because cancelled", "sweeping", "swept all"] {
        assert!(logs.contains(text), "{logs}");
    }
    assert!(!logs.contains("never"), "{logs}");
    assert_eq!(record["conclusion"], "cancelled");
    let expected = ["cancelled", "cancelled", "cancelled", "skipped", "passed", "passed", "passed"];
    assert_eq!(conclusions(&record, 0), expected);
    assert_eq!(conclusions(&record, 1), ["cancelled", "skipped"]);
    for job in [2, 3] {
        assert_eq!(record["jobs"][job]["conclusion"], "cancelled");
        assert_eq!(record["jobs"][job]["attempts"].as_array().map(Vec::len), Some(0));
    }
}

/// The second ^C ends the cleanup that the first one began, and no further step of it starts.
#[test]
fn twice_ends_the_cleanup() {
    needs!(Need::Containers, Need::Program("setsid"));
    let slow = CANCELLED.replace("- run: echo", "- run: touch /slow; echo");
    let mut run = AtTerminal::run(&slow);
    await_that(|| run.says("started"));
    run.interrupt();
    await_that(|| run.says("sweeping"));
    await_that(|| run.says("^C once more kills at once"));
    run.interrupt();
    let (logs, record) = run.end();
    assert!(logs.contains("swept because cancelled"), "{logs}");
    assert!(!logs.contains("never") && !logs.contains("swept all"), "{logs}");
    let expected =
        ["cancelled", "cancelled", "cancelled", "skipped", "passed", "cancelled", "cancelled"];
    assert_eq!(conclusions(&record, 0), expected);
}

/// `exec` as well: the command is ended and the status says so.
#[test]
fn exec() {
    needs!(Need::Containers);
    let cofferdam = Cofferdam::common();
    let mut child = cofferdam
        .command(["exec", "host", "--", "sh", "-c", "echo up; sleep 1000"])
        .spawn()
        .expect("start cofferdam");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("a line");
    kill(child.id(), Signal::SIGINT);
    wait(child).expect(130);
}
