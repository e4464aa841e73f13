//! SIGKILL to the runner at random moments: afterwards the host is as it was.
//!
//! `COFFERDAM_CRASH_RUNS` says how many times (40 unless told otherwise; the full proof is 200).

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::{
    binary::{Cofferdam, alone, kill},
    host::{Need, needs},
    residue::Snapshot,
};

/// What is being run when the runner dies.
const SCRIPT: &str =
    "setsid sleep 1000 & (sleep 1000 & sleep 1000) & head -c 1m /dev/zero > /tmp/file; wait";

#[test]
fn runner_killed_at_any_moment() {
    needs!(Need::Containers);
    let _quiet = alone();
    let runs: u32 = std::env::var("COFFERDAM_CRASH_RUNS")
        .ok()
        .map_or(40, |text| text.parse().expect("COFFERDAM_CRASH_RUNS: a number"));
    let cofferdam = Cofferdam::unshared();
    cofferdam.script(&[], "true").expect(0);
    let before = Snapshot::take(cofferdam.state());

    // The moments are spread evenly over twice the time of a whole start, in an order that a
    // multiplication by a number prime to `runs` shuffles: every part of a start is hit.
    let results = tempfile::tempdir().expect("a directory");
    let started = Instant::now();
    cofferdam.script(&[], "true").expect(0);
    let whole = started.elapsed().max(Duration::from_millis(10));
    for run in 0..runs {
        let moment = whole * 2 * (run * 7919 % runs) / runs;
        let mark = format!("MARK={}", cofferdam.state().display());
        let single = ["exec", "host", "--env", &mark, "--", "sh", "-c", SCRIPT];
        let out = results.path().join(run.to_string()).display().to_string();
        let several = ["run", "fixtures/pipelines/wide.yml", "--out", &out];
        let arguments = if run % 4 == 3 { &several[..] } else { &single[..] };
        let mut child = cofferdam
            .command(arguments)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("start cofferdam");
        std::thread::sleep(moment);
        kill(child.id(), Signal::SIGKILL);
        child.wait().expect("wait");
    }
    // The next start clears up what the safety net could not.
    cofferdam.script(&[], "true").expect(0);
    before.expect_again(cofferdam.state());
    eprintln!("{runs} runners killed within {:?} of their start", whole * 2);
}

/// The safety net alone clears up processes and control groups: no next start is needed for it.
#[test]
fn safety_net_without_a_next_start() {
    needs!(Need::Containers);
    let _quiet = alone();
    let cofferdam = Cofferdam::unshared();
    cofferdam.script(&[], "true").expect(0);
    let before = Snapshot::take(cofferdam.state());
    let mark = format!("MARK={}", cofferdam.state().display());
    let script = format!("echo up; {SCRIPT}");
    let mut child = cofferdam
        .command(["exec", "host", "--env", &mark, "--", "sh", "-c", &script])
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("start cofferdam");
    wait_for(&mut child, "up\n");
    kill(child.id(), Signal::SIGKILL);
    child.wait().expect("wait");
    before.expect_again(cofferdam.state());
}

/// What is kept of a job for others, too: no next start is needed for it, be it on a loop device or,
/// where the state directory's file system has project quotas, in a directory of the run's.
#[test]
fn states_go_with_their_runner() {
    needs!(Need::Containers, Need::Root, Need::Disk);
    let _quiet = alone();
    let project = tempfile::tempdir().expect("a directory");
    let cofferdam = Cofferdam::unshared().in_directory(project.path());
    cofferdam.script(&[], "true").expect(0);
    let before = Snapshot::take(cofferdam.state());
    let mark = cofferdam.state().display();
    let pipeline = format!(
        "jobs:\n  \
           parent: {{ limits: {{ disk: 16MiB }}, steps: [{{ run: echo kept > /file }}] }}\n  \
           child: {{ from: parent, limits: {{ disk: 16MiB }}, env: {{ MARK: '{mark}' }}, steps: [{{ run: cat /file; sleep 1000 }}] }}\n",
    );
    std::fs::write(project.path().join("cofferdam.yml"), pipeline).expect("write a pipeline");
    let mut child = cofferdam
        .command(["run", "--scratch", "disk", "--out", "results"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("start cofferdam");
    wait_for(&mut child, " | kept\n");
    kill(child.id(), Signal::SIGKILL);
    child.wait().expect("wait");
    before.expect_again(cofferdam.state());
}

/// What the caller has open is the runner's alone: kept open by the spawner, it would hold up whoever
/// waits for the end of a pipe.
#[test]
fn spawner_holds_nothing_of_the_caller() {
    needs!(Need::Containers);
    let cofferdam = Cofferdam::common();
    let plain = cofferdam.command(["exec", "host", "--", "sh", "-c", "echo up; sleep 1000"]);
    let caller = tempfile::NamedTempFile::new().expect("a file");
    let mut command = crate::binary::program("sh");
    command.args(["-c", "exec 7<\"$0\"; exec \"$@\""]).arg(caller.path());
    command.arg(plain.get_program()).args(plain.get_args()).env_clear();
    for (name, value) in plain.get_envs() {
        command.envs(value.map(|value| (name, value)));
    }
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("start cofferdam");
    wait_for(&mut child, "up\n");
    let runner = child.id();
    let spawners = crate::residue::children(runner);
    assert_eq!(spawners.len(), 1);
    let holds = |process: u32| {
        let open = std::fs::read_dir(format!("/proc/{process}/fd")).expect("its descriptors");
        let mut paths = open.filter_map(|it| std::fs::read_link(it.ok()?.path()).ok());
        paths.any(|path| path == caller.path())
    };
    assert!(holds(runner), "the test sees nothing");
    assert!(!holds(spawners[0]));
    for init in crate::residue::children(spawners[0]) {
        match std::fs::read_dir(format!("/proc/{init}/fd")) {
            // It cannot be traced, so that who is not root may not even look.
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied),
            Ok(_) => assert!(!holds(init)),
        }
    }
    kill(runner, Signal::SIGINT);
    child.wait().expect("wait");
}

/// A run of several jobs leaves nothing either, however it ended.
#[test]
fn ordinary_ends() {
    needs!(Need::Containers);
    let _quiet = alone();
    let cofferdam = Cofferdam::unshared();
    cofferdam.script(&[], "true").expect(0);
    let before = Snapshot::take(cofferdam.state());
    for (flags, script) in [
        (&[][..], "exit 3"),
        (&["--timeout", "1s"], "setsid sleep 1000 & sleep 1000"),
        (&["--memory", "16MiB"], "head -c 100m /dev/zero | tail"),
        (&["--disk", "4MiB"], "head -c 100m /dev/zero > /tmp/x"),
        (&["--user", "no-such-user"], "true"),
        (&["--mount", "/no/such/path:/x"], "true"),
        (&[], "kill -9 -1"),
        (&[], "(setsid sh -c 'trap \"\" TERM HUP; sleep 1000' &) ; true"),
    ] {
        cofferdam.script(flags, script);
        before.expect_again(cofferdam.state());
    }
}

/// Waits until the child has printed `line`.
fn wait_for(child: &mut std::process::Child, line: &str) {
    use std::io::BufRead as _;
    let mut stdout = std::io::BufReader::new(child.stdout.as_mut().expect("a pipe"));
    let mut printed = String::new();
    while !printed.ends_with(line) {
        let read = stdout.read_line(&mut printed).expect("a line");
        assert_ne!(read, 0, "it ended: {printed}");
    }
}
