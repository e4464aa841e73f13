//! Where the value of a secret must never be: in a command line, in an environment that is not its
//! job's, in a plan, in a result, in a message, in a core.

use std::{fs, os::unix::process::ExitStatusExt as _, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nix::sys::signal::Signal;

use crate::{
    binary::{Cofferdam, await_that, file, kill, program, wait},
    host::{Need, needs, not_run, test},
    residue::children,
};

const VALUE: &str = "correct-horse/battery+staple";

/// Its step says the secret in every way that ends in a result, and waits for the test in between.
const PIPELINE: &str = r#"
secrets: [TOKEN]
jobs:
  use:
    secrets: [TOKEN]
    outputs: { said: "${{ steps.say.outputs.said }}" }
    artifacts: { paths: [kept], when: always }
    steps:
      - id: say
        name: says it
        run: |
          echo "said=$TOKEN" >> "$COFFERDAM_OUTPUT"
          echo "up $TOKEN" | tee -a "$COFFERDAM_SUMMARY"
          echo kept > kept
          until test -e /shared/go; do sleep 0.02; done
          echo "failing with $TOKEN" >&2
          exit 3
  told:
    needs: use
    if: always()
    env: { SAID: "${{ needs.use.outputs.said }}" }
    steps: [{ run: 'echo "told [$SAID]"; exec "./$SAID"' }]
"#;

struct Scene {
    cofferdam: Cofferdam,
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        file(directory.path(), "cofferdam.yml", PIPELINE);
        file(directory.path(), "secrets.env", format!("TOKEN={VALUE}\n"));
        let shared = directory.path().join("shared");
        fs::create_dir(&shared).expect("a directory");
        let cofferdam = Cofferdam::new().in_directory(directory.path());
        Self { cofferdam, directory }
    }

    fn arguments(&self) -> Vec<String> {
        let shared = format!("{}/shared:/shared", self.directory.path().display());
        let outside = ["--secret-file", "secrets.env", "--out", "out", "--mount", &shared];
        ["run"].iter().chain(&outside).map(|it| (*it).to_owned()).collect()
    }

    fn is_up(&self) -> bool {
        let log = self.directory.path().join("out/logs/use");
        let Ok(entries) = fs::read_dir(log) else { return false };
        entries
            .flatten()
            .any(|entry| fs::read_to_string(entry.path()).is_ok_and(|text| text.contains("up ***")))
    }
}

/// This value, and how base64 writes it.
fn holds(bytes: &[u8]) -> bool {
    let forms = [VALUE.to_owned(), STANDARD.encode(VALUE)];
    forms.iter().any(|form| bytes.windows(form.len()).any(|window| window == form.as_bytes()))
}

fn descendants(of: u32) -> Vec<u32> {
    let mut all = children(of);
    let mut next = 0;
    while let Some(each) = all.get(next).copied() {
        all.extend(children(each));
        next += 1;
    }
    all
}

fn check_files(below: &Path) {
    for entry in fs::read_dir(below).expect("list").flatten() {
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            check_files(&entry.path());
        } else if kind.is_file() {
            let found = holds(&fs::read(entry.path()).expect("read"));
            assert!(!found, "the secret is in `{}`", entry.path().display());
        }
    }
}

#[test]
fn nothing_but_the_job_has_the_value() {
    needs!(Need::Containers);
    let scene = Scene::new();
    let run = scene.cofferdam.command(scene.arguments()).spawn().expect("start cofferdam");
    await_that(|| scene.is_up());
    let all = descendants(run.id());
    assert!(all.len() > 3, "the spawner, an init and a step at least: {all:?}");
    let mut having = 0;
    for process in all.iter().chain([&run.id()]) {
        let read = |name: &str| fs::read(format!("/proc/{process}/{name}")).unwrap_or_default();
        assert!(!holds(&read("cmdline")), "in the command line of {process}");
        having += usize::from(holds(&read("environ")));
    }
    // The shell of the step, and what it has started.
    assert!((1..=2).contains(&having), "{having} processes have it");
    file(&scene.directory.path().join("shared"), "go", "");
    let ended = wait(run).expect(1).says(&[
        "up ***",
        "failing with ***",
        "told [***]",
        "exited with code 3",
    ]);
    assert!(!holds(ended.text().as_bytes()), "{}", ended.text());
    check_files(&scene.directory.path().join("out"));
    assert!(scene.directory.path().join("out/run.json").exists());
    check_files(scene.cofferdam.state());
    for arguments in [&["plan", "--json"][..], &["explain", "--run", "out"], &["logs", "out"]] {
        let ended = scene.cofferdam.run(arguments);
        assert!(!holds(ended.text().as_bytes()), "{arguments:?}: {}", ended.text());
    }
}

/// The runner alone has the values of all jobs.
#[test]
fn a_runner_that_breaks_leaves_none_in_a_core() {
    needs!(Need::Containers);
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if pattern.trim() != "core" {
        not_run(test!(), &format!("cores go to `{}`", pattern.trim()));
        return;
    }
    let cores = |directory: &Path| {
        let names = fs::read_dir(directory).expect("list").flatten().map(|it| it.file_name());
        names.filter(|name| name == "core" || name.to_string_lossy().starts_with("core.")).count()
    };
    let start = |scene: &Scene, arguments: &[String]| {
        let command = scene.cofferdam.command(arguments);
        let mut shell = program("sh");
        shell.args(["-c", "ulimit -c unlimited && exec \"$@\"", "sh"]);
        shell.arg(command.get_program()).args(command.get_args()).env_clear();
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.current_dir(scene.directory.path()).stdout(std::process::Stdio::null());
        shell.spawn().expect("start cofferdam")
    };
    let scene = Scene::new();
    let mut run = start(&scene, &scene.arguments());
    await_that(|| scene.is_up());
    kill(run.id(), Signal::SIGABRT);
    let status = run.wait().expect("wait");
    assert_eq!(status.signal(), Some(6));
    assert!(!status.core_dumped(), "it left a core");
    assert_eq!(cores(scene.directory.path()), 0);

    // Without secrets there is one, for whoever mends the fault.
    let open = PIPELINE.replace("secrets: [TOKEN]", "").replace("$TOKEN", "***");
    file(scene.directory.path(), "cofferdam.yml", open);
    fs::remove_dir_all(scene.directory.path().join("out")).expect("remove");
    let mut arguments = scene.arguments();
    arguments.retain(|it| !it.starts_with("--secret") && !it.starts_with("secrets"));
    let mut run = start(&scene, &arguments);
    await_that(|| scene.is_up());
    kill(run.id(), Signal::SIGABRT);
    assert!(run.wait().expect("wait").core_dumped(), "this test cannot see cores");
}
