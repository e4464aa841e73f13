//! The sandbox through its library, for tests without the test harness: a spawner is forked before any
//! thread, so each of them has a `main` of its own.
//!
//! Each test uses all of this: what only one needs is its own.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "part of a test without the test harness"
)]

use std::{
    error::Error, fmt::Display, fs, io::Read as _, os::fd::OwnedFd, sync::Arc, time::Duration,
};

use cofferdam_sandbox::{
    Container, Program, Sandbox, Streams,
    image::{Image, Store},
    spawner,
};

/// How a test ends.
pub(crate) type Tested = Result<(), Box<dyn Error>>;

/// Runs `test` with a sandbox of its own and the image `host`; nothing may be left behind.
pub(crate) fn with_sandbox(
    name: &str,
    test: impl AsyncFnOnce(&Sandbox, Arc<Image>) -> Tested,
) -> Tested {
    let spawner = spawner::start()?;
    let state = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let sandbox = match Sandbox::open(spawner, state.path()) {
            Ok(sandbox) => sandbox,
            Err(error) => return not_run(name, &cofferdam_sandbox::with_causes(&error)),
        };
        let image = Arc::new(Store::open(state.path())?.get("host")?);
        test(&sandbox, image).await?;
        assert_eq!(sandbox.close().await, [], "nothing is left behind");
        println!("{name}: ok");
        Ok(())
    })
}

/// Says why the test cannot run here; a failure where it has to.
pub(crate) fn not_run(name: &str, why: &str) -> Tested {
    assert!(std::env::var_os("COFFERDAM_TESTS_REQUIRE").is_none(), "{why}");
    println!("NOT RUN on this host: {name}: {why}");
    Ok(())
}

/// Runs a script; returns what it said.
pub(crate) async fn say(container: &Container, script: &str) -> Result<String, Box<dyn Error>> {
    let (mut reading, writing) = std::io::pipe()?;
    let mut program = Program::new(["bash", "-c", script]);
    program.env = vec![("PATH".to_owned(), "/usr/sbin:/usr/bin:/sbin:/bin".to_owned())];
    let errors = OwnedFd::from(writing.try_clone()?);
    let streams = Streams::output(OwnedFd::from(writing), errors);
    container.start(program, streams, None).await?.wait().await?;
    let mut said = String::new();
    tokio::task::spawn_blocking(move || reading.read_to_string(&mut said).map(|_| said))
        .await?
        .map_err(Into::into)
}

/// The inits of all containers: the spawner's children in a process namespace of their own, which the
/// keeper of networks is not.
pub(crate) fn inits() -> Vec<i32> {
    let all = children("self").into_iter().flat_map(children);
    all.filter(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        ids.is_some_and(|ids| ids.split_whitespace().count() > 1)
    })
    .collect()
}

/// The children of a process.
pub(crate) fn children(of: impl Display) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let lists = tasks.flat_map(|task| fs::read_to_string(task.path().join("children")));
    lists
        .flat_map(|list| list.split_whitespace().flat_map(str::parse).collect::<Vec<_>>())
        .collect()
}

/// Waits until something has happened that nobody tells of.
pub(crate) async fn until(what: &str, happened: impl Fn() -> bool) {
    let look = async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(300), look).await.expect(what);
}
