//! Keys of jobs whose effect only the record, the host or a network around it shows.

use std::{fs, io::BufRead as _, path::Path};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    binary::{Cofferdam, Ended, file, kill, wait},
    exec::init_of_the_sleeper,
    host::{Need, needs},
    world::{BULK, BULK_BYTES, FIRST, SECOND, needs_world, with_world},
};

/// The jobs in the record of the run in `directory`.
fn jobs(directory: &Path) -> Vec<Value> {
    let record = fs::read_to_string(directory.join("run.json")).expect("run.json");
    let record: Value = serde_json::from_str(&record).expect("JSON");
    record["jobs"].as_array().expect("jobs").clone()
}

fn time(value: &Value) -> Timestamp {
    value.as_str().expect("a time").parse().expect("a time")
}

/// Runs `pipeline`, which passes; what it printed, and the jobs of its record.
fn run(pipeline: &str, arguments: &[&str]) -> (Ended, Vec<Value>) {
    let project = tempfile::tempdir().expect("a directory");
    file(project.path(), "cofferdam.yml", pipeline);
    let arguments = [&["run", "--out", "results", "--max-parallel", "8"], arguments].concat();
    let ended = Cofferdam::common().in_directory(project.path()).run(arguments).expect(0);
    (ended, jobs(&project.path().join("results")))
}

#[track_caller]
fn expect_one_at_a_time(jobs: &[Value]) {
    let mut steps: Vec<_> = jobs
        .iter()
        .map(|job| &job["attempts"][0]["steps"][0])
        .map(|step| (time(&step["started"]), time(&step["ended"])))
        .collect();
    steps.sort_unstable();
    assert_eq!(steps.len(), 4);
    for pair in steps.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "two ran together: {pair:?}");
    }
}

/// However many may run, of this job there is one at a time.
#[test]
fn max_parallel() {
    needs!(Need::Containers);
    let pipeline = "jobs: { one: { parallel: 4, max-parallel: 1, steps: [{ run: sleep 0.1 }] } }";
    let (_, jobs) = run(pipeline, &[]);
    expect_one_at_a_time(&jobs);
}

/// Jobs wait for what the operator's totals leave, and the reason is shown.
#[test]
fn totals_of_the_operator() {
    needs!(Need::Containers);
    let pipeline = "jobs: { some: { parallel: 4, limits: { cpus: 1, memory: 64MiB }, steps: [{ run: sleep 0.1 }] } }";
    for (argument, reason) in [
        (["--max-cpus", "1.5"], "waits: the running jobs leave too few processors"),
        (["--max-memory", "100MiB"], "waits: the running jobs leave too little memory"),
    ] {
        let (ended, jobs) = run(pipeline, &argument);
        ended.says(&[reason]);
        expect_one_at_a_time(&jobs);
    }
}

/// At least the pause that is asked for lies between two tries.
#[test]
fn backoff() {
    needs!(Need::Containers);
    let step = "test $COFFERDAM_ATTEMPT = 2";
    let pipeline = format!(
        "jobs: {{ flaky: {{ retry: {{ max: 1, backoff: 1s }}, steps: [{{ run: {step} }}] }} }}"
    );
    let (_, jobs) = run(&pipeline, &[]);
    let attempts = jobs[0]["attempts"].as_array().expect("tries");
    assert_eq!(attempts.len(), 2);
    assert_eq!((&jobs[0]["flaky"], &attempts[0]["conclusion"]), (&true.into(), &"failed".into()));
    let pause = time(&attempts[1]["started"]).duration_since(time(&attempts[0]["ended"]));
    assert!(pause.as_millis() >= 1000, "{pause:?}");
}

/// What is no doing of the job is a reason for another try, where that is asked for.
#[test]
fn retry_on_system() {
    needs!(Need::Containers);
    let project = tempfile::tempdir().expect("a directory");
    let step = "echo up $COFFERDAM_ATTEMPT; test $COFFERDAM_ATTEMPT = 2 || sleep 1000";
    let pipeline = format!(
        "jobs: {{ a: {{ retry: {{ max: 1, on: [system], backoff: 10ms }}, steps: [{{ run: '{step}' }}] }} }}"
    );
    file(project.path(), "cofferdam.yml", pipeline);
    let cofferdam = Cofferdam::new().in_directory(project.path());
    let mut child = cofferdam.command(["run", "--out", "results"]).spawn().expect("start");
    let mut output = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
    let mut printed = String::new();
    while !printed.contains("up 1\n") {
        assert!(output.read_line(&mut printed).expect("read") > 0, "{printed}");
    }
    kill(init_of_the_sleeper(child.id()), nix::sys::signal::Signal::SIGKILL);
    let rest = std::thread::spawn(move || std::io::read_to_string(output));
    wait(child).expect(0);
    let rest = rest.join().expect("a reader").expect("read");
    assert!(rest.contains("up 2\n"), "{printed}{rest}");
    let job = &jobs(&project.path().join("results"))[0];
    assert_eq!(
        (&job["flaky"], &job["attempts"][0]["conclusion"]),
        (&true.into(), &"system-fault".into())
    );
}

/// What is checked out, from git's files as git writes them.
#[test]
fn the_commit_that_is_tested() {
    needs!(Need::Containers);
    let project = tempfile::tempdir().expect("a directory");
    let commit = "0123456789abcdef0123456789abcdef01234567";
    fs::create_dir_all(project.path().join(".git/refs/heads/work")).expect("directories");
    file(&project.path().join(".git"), "HEAD", "ref: refs/heads/work/one\n");
    file(&project.path().join(".git/refs/heads/work"), "one", format!("{commit}\n"));
    file(
        project.path(),
        "cofferdam.yml",
        "jobs: { a: { env: { COMMIT: \"${{ git.commit }}\", BRANCH: \"${{ git.branch }}\", REF: \"${{ git.ref }}\" }, \
         steps: [{ run: 'echo \"$COMMIT of $BRANCH, $REF\"' }, { if: git.branch == 'other', run: echo never }] } }",
    );
    let ended = Cofferdam::common().in_directory(project.path()).run(["run"]).expect(0);
    ended.says(&[&format!("{commit} of work/one, refs/heads/work/one")]);
}

/// Every form of `network`, in jobs of one run.
#[test]
fn networks() {
    needs_world!();
    with_world(|world| {
        let project = tempfile::tempdir().expect("a directory");
        let probe = |host: &str, port: u16| {
            format!(
                "timeout 60 bash -c 'exec 3<>/dev/tcp/{host}/{port} && cat <&3' 2>/dev/null || echo refused; "
            )
        };
        let all = [
            (FIRST, 80),
            (SECOND, 443),
            (SECOND, 80),
            ("listed.example", 443),
            ("a.wild.example", 80),
        ]
        .map(|(host, port)| probe(host, port))
        .concat();
        let takes = format!("head -c {BULK_BYTES} < /dev/tcp/{FIRST}/{} | wc -c", BULK.0);
        file(
            project.path(),
            "cofferdam.yml",
            format!(
                "defaults: {{ shell: bash, workspace: none }}\njobs:\n  \
                 default: {{ steps: [{{ run: &all \"{all}\" }}] }}\n  \
                 full: {{ network: full, steps: [{{ run: *all }}] }}\n  \
                 listed: {{ network: {{ allow: ['198.51.100.0/24:443', 'listed.example:443', '*.wild.example:80'] }}, \
                 steps: [{{ run: *all }}] }}\n  \
                 slow: {{ network: {{ allow: ['{FIRST}:{}'], bandwidth: 4Mbit }}, steps: [{{ run: '{takes}' }}] }}\n",
                BULK.0
            ),
        );
        let (pipeline, out) = (project.path().join("cofferdam.yml"), project.path().join("out"));
        let arguments = ["run", &pipeline.to_string_lossy(), "--out", &out.to_string_lossy()];
        wait(world.command(&arguments).spawn().expect("start")).expect(0);
        let found = jobs(&out);
        let log = |job: &Value| {
            let path = job["attempts"][0]["steps"][0]["log"]["path"].as_str().expect("a log");
            fs::read_to_string(out.join(path)).expect("a log")
        };
        let (no, yes) = ("refused\n", "world\n");
        for (job, expected) in found.iter().zip([
            [no, no, no, no, no].concat(),
            [yes, yes, yes, yes, yes].concat(),
            [no, yes, no, yes, yes].concat(),
            format!("{BULK_BYTES}\n"),
        ]) {
            assert_eq!(log(job), expected, "{}", job["name"]);
        }
        // A mebibyte takes 2.1 s at 4 Mbit/s, less what may go at once.
        let usage = &found[3]["attempts"][0]["steps"][0]["usage"];
        assert!(usage["wall_ms"].as_u64() > Some(1500), "{usage}");
    });
}
