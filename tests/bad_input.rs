//! Bad input to a run: a paragraph that says what, where and what to do, a documented exit status,
//! and nothing left behind.

use std::path::Path;

use crate::{
    binary::{Cofferdam, Ended, copy_program, file, fixture, program, wait},
    host::{Need, needs},
    residue::Snapshot,
};

/// Runs a pipeline of this text in a project of its own.
fn run(text: &str, arguments: &[&str]) -> Ended {
    let project = tempfile::tempdir().expect("a directory");
    file(project.path(), "cofferdam.yml", text);
    let cofferdam = Cofferdam::new().in_directory(project.path());
    let ended = cofferdam.run(["run"].iter().chain(arguments));
    assert!(!ended.text().contains("panicked"), "{}", ended.text());
    let left = Snapshot::take(cofferdam.state());
    for kind in ["process", "mount", "loop device"] {
        assert!(!left.names(kind), "{left:#?}");
    }
    let names: Vec<_> = std::fs::read_dir(project.path()).expect("list").collect();
    assert!(names.len() <= 2, "more than the run's directory appeared: {names:?}");
    ended
}

/// A wrong file stops a run as it stops `check`, before anything starts.
#[test]
fn wrong_pipeline() {
    let cases: &[(&str, &str)] = &[
        ("jobs: { a: { stps: [{ run: x }] } }", "steps"),
        ("jobs: { a: { steps: [{ run: [x] }] } }", "run"),
        (
            "jobs: { a: { needs: [b], steps: [{ run: x }] }, b: { needs: [a], steps: [{ run: x }] } }",
            "a",
        ),
        ("jobs: { a: { steps: [{ run: x }] }, a: { steps: [{ run: y }] } }", "a"),
        ("a: &a [x]\nb: &b [*a, *a]\njobs: *b", "jobs"),
    ];
    for (text, says) in cases {
        run(text, &[]).expect(65).says(&["cofferdam.yml", says]);
    }
}

/// An argument that does not fit the pipeline names what there is.
/// Only the file that the caller names may be a pipe.
#[test]
fn an_included_pipe_holds_nobody_up() {
    let project = tempfile::tempdir().expect("a directory");
    file(project.path(), "cofferdam.yml", "include: [pipe.yml]\n");
    let mode = nix::sys::stat::Mode::S_IRWXU;
    nix::unistd::mkfifo(&project.path().join("pipe.yml"), mode).expect("a pipe");
    let cofferdam = Cofferdam::new().in_directory(project.path());
    cofferdam.run(["check"]).expect(65).says(&["pipe.yml", "it is not a file"]);
}

#[test]
fn wrong_arguments() {
    let text = "params: { mode: { default: a, options: [a, b] } }\nsecrets: [TOKEN]\n\
                jobs: { build: { steps: [{ run: 'true' }] } }";
    let cases: &[(&[&str], &[&str])] = &[
        (&["--job", "biuld"], &["biuld", "build"]),
        (&["--param", "mdoe=a"], &["mdoe", "mode"]),
        (&["--param", "mode=c"], &["mode", "a", "b"]),
        (&["--param", "mode"], &["mode"]),
        (&["--max-parallel", "0"], &["max-parallel"]),
        (&["--secret", "TOKNE=1234567890"], &["TOKNE", "TOKEN"]),
    ];
    for (arguments, says) in cases {
        let ended = run(text, arguments).says(says);
        assert!([2, 64, 65].contains(&ended.status), "{arguments:?}: {}", ended.status);
        assert!(!ended.text().contains("1234567890"), "a secret is shown: {}", ended.text());
    }
}

/// A missing image is named, with how to get one.
#[test]
fn missing_image() {
    needs!(Need::Containers);
    run("jobs: { a: { image: not-here, pull: never, steps: [{ run: x }] } }", &[]).expect(66).says(
        &[
            "not-here",
            "the store has no such image",
            "cofferdam image pull",
            "cofferdam image import",
        ],
    );
}

/// What a job lacked is told with what to write.
#[test]
fn what_jobs_lack() {
    needs!(Need::Containers);
    let text = "\
defaults: { workspace: none }
jobs:
  program: { steps: [{ exec: [no-such-program] }] }
  mode: { steps: [{ exec: [/etc/hosts] }] }
  reports: { steps: [{ run: 'true' }], results: { junit: ['*.xml', out/*.xml] } }
  network: { steps: [{ run: 'echo \"curl: (6) Could not resolve host: example.org\" >&2; exit 6' }] }
";
    let ended = run(text, &[]).expect(1).says(&[
        "name a program of the image",
        "make it executable",
        "no file matches `*.xml`, `out/*.xml`",
    ]);
    let told = "  it had no network: `network: full` or `network: { allow: [HOST:PORT] }`\n";
    assert_eq!(ended.text().matches(told).count(), 1, "{}", ended.text());
}

/// The image `host` is no image of the store.
#[test]
fn images_of_this_machine() {
    let cofferdam = Cofferdam::new();
    for arguments in [
        &["inspect", "host"][..],
        &["history", "host"],
        &["export", "host", "x.tar"],
        &["push", "host", "localhost:1/x"],
        &["tag", "host", "other"],
        &["rm", "host"],
        &["unpack", "host", "x"],
    ] {
        let ended = cofferdam.run(["image"].iter().chain(arguments)).expect(2);
        ended.says(&["`host` is this machine, not an image of the store"]);
    }
    for arguments in [&["export", "none", "x.tar"][..], &["push", "none", "localhost:1/x"]] {
        let ended = cofferdam.run(["image"].iter().chain(arguments)).expect(66);
        ended.says(&["there is no image `none`", "`cofferdam image ls` lists them"]);
    }
}

/// A workspace that is not there is said before anything starts.
#[test]
fn missing_workspace() {
    needs!(Need::Containers);
    let cofferdam = Cofferdam::new();
    let file = fixture("pipelines/diamond.yml");
    let file = file.to_str().expect("a path");
    let says = &["/no/such/project"];
    cofferdam.run(["run", file, "--workspace", "/no/such/project"]).expect(66).says(says);
    let flags = ["exec", "host", "--workspace", "/no/such/project", "--", "true"];
    cofferdam.run(flags).expect(125).says(says);
    // A file is no project either.
    cofferdam.run(["run", file, "--workspace", file]).expect(66).says(&["directory"]);
}

/// Runs a command in a container as the user `nobody`, with the state directory `state`.
fn as_nobody_in(state: &Path, configuration: &str) -> Ended {
    let place = tempfile::tempdir().expect("a directory");
    let copied = place.path().join("cofferdam");
    copy_program(env!("CARGO_BIN_EXE_cofferdam"), &copied);
    open_to_all(place.path(), 0o755);
    let mut command = program("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&copied)
        .args(["exec", "host", "--", "true"])
        .env("COFFERDAM_STATE", state)
        .env("COFFERDAM_CONFIG", file(place.path(), "config.yml", configuration))
        .current_dir("/")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    wait(command.spawn().expect("start"))
}

/// As above, with a state directory of nobody's own, in which it leaves nothing.
pub(crate) fn as_nobody(configuration: &str) -> Ended {
    let state = tempfile::tempdir().expect("a directory");
    open_to_all(state.path(), 0o777);
    let ended = as_nobody_in(&state.path().join("below"), configuration);
    let left = std::fs::read_dir(state.path().join("below/instances")).expect("the journals");
    assert_eq!(left.count(), 0);
    ended
}

/// A user who may not write the state directory reads what would help.
#[test]
fn no_permission() {
    needs!(Need::Root, Need::Containers, Need::Program("setpriv"));
    let state = tempfile::tempdir().expect("a directory");
    let ended = as_nobody_in(&state.path().join("below"), "").expect(125);
    ended.says(&["Permission denied", "help: choose a"]);
}

/// Without control groups of their own a user's limits cannot be enforced, so nothing is run.
#[test]
fn no_delegated_control_groups() {
    needs!(Need::Root, Need::Containers, Need::Program("setpriv"));
    as_nobody("").expect(125).says(&["failed to enforce the limit `memory`", "help: "]);
}

fn open_to_all(directory: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(mode)).expect("chmod");
}

/// A project that holds the state directory cannot be shown: a job of a run hears what to do, too.
#[test]
fn a_project_around_the_state_directory() {
    needs!(Need::Containers);
    let directory = tempfile::tempdir().expect("a directory");
    file(directory.path(), "x.yml", "jobs:\n  x:\n    steps: [{ run: 'true' }]\n");
    let state = directory.path().join("state");
    let cofferdam = Cofferdam::new().with_state(&state).in_directory(directory.path());
    let run = cofferdam.run(["run", "x.yml", "--out", "out"]).expect(1);
    let exec = cofferdam.run(["exec", "host", "--workspace", ".", "--", "true"]).expect(125);
    for ended in [run, exec] {
        let text = ended.text().split_whitespace().collect::<Vec<_>>().join(" ");
        for words in ["lies in the state directory", "choose another directory", "`--state`"] {
            assert!(text.contains(words), "`{words}` is not in\n{}", ended.text());
        }
    }
}

/// A full disk under the state directory is the system's fault, not the pipeline's.
#[test]
fn full_disk() {
    needs!(Need::Root, Need::Program("unshare"));
    let state = tempfile::tempdir().expect("a directory");
    let script = "mount -t tmpfs -o size=256k,mode=755 none \"$1\" \
                  && head -c 1m /dev/zero > \"$1/filler\" 2>/dev/null; \
                  \"$2\" exec host -- true; echo \"status $?\"; ls \"$1\"";
    let mut command = program("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        .arg(state.path())
        .arg(env!("CARGO_BIN_EXE_cofferdam"))
        .env("COFFERDAM_STATE", state.path())
        .env("COFFERDAM_CONFIG", "/dev/null")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let ended = wait(command.spawn().expect("start"));
    let ended = ended.says(&["status 125", "No space left"]);
    assert!(!ended.text().contains("panicked"), "{}", ended.text());
}

/// Where the kernel refuses namespaces (here: inside a container of our own) it is said, not hung on.
#[test]
fn missing_kernel_feature() {
    needs!(Need::Containers);
    let directory = tempfile::tempdir().expect("a directory");
    copy_program(env!("CARGO_BIN_EXE_cofferdam"), &directory.path().join("cofferdam"));
    open_to_all(directory.path(), 0o755);
    let mount = format!("{}:/inner:ro", directory.path().display());
    let ended = Cofferdam::new().script(
        &["--mount", &mount],
        "COFFERDAM_STATE=/tmp/state /inner/cofferdam exec host -- true; echo \"status $?\"",
    );
    let ended = ended.says(&["status 125", "failed to fork the spawner", "help:"]);
    assert!(!ended.text().contains("panicked"), "{}", ended.text());
}
