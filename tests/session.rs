//! Under systemd: in a user's login session, which has no control group of its own, and as root, as
//! a service to which one is delegated and as one to which none is.
//!
//! `tests/vm/run --systemd` boots a machine for these.

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    binary::{Cofferdam, PATIENCE, file, program, wait},
    host::{Need, needs},
};

/// Below the mounted hierarchy, the groups of instances in `directory`.
fn instances(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("list the control groups");
    let instance = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("cofferdam-") && name != "cofferdam-supervisor" && path.is_dir()
    };
    entries.map(|entry| entry.expect("an entry").path()).filter(instance).collect()
}

/// Starts a container that stays until its input ends, and waits until it stands.
fn standing(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("start");
    let mut said = [0; 3];
    let read = child.stdout.as_mut().expect("its output").read_exact(&mut said);
    if read.is_err() || &said != b"up\n" {
        panic!("it does not stand: {}", wait(child).text());
    }
    child
}

const STAY: [&str; 7] = ["exec", "host", "-i", "--", "sh", "-c", "echo up; read end; exit 7"];

/// A user who has logged in says `cofferdam exec` and no more.
#[test]
fn a_login_session_is_enough() {
    needs!(Need::LoginSession);
    let cofferdam = Cofferdam::common();
    let mut child = standing(cofferdam.command(STAY));
    let group = std::fs::read_to_string(format!("/proc/{}/cgroup", child.id())).expect("a group");
    assert!(group.contains("/user@"), "it is the session's: {group}");
    assert!(group.contains(".scope/cofferdam-supervisor"), "not a scope of its own: {group}");
    // Its claim to what the groups above are protected with.
    let leaf = group.trim_end().split_once("::").expect("a path").1;
    let claimed = std::fs::read_to_string(format!("/sys/fs/cgroup{leaf}/memory.min"));
    assert_eq!(claimed.expect("a limit"), "67108864\n");
    child.stdin.take().expect("its input").write_all(b"end\n").expect("write");
    wait(child).expect(7);
    cofferdam.run(["doctor"]).expect(0);
    // The scope ends with what is in it.
    let deadline = Instant::now() + PATIENCE;
    let list = ["--user", "list-units", "--type=scope", "--all", "--plain", "--no-legend"];
    loop {
        let output = program("systemctl").args(list).output().expect("run systemctl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !text.lines().any(|line| line.ends_with(" cofferdam")) {
            break;
        }
        assert!(Instant::now() < deadline, "a scope is left:\n{text}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Limits hold there, for a pipeline as for a command.
#[test]
fn limits_hold_in_a_login_session() {
    needs!(Need::LoginSession);
    let directory = tempfile::tempdir().expect("a directory");
    let hog = "head -c 200M /dev/zero | tail";
    file(
        directory.path(),
        "hog.yml",
        format!("jobs:\n  hog:\n    limits: {{ memory: 32MiB }}\n    steps: [{{ run: {hog} }}]\n"),
    );
    let cofferdam = Cofferdam::common().in_directory(directory.path());
    let run = cofferdam.run(["run", "hog.yml", "--out", "out"]).expect(1);
    run.says(&["memory", "32 MiB"]);
}

/// As root, a delegated unit keeps its containers below itself, and any other gets groups at the root.
#[test]
fn services_of_root() {
    needs!(Need::Root, Need::ServiceManager);
    let check = |unit: &str, properties: &[&str], base: &str| {
        let cofferdam = Cofferdam::new();
        let plain = cofferdam.command(STAY);
        let mut command = program("systemd-run");
        command.args(["--quiet", "--wait", "--pipe", "--collect", "--unit", unit]);
        command
            .args(properties)
            .arg(format!("--setenv=COFFERDAM_STATE={}", cofferdam.state().display()));
        command.arg("--").arg(plain.get_program()).args(plain.get_args());
        let mut child = standing(command);
        assert_eq!(instances(Path::new(base)).len(), 1, "below `{base}`");
        child.stdin.take().expect("its input").write_all(b"end\n").expect("write");
        wait(child).expect(7);
        let left = Path::new(base).exists().then(|| instances(Path::new(base)));
        assert_eq!(left.unwrap_or_default(), Vec::<PathBuf>::new());
    };
    // One name each: systemd forgets a unit some time after its end.
    let delegated = "/sys/fs/cgroup/system.slice/runs-containers.service";
    check("runs-containers", &["--property=Delegate=yes"], delegated);
    check("runs-others", &[], "/sys/fs/cgroup");
}
