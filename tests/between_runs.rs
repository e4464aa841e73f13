//! What lasts from one run to another, or from one job to many: caches, forks, committed files.

use std::{fs, path::Path, time::Instant};

use serde_json::Value;

use crate::{
    binary::{Cofferdam, Ended, file, program, wait},
    host::{Need, needs},
};

/// Runs `cofferdam.yml` of `project`; the record.
fn run(cofferdam: &Cofferdam, project: &Path, arguments: &[&str], status: i32) -> (Ended, Value) {
    let out = project.join("results");
    let pipeline = project.join("cofferdam.yml");
    let all = [&["run", &pipeline.to_string_lossy(), "--out", &out.to_string_lossy()], arguments];
    let ended = cofferdam.run(all.concat()).expect(status);
    let record = fs::read_to_string(out.join("run.json")).expect("run.json");
    (ended, serde_json::from_str(&record).expect("JSON"))
}

fn cache(record: &Value) -> Value {
    record["jobs"][0]["attempts"][0]["caches"][0].clone()
}

#[test]
fn caches() {
    needs!(Need::Containers);
    let project = tempfile::tempdir().expect("a directory");
    let cofferdam = Cofferdam::new().in_directory(project.path());
    file(
        project.path(),
        "cofferdam.yml",
        "params: { fail: { default: 0 } }\n\
         jobs:\n  build:\n    cache: [{ key: \"obj-${{ hash('lock') }}\", restore: [obj-], paths: [obj, /opt/kept, ~/.store] }]\n    \
         steps:\n      - run: |\n          cat obj/log 2>/dev/null || echo nothing there\n          \
         mkdir -p obj /opt/kept ~/.store && echo \"built with $(cat lock)\" >> obj/log\n          \
         chown 1234 obj/log && touch -d @1000000 obj/log && chmod 4755 obj/log\n          \
         ln -sf /etc/passwd obj/link && echo kept > ~/.store/file\n          test \"${{ params.fail }}\" = 0\n",
    );
    file(project.path(), "lock", "one");
    // A job that fails keeps nothing.
    let (_, record) = run(&cofferdam, project.path(), &["--param", "fail=1"], 1);
    assert!(cache(&record)["saved"].is_null() && cache(&record)["restored"].is_null());
    let (ended, record) = run(&cofferdam, project.path(), &[], 0);
    ended.says(&["nothing there"]);
    assert!(cache(&record)["saved"].as_u64() > Some(0), "{record}");
    let (ended, record) = run(&cofferdam, project.path(), &[], 0);
    ended.says(&["built with one"]);
    assert_eq!(cache(&record)["restored"], cache(&record)["key"]);
    assert!(cache(&record)["saved"].is_null(), "what is kept is not changed");
    // Another key begins alike; what it makes is kept under its own.
    file(project.path(), "lock", "two");
    for found in ["built with one", "built with two"] {
        let (ended, record) = run(&cofferdam, project.path(), &[], 0);
        ended.says(&[found]);
        assert!(cache(&record)["restored"].as_str().is_some_and(|key| key.starts_with("obj-")));
    }
    // Owners, times and links are as they were, and no set-user-id bit came back.
    file(
        project.path(),
        "cofferdam.yml",
        "jobs: { build: { cache: [{ key: none, restore: [obj-], paths: [obj] }], steps: [{ run: \"stat -c '%u %a %Y' obj/log; \
         readlink obj/link; stat -c %a /opt/kept; cat ~/.store/file\" }] } }\n",
    );
    let (ended, _) = run(&cofferdam, project.path(), &[], 0);
    ended.says(&["1234 755 1000000", "/etc/passwd", "kept"]);
    file(
        project.path(),
        "cofferdam.yml",
        "jobs: { build: { cache: [{ key: large, paths: [made] }], steps: [{ run: mkdir -p made; echo content > made/file }] } }\n",
    );
    // Room for nothing: what is there goes, and is not missed.
    let (_, record) = run(&cofferdam, project.path(), &["--cache-size", "1"], 0);
    assert!(
        cache(&record)["why"].as_str().is_some_and(|why| why.contains("more than may be kept"))
    );
    // Another file's caches are another's.
    fs::create_dir(project.path().join("other")).expect("a directory");
    let other = project.path().join("other");
    fs::copy(project.path().join("cofferdam.yml"), other.join("cofferdam.yml")).expect("copy");
    run(&cofferdam, project.path(), &[], 0);
    let (_, record) = run(&cofferdam, &other, &[], 0);
    assert!(cache(&record)["restored"].is_null());
    let (_, record) = run(&cofferdam, &other, &[], 0);
    assert_eq!(cache(&record)["restored"], "large");
}

/// What cannot be kept is said with what to do instead.
#[test]
fn caches_of_links_and_mounts() {
    needs!(Need::Containers);
    for (path, why, instead) in [
        ("link", "it is a symbolic link", "name the place that the link leads to"),
        ("link/below", "it is a symbolic link", "name the place that the link leads to"),
        // Whether its mounts are in sight after a container's end is the kernel's affair.
        ("/dev/shm/made", "mount", "`/dev/shm/made`"),
    ] {
        let project = tempfile::tempdir().expect("a directory");
        let cofferdam = Cofferdam::new().in_directory(project.path());
        let pipeline = format!(
            "jobs: {{ build: {{ cache: [{{ key: one, paths: [{path}] }}], steps: [{{ run: \"mkdir -p real/below /dev/shm/made; \
             echo content | tee real/below/file > /dev/shm/made/file; ln -s real link\" }}] }} }}\n"
        );
        file(project.path(), "cofferdam.yml", pipeline);
        let (_, record) = run(&cofferdam, project.path(), &[], 0);
        let cache = cache(&record);
        let said = cache["why"].as_str().expect("a reason");
        assert!(said.contains(why) && said.contains(instead), "{path}: {said}");
        assert!(cache["saved"].is_null(), "{path}: {record}");
    }
}

/// Many jobs at once keep the same cache: one of them does, whole.
#[test]
fn caches_at_once() {
    needs!(Need::Containers);
    let project = tempfile::tempdir().expect("a directory");
    let cofferdam = Cofferdam::new().in_directory(project.path());
    file(
        project.path(),
        "cofferdam.yml",
        "jobs: { many: { parallel: 8, cache: [{ key: same, paths: [out] }], steps: [{ run: \
         'if test -d out; then test \"$(ls out | wc -l)\" = 200; else mkdir out; for i in $(seq 200); do echo $i > out/$i; done; fi' }] } }\n",
    );
    for _ in 0..2 {
        run(&cofferdam, project.path(), &["--max-parallel", "8"], 0);
    }
    let left = fs::read_dir(cofferdam.state().join("caches/unfinished")).expect("list").count();
    assert_eq!(left, 0, "what was not published is gone");
}

/// How large the state is that is forked, in MiB, and by how many jobs.
fn scale() -> (u64, u64) {
    let number = |name: &str, small: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(small)
    };
    (number("COFFERDAM_FORK_MIB", 64), number("COFFERDAM_FORK_JOBS", 8))
}

/// `COFFERDAM_FORK_MIB=2048 COFFERDAM_FORK_JOBS=50` is the full size.
#[test]
fn forks_copy_nothing() {
    needs!(Need::Containers);
    let (size, jobs) = scale();
    let project = tempfile::tempdir().expect("a directory");
    let cofferdam = Cofferdam::new().in_directory(project.path());
    let disk = size * 2 + 64;
    let pipeline = |from: &str| {
        format!(
            "jobs:\n  parent:\n    limits: {{ memory: 256MiB, disk: {disk}MiB }}\n    steps:\n      \
             - run: dd if=/dev/urandom of=/big bs=1M count={size} status=none && echo whole > /small\n  \
             child:\n    {from}\n    parallel: {jobs}\n    limits: {{ memory: 64MiB, disk: 16MiB }}\n    \
             steps:\n      - run: test \"$(stat -c %s /big)\" = {} && test \"$(cat /small)\" = whole && echo mine > /small\n",
            size << 20
        )
    };
    file(project.path(), "cofferdam.yml", pipeline("from: parent"));
    let begun = Instant::now();
    let (_, record) = run(&cofferdam, project.path(), &[], 0);
    let took = begun.elapsed();
    let children = record["jobs"].as_array().expect("jobs").iter().filter(|it| it["id"] == "child");
    let mut walls = Vec::new();
    for child in children {
        let used = &child["attempts"][0]["usage"];
        let disk = used["disk"].as_u64().expect("what was written");
        assert!(disk < 1 << 20, "a child that starts from {size} MiB wrote {disk} bytes");
        walls.push(used["wall_ms"].as_u64().expect("a time"));
    }
    assert_eq!(walls.len() as u64, jobs);
    walls.sort_unstable();
    eprintln!(
        "{jobs} jobs from {size} MiB: {took:?} in all, one child {} ms (median), {} ms (most)",
        walls[walls.len() / 2],
        walls[walls.len() - 1]
    );
}

#[test]
fn what_is_committed() {
    needs!(Need::Containers, Need::Program("git"));
    let project = tempfile::tempdir().expect("a directory");
    let cofferdam = Cofferdam::new().in_directory(project.path());
    file(
        project.path(),
        "cofferdam.yml",
        "jobs: { clean: { workspace: git, steps: [{ run: 'cat file; test ! -e new && test ! -e .git; echo mine > file; mkdir made' }] }, \
         child: { from: clean, steps: [{ run: 'cat file; test -d made && echo forked' }] }, \
         dirty: { steps: [{ run: cat file new }] }, none: { workspace: none, steps: [{ run: 'test -z \"$(ls)\" && echo nothing' }] } }\n",
    );
    let (ended, _) = {
        let pipeline = project.path().join("cofferdam.yml");
        let ended = cofferdam.run(["run".as_ref(), pipeline.as_os_str()]).expect(66);
        (ended, ())
    };
    ended.says(&["has no `.git` of its own"]);
    file(project.path(), "file", "committed\n");
    // A hostile repository that would run a program on the host.
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"];
        let status = program("git")
            .args(identity)
            .args(arguments)
            .current_dir(project.path())
            .stdout(std::process::Stdio::null())
            .status();
        assert!(status.expect("git").success(), "git {arguments:?}");
    };
    git(&["init", "-q"]);
    git(&["add", "file"]);
    git(&["commit", "-q", "-m", "one"]);
    let trap = project.path().join("trapped");
    git(&["config", "core.fsmonitor", &format!("touch {}", trap.display())]);
    git(&["config", "core.pager", &format!("touch {}", trap.display())]);
    file(project.path(), "file", "changed\n");
    file(project.path(), "new", "uncommitted\n");
    let (ended, _) = run(&cofferdam, project.path(), &[], 0);
    ended.says(&[
        "clean | committed",
        "child | mine",
        "forked",
        "dirty | changed",
        "uncommitted",
        "nothing",
    ]);
    assert!(!trap.exists(), "a program of the repository ran on the host");
    // A further working tree has its repository elsewhere.
    let further = tempfile::tempdir().expect("a directory");
    let tree = further.path().join("tree");
    git(&["worktree", "add", "-q", "--detach", &tree.display().to_string()]);
    file(&tree, "file", "changed here\n");
    let in_tree = "jobs: { one: { workspace: git, steps: [{ env: { COMMIT: '${{ git.commit }}' }, \
                   run: 'cat file; test ${#COMMIT} = 40 && echo known' }] } }\n";
    file(&tree, "cofferdam.yml", in_tree);
    let ended =
        wait(cofferdam.command(["run"]).current_dir(&tree).spawn().expect("start")).expect(0);
    ended.says(&["one | committed", "one | known"]);
    // What is exported is kept all the time, and counts.
    let one = "jobs: { one: { workspace: git, limits: { memory: 256MiB, disk: 64MiB }, steps: [{ run: cat file }] } }\n";
    file(project.path(), "cofferdam.yml", one);
    let most = |memory: &str, status: i32| {
        let arguments = ["run", "--scratch", "memory", "--max-memory", memory];
        cofferdam.run(arguments).expect(status)
    };
    most("256MiB", 65).says(&["asks for more memory than the run may use"]);
    most("300MiB", 0).says(&["| committed"]);
}

#[test]
fn secrets_from_a_directory_and_from_a_command() {
    needs!(Need::Containers);
    let project = tempfile::tempdir().expect("a directory");
    let cofferdam = Cofferdam::common().in_directory(project.path());
    file(
        project.path(),
        "cofferdam.yml",
        "secrets: [KEY, TOKEN]\njobs: { use: { secrets: [KEY, TOKEN], steps: [{ run: 'echo \"[$KEY] [$TOKEN] ${#KEY} ${#TOKEN}\"' }] } }\n",
    );
    let secrets = project.path().join("keys");
    fs::create_dir(&secrets).expect("a directory");
    file(&secrets, "KEY", "from-a-file\n");
    file(&secrets, "OTHER", "not-declared");
    let run = |arguments: &[&str], status: i32| {
        cofferdam.run([&["run", "--secret-dir", "keys"], arguments].concat()).expect(status)
    };
    let ended = run(&["--secret-command", "TOKEN=printf 'from a %s' command"], 0);
    let ended = ended.says(&["[***] [***] 11 14"]);
    for secret in ["from-a-file", "from a command", "not-declared"] {
        assert!(!ended.text().contains(secret), "`{secret}` was printed");
    }
    run(&["--secret-command", "TOKEN=echo half-of-it; exit 3"], 66)
        .says(&["the command for the secret `TOKEN` failed", "3"]);
    run(&["--secret-command", "NONE=echo x"], 2).says(&["declares no secret `NONE`"]);
    run(&["--secret-command", "TOKEN=echo abc"], 2).says(&["under 4 bytes cannot be masked"]);
}
