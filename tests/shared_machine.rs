//! Several runs on one machine: what the operator allows all of them together, in turns.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Child,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    binary::{Cofferdam, PATIENCE, file, kill, wait},
    host::{Need, needs},
};

/// A machine of two processors, and a directory that its jobs and the test share.
struct Machine {
    cofferdam: Cofferdam,
    directory: TempDir,
}

impl Machine {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let configuration = file(directory.path(), "config.yml", "capacity: { cpus: 2 }\n");
        let configuration = configuration.display().to_string();
        let cofferdam = Cofferdam::new().variable("COFFERDAM_CONFIG", &configuration);
        let shared = directory.path().join("shared");
        fs::create_dir(&shared).expect("a directory");
        // Jobs are other users.
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(&shared, all).expect("mode");
        Self { cofferdam, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start(&self, name: &str, pipeline: &str) -> Child {
        let pipeline = file(self.directory.path(), &format!("{name}.yml"), pipeline);
        let shared = format!("{}:/shared", self.path("shared").display());
        let printed = fs::File::create(self.path(&format!("{name}.printed"))).expect("a file");
        let mut command = self.cofferdam.command(["run", "--mount", &shared, "--out"]);
        command.arg(self.path(name)).arg(pipeline);
        command.stdout(printed.try_clone().expect("a second handle")).stderr(printed);
        command.spawn().expect("start cofferdam")
    }

    fn printed(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.printed"))).unwrap_or_default()
    }

    fn says(&self, name: &str, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.printed(name).contains(text) {
            assert!(Instant::now() < deadline, "no `{text}` in\n{}", self.printed(name));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn passed(&self, name: &str, child: Child) {
        assert_eq!(wait(child).status, 0, "{}", self.printed(name));
    }

    fn shared(&self, name: &str) {
        file(&self.path("shared"), name, "");
    }

    /// When the jobs of a run started and ended.
    fn times(&self, name: &str) -> Vec<(Timestamp, Timestamp)> {
        let record = fs::read_to_string(self.path(name).join("run.json")).expect("run.json");
        let record: Value = serde_json::from_str(&record).expect("JSON");
        let time = |value: &Value| value.as_str().expect("a time").parse().expect("a time");
        let attempt = |job: &Value| {
            let attempt = &job["attempts"][0];
            (time(&attempt["started"]), time(&attempt["ended"]))
        };
        record["jobs"].as_array().expect("jobs").iter().map(attempt).collect()
    }
}

/// Takes the whole machine until there is a file `go`.
const ALL: &str = "jobs: { all: { limits: { cpus: 2 }, steps: [{ run: 'echo up; \
                   until test -e /shared/go; do sleep 0.02; done' }] } }";
const ONE: &str = "jobs: { one: { limits: { cpus: 1 }, steps: [{ run: 'true' }] } }";

#[test]
fn a_run_waits_for_what_another_holds() {
    needs!(Need::Containers);
    let machine = Machine::new();
    let first = machine.start("first", ALL);
    machine.says("first", "| up");
    let second = machine.start("second", ONE);
    machine.says("second", "waits for 1 cpu: run 2");
    machine.says("second", "holds 2 cpus of the machine");
    machine.shared("go");
    machine.passed("first", first);
    machine.passed("second", second);
    let (before, after) = (machine.times("first"), machine.times("second"));
    assert!(before[0].1 <= after[0].0, "they ran together: {before:?} {after:?}");
    assert_eq!(shares(machine.cofferdam.state()), 0);
}

/// The kernel gives back what a run held that was killed.
#[test]
fn what_a_killed_run_held_is_free() {
    needs!(Need::Containers);
    let machine = Machine::new();
    let mut first = machine.start("first", ALL);
    machine.says("first", "| up");
    let second = machine.start("second", ONE);
    machine.says("second", "waits for 1 cpu");
    kill(first.id(), Signal::SIGKILL);
    first.wait().expect("wait");
    machine.passed("second", second);
    assert_eq!(shares(machine.cofferdam.state()), 0);
}

/// A run of many jobs gives way to one that comes later and holds nothing, also where that needs
/// more than any one of them gives back.
#[test]
fn a_run_of_many_jobs_keeps_out_no_other() {
    needs!(Need::Containers);
    let machine = Machine::new();
    let many = "jobs: { many: { parallel: 16, limits: { cpus: 1 }, workspace: none, \
                steps: [{ run: 'echo up; until test -e /shared/go; do sleep 0.02; done' }] } }";
    let many = machine.start("many", many);
    machine.says("many", "| up");
    let large = ALL.replace("until test -e /shared/go; do sleep 0.02; done", "true");
    let large = machine.start("large", &large);
    machine.says("large", "waits for 2 cpus");
    machine.shared("go");
    machine.passed("large", large);
    machine.passed("many", many);
    let (many, large) = (machine.times("many"), machine.times("large"));
    let later = many.iter().filter(|(started, _)| *started >= large[0].1).count();
    assert!(later > 4, "{later} of {many:?} after {large:?}");
    let beside =
        many.iter().filter(|(started, ended)| *started < large[0].1 && *ended > large[0].0);
    assert_eq!(beside.count(), 0, "more than the machine has: {many:?} {large:?}");
}

#[test]
fn what_the_machine_does_not_have_is_refused() {
    needs!(Need::Containers);
    let machine = Machine::new();
    let child = machine.start("large", &ALL.replace("cpus: 2", "cpus: 3"));
    assert_eq!(wait(child).status, 65, "{}", machine.printed("large"));
    assert!(machine.printed("large").contains("asks for more processors"));
}

/// Files of runs that hold or want something.
fn shares(state: &Path) -> usize {
    let entries = fs::read_dir(state.join("shares")).expect("the directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names.filter(|name| name != "lock").count()
}
