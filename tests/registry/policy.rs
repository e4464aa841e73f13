//! When `exec` and `run` pull: missing, always, never.

use std::{
    fs::{self, File, FileTimes},
    time::{Duration, SystemTime},
};

use super::{Server, needs_registry, picture::Picture, told, trusting};
use crate::{
    binary::{Cofferdam, file},
    host::{Need, needs},
};

/// A warm start says nothing to the registry, not even whether it is there.
#[test]
fn what_is_here_is_not_asked_for() {
    needs_registry!();
    needs!(Need::Containers);
    let directory = tempfile::tempdir().expect("a directory");
    let (server, picture) = (Server::start(), Picture::of(&["first"]));
    server.push(picture.layout(), "app:1");
    let cofferdam = trusting(directory.path(), &[server.name()]);
    let tag = format!("{}/app:1", server.name());
    let exec = |flags: &[&str]| cofferdam.script_in(&tag, flags, "cat /layer-1");

    exec(&["--pull", "never"]).expect(125).says(&["no such image", "image pull"]);
    exec(&[]).expect(0).says(&["pulling", "layer 2/2 unpacked", "first"]);
    server.push(Picture::of(&["second"]).layout(), "app:1");
    let warm = exec(&[]).expect(0);
    // A user's host may lack limits, which is said each time.
    let lacking = "as the configuration allows";
    let said: Vec<_> = warm.stderr.lines().filter(|line| !line.ends_with(lacking)).collect();
    assert_eq!((warm.stdout.as_str(), said.as_slice()), ("first", &[][..]));
    exec(&["--pull", "always"]).expect(0).says(&["layer 1/2 is there", "second"]);

    drop(server);
    exec(&[]).expect(0).says(&["second"]);
    exec(&["--pull", "never"]).expect(0).says(&["second"]);
    exec(&["--pull", "always"]).expect(125).says(&["cannot be reached"]);
}

/// All images of a pipeline are pulled before the first job starts, and each job has its say.
#[test]
fn of_a_pipeline() {
    needs_registry!();
    needs!(Need::Containers);
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start();
    for name in ["a", "b", "c", "d"] {
        server.push(Picture::of(&["shared", name]).layout(), &format!("{name}:1"));
    }
    let cofferdam = trusting(directory.path(), &[server.name()]);
    let registry = server.name();
    let job = |name: &str, extra: &str| {
        format!(
            "  {name}: {{ image: '{registry}/{name}:1', {extra} steps: [{{ run: 'cat /layer-2' }}] }}\n"
        )
    };
    let pipeline = format!(
        "jobs:\n{}{}{}{}",
        job("a", ""),
        job("b", "pull: always,"),
        job("c", ""),
        job("d", "")
    );
    let path = file(directory.path(), "cofferdam.yml", pipeline);
    let path = path.to_str().expect("a path");
    let out = directory.path().join("out");
    let out = out.to_str().expect("a path");
    let run = |flags: &[&str]| cofferdam.run(["run", path, "--out", out].iter().chain(flags));

    run(&["--pull", "never"]).expect(66).says(&["no such image"]);
    let cold = run(&[]).expect(0).says(&["pulling", "4 jobs"]);
    // One digest is fetched once, however many images have it.
    assert_eq!(cold.stderr.matches("unpacked").count(), 6, "{}", cold.stderr);
    let warm = run(&[]).expect(0);
    assert_eq!(warm.stderr.matches("pulling").count(), 4, "only `b`:\n{}", warm.stderr);
    drop(server);
    run(&[]).expect(70).says(&["b:1", "cannot be reached"]);
    run(&["--pull", "missing"]).expect(0);

    let wrong = file(
        directory.path(),
        "wrong.yml",
        "jobs: { a: { pull: sometimes, steps: [{ run: 'true' }] } }",
    );
    let wrong = cofferdam.run(["check", wrong.to_str().expect("a path")]).expect(65);
    wrong.says(&["sometimes", "missing", "always", "never"]);
}

/// As if every image that is there had last been used so long ago.
fn age(cofferdam: &Cofferdam, by: Duration) {
    for entry in fs::read_dir(cofferdam.state().join("store/names")).expect("names") {
        let file = File::options().write(true).open(entry.expect("a name").path()).expect("open");
        let then = SystemTime::now() - by;
        file.set_times(FileTimes::new().set_modified(then)).expect("set its time");
    }
}

/// Nobody has to call `gc`: each pull lets go of what was not used for long, where there is more
/// than the operator allows; what was used in the last hour stays.
#[test]
fn what_is_not_used_goes_by_itself() {
    needs_registry!();
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start();
    let names = ["old", "recent", "new"].map(|name| format!("{}/{name}:1", server.name()));
    let [old, recent, new] = &names;
    for name in ["old", "recent", "new"] {
        server.push(Picture::of(&[name]).layout(), &format!("{name}:1"));
    }
    let registry = server.name();
    let cofferdam = told(
        directory.path(),
        &format!(
            "registries: {{ '{registry}': {{ insecure: true }} }}\nimages: {{ keep: 1KiB }}\n"
        ),
    );
    cofferdam.run(["image", "pull", old]).expect(0);
    age(&cofferdam, Duration::from_secs(2 * 60 * 60));
    let pulled = cofferdam.run(["image", "pull", recent]).expect(0);
    pulled.says(&["let go of 1 image that had not been used for long"]);
    age(&cofferdam, Duration::from_secs(50 * 60));
    let pulled = cofferdam.run(["image", "pull", new]).expect(0);
    assert!(!pulled.stderr.contains("let go"), "{}", pulled.stderr);
    let listed = cofferdam.run(["image", "ls"]).expect(0).stdout;
    let there: Vec<_> = names.iter().map(|name| listed.contains(name.as_str())).collect();
    assert_eq!(there, [false, true, true], "{listed}");
}
