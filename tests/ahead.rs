//! `cofferdam run`: the containers of the next jobs stand before those start.

use std::{
    fs,
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use crate::{
    binary::{Cofferdam, PATIENCE, alone, file, wait},
    host::{Need, needs},
    residue::{Snapshot, children},
};

/// Six jobs, of which one runs at a time; the first waits for a file `go`, and then does `then`.
fn start(cofferdam: &Cofferdam, directory: &Path, then: &str) -> Child {
    let shared = directory.join("shared");
    fs::create_dir(&shared).expect("a directory");
    let pipeline = format!(
        "jobs:\n  many:\n    parallel: 6\n    max-parallel: 1\n    fail-fast: true\n    steps:\n      \
         - run: echo \"$(hostname) sees $(ls -A /tmp | wc -l)\" && touch /tmp/mine\n      \
         - run: until test -e /shared/go; do sleep 0.02; done; {then}\n"
    );
    let pipeline = file(directory, "many.yml", pipeline);
    let mut command = cofferdam.command(["run", "--max-parallel", "4", "--mount"]);
    command.arg(format!("{}:/shared", shared.display()));
    command.arg("--out").arg(directory.join("out")).arg(pipeline);
    command.spawn().expect("start cofferdam")
}

/// The containers below `runner` that stand, by their host names, and whether anything runs in them.
fn standing(runner: u32) -> Vec<(String, bool)> {
    let inits = children(runner).into_iter().flat_map(children);
    let name = |init: u32| {
        // Its own root file system, and not the host's, is the last of what is made.
        let name = fs::read_to_string(format!("/proc/{init}/root/etc/hostname")).ok()?;
        let name = name.trim_end().to_owned();
        // A child of the init that waits to become the first program has the init's name.
        let runs = |child| {
            fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|it| it != "init\n")
        };
        name.starts_with("many-").then(|| (name, children(init).into_iter().any(runs)))
    };
    inits.filter_map(name).collect()
}

/// Waits until the first job's container is not the only one; returns the others.
fn await_next(runner: u32) -> Vec<(String, bool)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut all = standing(runner);
        let first = all.iter().position(|(name, runs)| name == "many-1" && *runs);
        if let Some(first) = first
            && all.len() > 1
        {
            all.swap_remove(first);
            return all;
        }
        assert!(Instant::now() < deadline, "nothing was made ahead of need: {all:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_next_jobs_find_their_containers_and_nobody_was_there_before() {
    needs!(Need::Containers, Need::Root);
    let directory = tempfile::tempdir().expect("a directory");
    let cofferdam = Cofferdam::new();
    let run = start(&cofferdam, directory.path(), "true");
    let next = await_next(run.id());
    assert!(next.iter().all(|(_, runs)| !runs), "`max-parallel` is exceeded: {next:?}");
    assert!(next.len() <= 4, "{next:?}");
    file(&directory.path().join("shared"), "go", "");
    let ended = wait(run).expect(0);
    for job in 1..=6 {
        let own = format!("many-{job} sees 0");
        assert_eq!(ended.stdout.matches(&own).count(), 1, "{own}: {}", ended.stdout);
    }
}

/// The audit at the end of the run would tell of them, and fail it as the host's fault.
#[test]
fn what_was_made_for_jobs_that_do_not_start_goes_with_the_run() {
    needs!(Need::Containers, Need::Root);
    let _quiet = alone();
    let directory = tempfile::tempdir().expect("a directory");
    let cofferdam = Cofferdam::unshared();
    cofferdam.script(&[], "true").expect(0);
    let before = Snapshot::take(cofferdam.state());
    let run = start(&cofferdam, directory.path(), "exit 1");
    await_next(run.id());
    file(&directory.path().join("shared"), "go", "");
    let ended = wait(run).expect(1);
    assert_eq!(ended.stdout.matches("| many-").count(), 1, "{}", ended.stdout);
    before.expect_again(cofferdam.state());
}
