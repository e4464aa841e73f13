//! The operator's configuration: it holds for every command, and a fault in it stops each.

use std::path::Path;

use crate::{
    binary::{Cofferdam, file},
    host::{Need, needs, not_run, test},
};

/// The binary with this configuration.
pub(crate) fn configured(directory: &Path, text: &str) -> Cofferdam {
    let path = file(directory, "config.yml", text);
    Cofferdam::new().variable("COFFERDAM_CONFIG", &path.display().to_string())
}

#[test]
fn a_fault_stops_every_command() {
    let directory = tempfile::tempdir().expect("a directory");
    let cofferdam = configured(directory.path(), "scrach: disk\n");
    let cases: &[(&[&str], i32)] = &[
        (&["exec", "host", "--", "true"], 125),
        (&["run"], 78),
        (&["doctor"], 78),
        (&["image", "ls"], 78),
        (&["logs"], 78),
    ];
    for (arguments, status) in cases {
        let ended = cofferdam.run(*arguments).expect(*status);
        ended.says(&["config.yml:1:1", "did you mean `scratch`?", "1 fault; nothing was done"]);
    }
    let ended = cofferdam.run(["--config", "/nowhere/config.yml", "image", "ls"]).expect(78);
    ended.says(&["`/nowhere/config.yml`", "No such file", "--config"]);
}

#[test]
fn the_state_directory_is_the_command_lines_or_the_configurations() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state");
    let cofferdam = configured(directory.path(), &format!("state: {}\n", state.display()));
    cofferdam.run(["image", "ls"]).expect(0);
    assert!(!state.exists(), "the variable COFFERDAM_STATE wins");
    let mut command = cofferdam.command(["image", "ls"]);
    command.env_remove("COFFERDAM_STATE");
    crate::binary::wait(command.spawn().expect("start")).expect(0);
    assert!(state.exists());
}

/// What is kept in memory counts as the job's memory, so a large file tells which it was: here the
/// limits alone would have it in memory.
#[test]
fn scratch_is_the_command_lines_or_the_configurations() {
    needs!(Need::Containers, Need::Disk);
    let directory = tempfile::tempdir().expect("a directory");
    let limits = ["--memory", "64MiB", "--disk", "128MiB"];
    let script = "head -c 100m /dev/zero > /tmp/big";
    let pipeline = format!(
        "jobs: {{ a: {{ limits: {{ memory: 64MiB, disk: 128MiB }}, steps: [{{ run: '{script}' }}] }} }}"
    );
    file(directory.path(), "cofferdam.yml", pipeline);
    for (configuration, flag, kept_on_disk) in [
        ("", None, false),
        ("scratch: auto", None, false),
        ("scratch: disk", None, true),
        ("scratch: disk", Some("memory"), false),
        ("scratch: memory", Some("disk"), true),
    ] {
        let cofferdam = configured(directory.path(), configuration).in_directory(directory.path());
        let flag: Vec<&str> = flag.iter().flat_map(|flag| ["--scratch", flag]).collect();
        let (exec, run) = if kept_on_disk { (0, 0) } else { (137, 1) };
        cofferdam.script(&[&limits, flag.as_slice()].concat(), script).expect(exec);
        cofferdam.run(["run"].iter().chain(&flag)).expect(run);
    }
}

/// Nobody has control groups on this host unless root delegates some: without them a job is refused
/// before it starts, unless the operator's configuration names what it may go without.
#[test]
fn a_limit_that_cannot_be_enforced_stops_the_job_unless_named() {
    needs!(Need::Root, Need::Containers, Need::Program("setpriv"));
    let cases = [
        ("", 125, "failed to enforce the limit `memory`"),
        ("downgrades: [memory, cpus]", 125, "failed to enforce the limit `pids`"),
        (
            "downgrades: [memory, cpus, pids, swap, io]",
            0,
            "this host cannot enforce the limit `memory`; jobs go without it",
        ),
    ];
    for (configuration, status, says) in cases {
        let ended = crate::bad_input::as_nobody(configuration);
        if status == 0 && !crate::host::is_recent() {
            not_run(test!(), "a container without root needs Linux 6.6");
            continue;
        }
        ended.expect(status).says(&[says]);
    }
}

#[test]
fn defaults_and_ceilings() {
    needs!(Need::Containers);
    let directory = tempfile::tempdir().expect("a directory");
    let text = "defaults: { limits: { nofile: 100, pids: 700 } }\n\
                ceilings: { limits: { nofile: 300, pids: 600, memory: 1GiB }, timeout: 10m }\n";
    let pipeline = |limits: &str| {
        format!("jobs: {{ a: {{ limits: {{ {limits} }}, steps: [{{ run: 'ulimit -n' }}] }} }}")
    };
    let cofferdam = configured(directory.path(), text).in_directory(directory.path());
    cofferdam.script(&[], "ulimit -n").expect(0).says(&["100\n"]);
    cofferdam.script(&["--nofile", "200"], "ulimit -n").expect(0).says(&["200\n"]);
    let above = "the limit `nofile` is above what the operator allows";
    let ended = cofferdam.script(&["--nofile", "301"], "ulimit -n").expect(2);
    ended.says(&[above, "ask for at most 300"]);
    let ended = cofferdam.script(&["--timeout", "11m"], "true").expect(2);
    ended.says(&["the limit `timeout` is above", "at most 10m"]);
    for (limits, status, says) in [
        ("cpus: 1", 0, "100\n"),
        ("nofile: 250", 0, "250\n"),
        ("nofile: 301", 65, above),
        ("memory: 2GiB", 65, "ask for at most 1GiB"),
    ] {
        file(directory.path(), "cofferdam.yml", pipeline(limits));
        cofferdam.run(["run", "--out", "out"]).expect(status).says(&[says]);
    }
    let record = std::fs::read_to_string(directory.path().join("out/run.json")).expect("a record");
    // The last one that ran.
    assert!(record.contains("\"nofile\": 250") && record.contains("\"pids\": 600"), "{record}");
}
