//! `images:`: what was built is not built again, by anyone, and what a build does stays its own.

use std::{fs, path::Path, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    binary::{Cofferdam, Ended, file, kill, wait},
    host::{Need, needs},
};

/// How often the steps of a pipeline were run and not kept, by what they say when they run.
fn built(ended: &Ended) -> usize {
    ended.text().lines().filter(|line| line.contains("| really ran")).count()
}

fn kept(ended: &Ended) -> usize {
    ended.text().lines().filter(|line| line.contains("kept from an earlier build")).count()
}

/// A project with a pipeline whose images have these steps.
fn project(steps: &str) -> tempfile::TempDir {
    let project = tempfile::tempdir().expect("a directory");
    write(project.path(), "host", steps);
    project
}

fn write(project: &Path, from: &str, steps: &str) {
    let text = format!(
        "images:\n  tool:\n    from: {from}\n    steps:\n{steps}\njobs:\n  use: {{ image: tool, steps: [{{ run: cat /opt/made 2>/dev/null || true }}] }}\n"
    );
    file(project, "cofferdam.yml", text);
}

const STEPS: &str = "      - run: echo really ran one; echo 1 > /opt/made\n      \
                     - run: echo really ran two; echo 2 >> /opt/made\n      \
                     - run: echo really ran three; echo 3 >> /opt/made\n";

#[test]
fn an_unchanged_beginning_is_not_run_again() {
    needs!(Need::Containers);
    let project = project(STEPS);
    let cofferdam = Cofferdam::new().in_directory(project.path());
    let run = || cofferdam.run(["run", "cofferdam.yml"]).expect(0);
    let first = run();
    assert_eq!((built(&first), kept(&first)), (3, 0), "{}", first.text());
    let again = run().says(&["| 1", "| 2", "| 3"]);
    assert_eq!((built(&again), kept(&again)), (0, 3), "{}", again.text());
    // A step in the middle: it and what follows.
    write(project.path(), "host", &STEPS.replace("echo 2", "echo two"));
    let changed = run().says(&["| two"]);
    assert_eq!((built(&changed), kept(&changed)), (2, 1), "{}", changed.text());
    // And back: what was made before is still there.
    write(project.path(), "host", STEPS);
    assert_eq!(built(&run()), 0);
    // Limits and names are no part of what is made; the environment is.
    write(
        project.path(),
        "host",
        &STEPS.replacen(
            "- run: echo really ran one",
            "- name: other\n        run: echo really ran one",
            1,
        ),
    );
    assert_eq!(built(&run()), 0);
    let with_env = STEPS.replacen("- run", "- env: { A: b }\n        run", 1);
    write(project.path(), "host", &with_env);
    // It is run with it, and has made the same files: what follows is the same as before.
    let with_env = run();
    assert_eq!((built(&with_env), kept(&with_env)), (1, 2), "{}", with_env.text());
    // When the store has to let go of them, they are made again.
    cofferdam.run(["image", "gc", "--keep", "1B"]).expect(0);
    assert_eq!(built(&run()), 3);
}

#[test]
fn who_wants_the_same_waits_for_it() {
    needs!(Need::Containers);
    // Two images with the same steps in one run.
    let project = tempfile::tempdir().expect("a directory");
    let steps = "steps: [{ run: echo really ran; sleep 5; echo 1 > /opt/made }]";
    file(
        project.path(),
        "cofferdam.yml",
        format!(
            "images:\n  one: {{ from: host, {steps} }}\n  two: {{ from: host, {steps} }}\n\
             jobs:\n  a: {{ image: one, steps: [{{ run: cat /opt/made }}] }}\n  b: {{ image: two, steps: [{{ run: cat /opt/made }}] }}\n"
        ),
    );
    let cofferdam = Cofferdam::new().in_directory(project.path());
    let ended = cofferdam.run(["run", "cofferdam.yml", "--max-parallel", "4"]).expect(0);
    let ended = ended.says(&["waiting for another build of"]);
    assert_eq!((built(&ended), kept(&ended)), (1, 1), "{}", ended.text());
    // Two runs at the same time.
    cofferdam.run(["image", "gc", "--keep", "1B"]).expect(0);
    let start = |job| {
        let child = cofferdam.command(["run", "cofferdam.yml", "--job", job]).spawn();
        child.expect("start cofferdam")
    };
    let both = ["a", "b"].map(start).map(wait).map(|ended| ended.expect(0));
    assert_eq!(both.iter().map(built).sum::<usize>(), 1, "{}", both[0].text() + &both[1].text());
    assert_eq!(both.iter().map(kept).sum::<usize>(), 1);
}

#[test]
fn a_killed_build_leaves_the_store_whole() {
    needs!(Need::Containers);
    // Not what the job prints: to show that much took most of the test's time.
    let steps = "      - run: echo really ran one; head -c 30m /dev/zero > /opt/large\n      \
                 - run: echo really ran two; touch /opt/two\n";
    let project = project(steps);
    let cofferdam = Cofferdam::new().in_directory(project.path());
    cofferdam.script(&[], "true").expect(0);
    for moment in [50, 150, 250, 400, 600, 900] {
        let mut child = cofferdam.command(["run", "cofferdam.yml"]).spawn().expect("start");
        std::thread::sleep(Duration::from_millis(moment));
        kill(child.id(), Signal::SIGKILL);
        child.wait().expect("wait");
    }
    let ended = cofferdam.run(["run", "cofferdam.yml"]).expect(0);
    assert!(built(&ended) + kept(&ended) == 2, "{}", ended.text());
    let temporary = fs::read_dir(cofferdam.state().join("store/tmp")).expect("store");
    assert_eq!(temporary.count(), 0, "what was left was cleared up");
}

#[test]
fn limits_and_networks_hold_in_builds() {
    needs!(Need::Containers);
    let check = |image: &str, expect: &[&str]| {
        let project = tempfile::tempdir().expect("a directory");
        let text = format!(
            "images:\n  tool: {{ from: host, {image} }}\n\
             jobs:\n  use: {{ image: tool, steps: [{{ run: \"true\" }}] }}\n  no-image: {{ steps: [{{ run: \"true\" }}] }}\n"
        );
        file(project.path(), "cofferdam.yml", text);
        let cofferdam = Cofferdam::new().in_directory(project.path());
        let out = project.path().join("out").display().to_string();
        cofferdam.run(["run", "cofferdam.yml", "--out", &out]).says(expect);
        let record: Value =
            serde_json::from_str(&fs::read_to_string(format!("{out}/run.json")).expect("record"))
                .expect("JSON");
        let conclusions = record["jobs"].as_array().expect("jobs").iter();
        let conclusions: Vec<_> =
            conclusions.map(|job| job["conclusion"].as_str().unwrap_or_default()).collect();
        assert_eq!(conclusions[2], "passed", "{record:#}");
        assert_eq!(conclusions[0], conclusions[1], "{record:#}");
        assert_ne!(conclusions[0], "passed", "{record:#}");
    };
    check(
        "limits: { memory: 64MiB }, steps: [{ run: \"head -c 200m /dev/zero | tail\" }]",
        &["the image tool was not made", "memory"],
    );
    check(
        "limits: { disk: 16MiB }, steps: [{ run: head -c 64m /dev/zero > /opt/large }]",
        &["the image tool was not made", "disk"],
    );
    check(
        "steps: [{ exec: [python3, -c, \"import socket; socket.create_connection(('192.0.2.1', 80), 2)\"] }]",
        &["Network is unreachable", "the image tool was not made"],
    );
    check("timeout: 1s, steps: [{ run: sleep 60 }]", &["timed out"]);
    check(
        "steps: [{ run: touch /opt/.wh.name }]",
        &["begins with `.wh.`", "the image tool was not made"],
    );
    check("steps: [{ run: exit 3 }]", &["exited with code 3"]);
}

/// A step is code of strangers: whatever it leaves behind, the layer is harmless or refused.
#[test]
fn what_hostile_steps_leave_behind() {
    needs!(Need::Containers);
    let project = tempfile::tempdir().expect("a directory");
    file(
        project.path(),
        "cofferdam.yml",
        "images:\n  tool:\n    from: host\n    steps:\n      - run: |\n          \
         python3 - <<'EOF'\n          import os\n          \
         os.makedirs('/opt/d')\n          \
         open('/opt/d/below', 'w').close()\n          \
         for name in ['user.overlay.opaque', 'user.overlay.redirect', 'trusted.overlay.opaque', 'security.capability']:\n            \
         try: os.setxattr('/opt/d', name, b'y')\n            \
         except OSError as error: print(name, error)\n          \
         for make in [lambda: os.mknod('/opt/null', 0o20666, os.makedev(1, 3)), lambda: os.mknod('/opt/whiteout', 0o20000, 0)]:\n            \
         try: make(); print('made a device')\n            \
         except OSError as error: print(error)\n          \
         os.setxattr('/opt/d/below', 'user.note', b'kept')\n          \
         open('/opt/odd \\n\\x1b[31m name', 'w').close()\n          \
         os.symlink('/etc/shadow', '/opt/link')\n          \
         os.chmod('/opt/d/below', 0o6755)\n          EOF\n      \
         - run: rm -r /opt/d && mkdir /opt/d && touch /opt/d/new\n\
         jobs:\n  use:\n    image: tool\n    steps:\n      - run: ls -a /opt/d; test ! -e /opt/d/below; test ! -e /opt/null; ls /opt | wc -l\n",
    );
    let cofferdam = Cofferdam::new().in_directory(project.path());
    let ended = cofferdam.run(["run", "cofferdam.yml"]).expect(0).says(&["| new"]);
    assert!(!ended.text().contains("made a device"), "{}", ended.text());
    file(
        project.path(),
        "deep.yml",
        "images:\n  tool:\n    from: host\n    steps:\n      - exec: [python3, -c, \"import os; os.chdir('/opt')\\nfor _ in range(10000): os.mkdir('d'); os.chdir('d')\"]\n\
         jobs:\n  use: { image: tool, steps: [{ run: \"true\" }] }\n",
    );
    cofferdam.run(["run", "deep.yml"]).expect(1).says(&["directories deep", "was not made"]);
}

/// The same steps on the same base make the same image, to the digest, and others can take it.
#[test]
fn the_same_image_wherever_it_is_made() {
    needs!(Need::Containers, Need::Program("skopeo"));
    let project = tempfile::tempdir().expect("a directory");
    let steps = "      - run: mkdir -p /opt/d && echo 1 > /opt/made && ln /opt/made /opt/d/twin && head -c 100 /dev/zero > /opt/zeros\n      \
                 - run: rm /opt/zeros && ln -s made /opt/link && mkfifo /opt/pipe && date > /dev/null\n";
    write(project.path(), "busybox", steps);
    let made = [0, 1].map(|number| {
        let cofferdam = Cofferdam::with_busybox().in_directory(project.path());
        let out = project.path().join(format!("out-{number}"));
        cofferdam.run(["run", "cofferdam.yml", "--out", &out.to_string_lossy()]).expect(0);
        let record = fs::read_to_string(out.join("run.json")).expect("run.json");
        let record: Value = serde_json::from_str(&record).expect("JSON");
        let id = record["jobs"][0]["image"]["digest"].as_str().expect("an id").to_owned();
        cofferdam.run(["image", "tag", &id, "tool:1"]).expect(0);
        cofferdam.run(["image", "history", "tool:1"]).expect(0).says(&["run: mkdir -p /opt/d"]);
        let layout = project.path().join(format!("layout-{number}"));
        let target = layout.to_string_lossy().into_owned();
        cofferdam.run(["image", "export", "tool:1", &target]).expect(0);
        // What another tool takes is what was written.
        let source = format!("oci:{target}");
        let copy = format!("dir:{}", project.path().join(format!("copy-{number}")).display());
        let output = crate::binary::skopeo().args(["copy", &source, &copy]).output();
        let output = output.expect("skopeo");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (id, fs::read_to_string(layout.join("index.json")).expect("index.json"))
    });
    assert_eq!(made[0], made[1]);
}

/// What a run would do is said before it, and what it has done after it.
#[test]
fn what_is_kept_is_said_before_and_after() {
    needs!(Need::Containers);
    let project = project(STEPS);
    let cofferdam = Cofferdam::new().in_directory(project.path());
    let lines = |words: &[&str], which: &str| -> String {
        let said = cofferdam.run(words).expect(0).stdout;
        let said = said.lines().filter(|line| line.starts_with(which)).map(str::trim);
        said.map(|line| line.replace("echo really ran ", "")).collect::<Vec<_>>().join("\n")
    };
    let plan = || lines(&["plan"], "    ");
    let run = || {
        cofferdam.run(["run", "cofferdam.yml", "--out", "out"]).expect(0);
        let after = lines(&["explain", "image tool", "--run", "out"], "    ");
        fs::remove_dir_all(project.path().join("out")).expect("remove the results");
        after
    };
    insta::assert_snapshot!(plan(), @"
    will be run: it is new
    will be run, after step 1
    will be run, after step 1
    ");
    insta::assert_snapshot!(run(), @"
    was run: it is new
    was run: it is new
    was run: it is new
    ");
    insta::assert_snapshot!(plan(), @"
    kept from an earlier build
    kept from an earlier build
    kept from an earlier build
    ");
    insta::assert_snapshot!(run(), @"
    kept from an earlier build
    kept from an earlier build
    kept from an earlier build
    ");
    let changed = STEPS.replace("echo 2 >>", "echo changed >>");
    write(project.path(), "host", &changed);
    insta::assert_snapshot!(plan(), @"
    kept from an earlier build
    will be run: the script is not as before
    will be run, after step 2
    ");
    insta::assert_snapshot!(lines(&["explain", "image tool"], "    "), @"
    kept from an earlier build
    will be run: the script is not as before
    will be run, after step 2
    ");
    insta::assert_snapshot!(run(), @"
    kept from an earlier build
    was run: the script is not as before
    was run: the image below it is not as before
    ");
    let json: Value =
        serde_json::from_str(&cofferdam.run(["plan", "--json"]).expect(0).stdout).expect("JSON");
    assert_eq!(json["jobs"][0]["steps"][2]["layer"], serde_json::json!({ "kept": true }));
    // A variable, another network, one more step.
    write(project.path(), "host", &changed.replacen("- run", "- env: { A: b }\n        run", 1));
    insta::assert_snapshot!(plan(), @"
    will be run: the variable `A` is not as before
    will be run, after step 1
    will be run, after step 1
    ");
    let more = format!("{changed}      - run: \"true\"\n    network: full\n");
    write(project.path(), "host", &more);
    insta::assert_snapshot!(plan(), @"
    will be run: the network is not as before
    will be run, after step 1
    will be run, after step 1
    will be run, after step 1
    ");
    write(project.path(), "host", &more.replace("    network: full\n", ""));
    insta::assert_snapshot!(plan(), @"
    kept from an earlier build
    kept from an earlier build
    kept from an earlier build
    will be run: it is new
    ");
    write(project.path(), "busybox:none", STEPS);
    cofferdam.run(["plan"]).expect(0).says(&["not known", "the store has no such image"]);
    // Nothing that was asked for counts as used, or was made.
    let keys = fs::read_dir(cofferdam.state().join("store/steps")).expect("steps").count();
    assert_eq!(keys, 5);
}

/// An image that only skipped jobs use would be made for nobody.
#[test]
fn skipped_jobs_need_no_image() {
    needs!(Need::Containers, Need::Root);
    let project = tempfile::tempdir().expect("a directory");
    let pipeline = |condition: &str| {
        file(
            project.path(),
            "cofferdam.yml",
            format!(
                "images: {{ tool: {{ from: host, steps: [{{ run: echo really ran; touch /opt/made }}] }} }}\n\
                 jobs:\n  first: {{ steps: [{{ run: echo n=1 >> $COFFERDAM_OUTPUT, id: s }}], outputs: {{ n: \"${{{{ steps.s.outputs.n }}}}\" }} }}\n  \
                 use: {{ needs: first, if: \"{condition}\", image: tool, steps: [{{ run: ls /opt/made }}] }}\n"
            ),
        )
    };
    let cofferdam = Cofferdam::new().in_directory(project.path());
    pipeline("needs.first.outputs.n == '2'");
    cofferdam.run(["explain", "image tool"]).expect(0).says(&["when a job is to run that uses it"]);
    let ended = cofferdam.run(["run", "cofferdam.yml"]).expect(0);
    assert_eq!((built(&ended), kept(&ended)), (0, 0), "{}", ended.text());
    cofferdam.run(["explain", "--run", "last"]).expect(0).says(&["no job that uses it runs"]);
    pipeline("needs.first.outputs.n == '1'");
    let ended = cofferdam.run(["run", "cofferdam.yml"]).expect(0).says(&["| /opt/made"]);
    assert_eq!(built(&ended), 1, "{}", ended.text());
}
