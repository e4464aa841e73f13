//! `run --keep-state`: what jobs have written outlives the run, as images and for comparisons.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;

use crate::{
    binary::{Cofferdam, Ended, file, wait},
    host::{Need, needs},
};

const PIPELINE: &str = "\
jobs:
  build:
    image: busybox
    steps:
      - { id: one, run: echo 1 > /made; rm /etc/passwd; echo more >> /etc/group; mkdir /d; echo x > /d/x }
      - { name: the second, run: \"echo 2 >> /made; rm -r /d; mkdir /d; echo here > file; sleep 1000 & echo $! > /pid\" }
      - run: \"echo 3 >> /made; kill -0 $(cat /pid) 2> /dev/null && echo still there || echo gone\"
  child:
    from: build@one
    steps: [{ run: \"cat /made; echo of the child > /child\" }]
  fails:
    image: busybox
    steps: [{ run: echo core > /core; exit 3 }, { run: echo never }]
    allow-failure: true
  skipped:
    if: \"false\"
    steps: [{ run: echo never }]
  many:
    image: busybox
    matrix: { n: [1, 2] }
    steps: [{ run: \"echo ${{ matrix.n }} > /n\" }]
";

struct Scene {
    cofferdam: Cofferdam,
    project: tempfile::TempDir,
}

impl Scene {
    fn new(pipeline: &str) -> Self {
        let project = tempfile::tempdir().expect("a directory");
        file(project.path(), "cofferdam.yml", pipeline);
        let cofferdam = Cofferdam::with_busybox().in_directory(project.path());
        Self { cofferdam, project }
    }

    /// Runs it, and returns what came of it and its id.
    fn run(&self, more: &[&str]) -> (Ended, String, Value) {
        let runs = self.cofferdam.state().join("runs");
        let all = || -> BTreeSet<PathBuf> {
            let listed = fs::read_dir(&runs).into_iter().flatten();
            listed.map(|it| it.expect("a run").path()).collect()
        };
        let before = all();
        let ended = self.cofferdam.run(["run", "cofferdam.yml"].iter().chain(more));
        let newest = all().difference(&before).next().expect("a run").clone();
        let record = fs::read_to_string(newest.join("run.json")).expect("run.json");
        let id = newest.file_name().expect("a name").to_string_lossy().into_owned();
        (ended, id, serde_json::from_str(&record).expect("JSON"))
    }

    fn exec(&self, image: &str, script: &str) -> Ended {
        self.cofferdam.script_in(image, &[], script)
    }
}

#[test]
fn a_job_becomes_an_image() {
    needs!(Need::Containers, Need::Busybox);
    let scene = Scene::new(PIPELINE);
    let Scene { cofferdam, .. } = &scene;
    let (ended, id, record) = scene.run(&["--keep-state"]);
    ended.expect(0).says(&["| still there", "kept 5 states", &format!("image diff {id}/build")]);
    let state = &record["jobs"][0]["attempts"][0]["state"];
    assert!(state["bytes"].as_u64().is_some_and(|bytes| bytes > 1024), "{record:#}");
    let commit = |job: &str, name: &str| cofferdam.run(["image", "commit", &id, job, name]);
    commit("build", "app:1").expect(0).says(&["job `build` of run", "cofferdam exec app:1"]);
    let script = "cat /made; test ! -e /etc/passwd; tail -n 1 /etc/group; test ! -e /d/x; ls -d /d; ls /workspace | wc -l";
    let ended = scene.exec("app:1", script).expect(0);
    assert_eq!(ended.stdout, "1\n2\n3\nmore\n/d\n0\n");
    // Another that starts from it, and one that failed, and one of a matrix.
    commit("child", "child:1").expect(0);
    assert_eq!(scene.exec("child:1", "cat /made /child").expect(0).stdout, "1\nof the child\n");
    commit("fails", "fails:1").expect(0);
    assert_eq!(scene.exec("fails:1", "cat /core").expect(0).stdout, "core\n");
    commit("many (2)", "many:1").expect(0);
    assert_eq!(scene.exec("many:1", "cat /n").expect(0).stdout, "2\n");
    // Who made each layer, from what.
    let history = cofferdam.run(["image", "history", "child:1"]).expect(0);
    history.says(&["job `build`: one", "job `child`: cat /made", &format!("run {id}")]);
    // A pipeline starts from it.
    let text = "jobs: { a: { image: 'app:1', steps: [{ run: cat /made }] } }";
    file(scene.project.path(), "next.yml", text);
    cofferdam.run(["run", "next.yml"]).expect(0).says(&["| 3"]);
    // The same state is the same image, however often and by whoever; a name moves.
    let digest = |name: &str| {
        let ended = cofferdam.run(["image", "inspect", name, "--json"]).expect(0);
        let document: Value = serde_json::from_str(&ended.stdout).expect("JSON");
        document["id"].as_str().expect("an id").to_owned()
    };
    let start = |name| {
        let mut command = cofferdam.command(["image", "commit", "last", "build", name]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start")
    };
    // `last` is the run of `next.yml`, of which nothing is kept.
    wait(start("app:2")).expect(66).says(&["no job `build`", "there are `a`"]);
    let start = |name| {
        let mut command = cofferdam.command(["image", "commit", &id, "build", name, "--json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start")
    };
    for ended in ["app:2", "app:2", "app:3"].map(start).map(wait) {
        let document: Value = serde_json::from_str(&ended.expect(0).stdout).expect("JSON");
        assert_eq!(document["id"], digest("app:1"));
    }
    let before = digest("child:1");
    commit("build", "child:1").expect(0).says(&["before, `child:1` was", &before]);
    assert_eq!(digest("child:1"), digest("app:1"));
}

#[test]
fn each_step_becomes_an_image() {
    needs!(Need::Containers, Need::Busybox);
    let scene = Scene::new(PIPELINE);
    let Scene { cofferdam, .. } = &scene;
    let (ended, id, _) = scene.run(&["--keep-state=steps", "--job", "build", "--job", "child"]);
    // What a step leaves running ends with it.
    ended.expect(0).says(&["| gone", "kept 4 states"]);
    let check = |step: &str, expect: &str| {
        cofferdam.run(["image", "commit", &id, &format!("build@{step}"), "step:1"]).expect(0);
        let script = "tr '\\n' ' ' < /made; ls /d; ls /etc/passwd 2> /dev/null; true";
        assert_eq!(scene.exec("step:1", script).expect(0).stdout, expect, "{step}");
    };
    check("one", "1 x\n");
    check("1", "1 x\n");
    check("the second", "1 2 ");
    check("3", "1 2 3 ");
    let history = cofferdam.run(["image", "history", "step:1", "--json"]).expect(0);
    let history: Value = serde_json::from_str(&history.stdout).expect("JSON");
    let by: Vec<&str> = history
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|it| it["created_by"].as_str())
        .collect();
    let ours: Vec<&str> = by.into_iter().filter(|by| by.starts_with("job")).collect();
    assert_eq!(ours.len(), 3, "{history:#}");
    assert_eq!(ours[1], "job `build`: the second");
    let diff = |words: &[&str]| cofferdam.run(["image", "diff"].iter().chain(words));
    let (one, two) = (format!("{id}/build@one"), format!("{id}/build@2"));
    let ended = diff(&[&one, &two]).expect(1);
    let expect = "D /d/x  2 B\nC /made  2 B → 4 B\nA /pid  ";
    assert!(ended.stdout.starts_with(expect), "{}", ended.text());
    assert_eq!(ended.stdout.lines().count(), 3, "{}", ended.text());
    diff(&[&one, &one]).expect(0);
    let background = "jobs: { a: { steps: [{ run: sleep 9, background: true }, { run: x }] } }";
    file(scene.project.path(), "cofferdam.yml", background);
    let refused = cofferdam.run(["run", "--keep-state=steps"]).expect(2);
    refused.says(&["job `a` has steps in the background", "`--keep-state`"]);
}

#[test]
fn a_run_is_compared_with_its_image() {
    needs!(Need::Containers, Need::Busybox);
    let scene = Scene::new(PIPELINE);
    let Scene { cofferdam, .. } = &scene;
    let (ended, id, _) = scene.run(&["--keep-state", "--job", "build"]);
    ended.expect(0);
    let build = format!("{id}/build");
    let diff = |words: &[&str]| cofferdam.run(["image", "diff"].iter().chain(words)).expect(1);
    let all = diff(&[&build]);
    for line in ["D /etc/passwd  ", "C /etc/group  ", "A /made  6 B", "A /d/\n"] {
        assert!(all.stdout.contains(line), "{line}: {}", all.text());
    }
    assert!(!all.stdout.contains("workspace"), "{}", all.text());
    all.says(&["1 deleted", "1 changed"]);
    assert_eq!(diff(&["busybox", &build]).stdout, diff(&["last/build"]).stdout);
    let back = diff(&[&build, "busybox", "--json"]);
    let mut lines = back.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let made = lines.find(|it: &Value| it["path"] == "/made").expect("the file");
    assert_eq!((&made["change"], &made["before"]), (&"deleted".into(), &6.into()));
    // On this machine's own files.
    file(scene.project.path(), "cofferdam.yml", "jobs: { a: { steps: [{ run: echo x > /x }] } }");
    let (ended, ..) = scene.run(&["--keep-state"]);
    ended.expect(0);
    assert_eq!(diff(&["last/a"]).stdout, "A /x  2 B\n");
    assert_eq!(diff(&["host", "last/a"]).stdout, "A /x  2 B\n");
    let ended = cofferdam.run(["image", "diff", "busybox", "last/a"]).expect(2);
    ended.says(&["`host` is this machine"]);
    cofferdam.run(["image", "diff", "busybox"]).expect(2).says(&["name a second image"]);
}

#[test]
fn what_is_not_kept_says_so() {
    needs!(Need::Containers, Need::Busybox);
    let scene = Scene::new(&format!(
        "images: {{ tool: {{ from: busybox, steps: [{{ run: touch /t }}] }} }}\n{PIPELINE}  tooled: {{ image: tool, steps: [{{ run: \"true\" }}] }}\n  odd: {{ image: busybox, steps: [{{ run: touch /.wh.name }}] }}\n"
    ));
    let Scene { cofferdam, .. } = &scene;
    let (ended, plain, _) = scene.run(&[]);
    ended.expect(0);
    let (ended, kept, record) = scene.run(&["--keep-state"]);
    // That it cannot be kept fails no job.
    ended.expect(0).says(&["the state of job `odd` was not kept", "begins with `.wh.`"]);
    let odd = record["jobs"].as_array().expect("jobs").iter().find(|job| job["id"] == "odd");
    assert!(odd.expect("a job")["attempts"][0]["state"]["why"].is_string(), "{record:#}");
    let check = |run: &str, job: &str, status: i32, expect: &[&str]| {
        let ended = cofferdam.run(["image", "commit", run, job, "app:1"]);
        ended.expect(status).says(expect);
        let diff = cofferdam.run(["image", "diff", &format!("{run}/{job}")]);
        if !run.contains("nothing") {
            diff.expect(status).says(expect);
        }
    };
    check("nothing", "build", 66, &["no run in", "`last`"]);
    check(&plain, "build", 66, &["it was not to be kept", "run cofferdam.yml --keep-state"]);
    check(&plain, "build@one", 66, &["it was not to be kept", "--keep-state=steps"]);
    check(&kept, "build@one", 66, &["it was not to be kept", "--keep-state=steps"]);
    check(&kept, "build@four", 66, &["no step `four`", "`one`, `the second`"]);
    check(&kept, "none", 66, &["has no job `none`", "`build`"]);
    check(&kept, "many", 2, &["are several jobs", "`many (1)`, `many (2)`"]);
    check(&kept, "skipped", 66, &["did not run", "its `if` does not hold", "cofferdam explain"]);
    check(&kept, "fails@2", 66, &["step `2` of job `fails` did not run"]);
    check(&kept, "odd", 66, &["could not be kept", "begins with `.wh.`"]);
    check(&kept, "image tool", 66, &["the making of an image", "cofferdam image tag sha256:"]);
    cofferdam.run(["image", "commit", &kept, "build", "Wrong Name"]).expect(2);
    let embedded = cofferdam.run(["image", "commit", &kept, "build", "host"]).expect(1);
    embedded.says(&["the name `host` belongs to the embedded image"]);
    // The last step that ran is what the job ended with.
    cofferdam.run(["image", "commit", &kept, "build@3", "app:1"]).expect(0);
    cofferdam.run(["image", "commit", &kept, "fails@1", "app:1"]).expect(0);
    // A bound of the store holds for states, too, and a name for what it stands for.
    cofferdam.run(["image", "commit", &kept, "build", "app:1"]).expect(0);
    let dry = cofferdam.run(["image", "gc", "--keep", "1B", "--dry-run"]).expect(0);
    dry.says(&["would remove 6 kept states"]);
    let mut user = cofferdam.command(["exec", "app:1", "--", "cat"]);
    let mut user = user.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start");
    cofferdam.run(["image", "gc", "--keep", "1B"]).expect(0).says(&["kept states of jobs"]);
    drop(user.stdin.take());
    assert!(user.wait().expect("wait").success());
    check(&kept, "fails", 66, &["needed the room", "--keep-state"]);
    assert_eq!(scene.exec("app:1", "cat /made").expect(0).stdout, "1\n2\n3\n");
}

/// What is kept does not depend on the runner, nor on its end.
#[test]
fn nothing_is_left_but_the_image() {
    needs!(Need::Containers, Need::Busybox);
    let scene = Scene::new(PIPELINE);
    let (ended, _, record) = scene.run(&["--keep-state=steps"]);
    ended.expect(0);
    assert_eq!(record["residue"].as_array().map(Vec::len), Some(0), "{record:#}");
    let left = crate::residue::Snapshot::take(scene.cofferdam.state());
    assert!(!left.names("process") && !left.names("mount"), "{left:#?}");
    assert!(Path::new(scene.cofferdam.state()).join("store/states").is_dir());
}
