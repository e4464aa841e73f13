//! Containers that were made ahead of need, through the library: this test has its own `main`,
//! because a spawner is forked before any thread.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a test without the test harness")]

use std::{
    collections::BTreeSet, error::Error, fs, io::Read as _, os::fd::OwnedFd, sync::Arc,
    time::Duration,
};

use cofferdam_sandbox::{
    Container, ContainerSpec, Limits, Program, Sandbox, Streams, image::Store, spawner,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

fn main() -> Result<(), Box<dyn Error>> {
    let spawner = spawner::start()?;
    let state = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let sandbox = match Sandbox::open(spawner, state.path()) {
            Ok(sandbox) => sandbox,
            Err(error) => {
                let why = cofferdam_sandbox::with_causes(&error);
                assert!(std::env::var_os("COFFERDAM_TESTS_REQUIRE").is_none(), "{why}");
                println!("NOT RUN on this host: ahead: {why}");
                return Ok(());
            }
        };
        let spec = ContainerSpec::new(Arc::new(Store::open(state.path())?.get("host")?));
        each_is_fresh(&sandbox, &spec).await?;
        another_description_is_another_container(&sandbox, &spec).await?;
        one_that_was_killed_is_not_handed_over(&sandbox, &spec).await?;
        nobody_waits_for_what_is_given_up(&sandbox, &spec).await?;
        a_first_program_is_not_lost_with_who_waited_to_become_it(&sandbox, &spec).await?;
        // What stands goes with the sandbox.
        sandbox.expect_like(spec.clone(), 2);
        until(|| inits().len() >= 2).await;
        assert_eq!(sandbox.close().await, [], "nothing is left behind");
        println!("ahead: ok");
        Ok(())
    })
}

/// Five are asked for in a row, and each is alone, whether it was made ahead or not.
async fn each_is_fresh(sandbox: &Sandbox, spec: &ContainerSpec) -> Result<(), Box<dyn Error>> {
    sandbox.expect_like(spec.clone(), 4);
    let mut namespaces = BTreeSet::new();
    let mut containers = Vec::new();
    for _ in 0..5 {
        let container = sandbox.create(spec.clone()).await?;
        let said = say(&container, "ls /tmp; touch /tmp/mine; readlink /proc/self/ns/mnt").await?;
        assert!(said.starts_with("mnt:"), "somebody was here before: {said}");
        namespaces.insert(said);
        containers.push(container);
    }
    assert_eq!(namespaces.len(), 5, "{namespaces:?}");
    for container in containers {
        let end = container.end().await?;
        assert!(end.usage.pids_peak < Some(8) && end.disk_inodes < 40, "{end:?}");
    }
    Ok(())
}

async fn another_description_is_another_container(
    sandbox: &Sandbox,
    spec: &ContainerSpec,
) -> Result<(), Box<dyn Error>> {
    sandbox.expect_like(spec.clone(), 1);
    let limits = Limits { nofile: 77, ..Limits::default() };
    let other = ContainerSpec { hostname: "other".to_owned(), limits, ..spec.clone() };
    let container = sandbox.create(other).await?;
    assert_eq!(say(&container, "hostname; ulimit -n").await?, "other\n77\n");
    let expected = sandbox.create(spec.clone()).await?;
    assert_eq!(say(&expected, "hostname; ulimit -n").await?, "sandbox\n4096\n");
    Ok(())
}

async fn one_that_was_killed_is_not_handed_over(
    sandbox: &Sandbox,
    spec: &ContainerSpec,
) -> Result<(), Box<dyn Error>> {
    until(|| inits().is_empty()).await;
    sandbox.expect_like(spec.clone(), 1);
    until(|| inits().len() == 1).await;
    for init in inits() {
        kill(Pid::from_raw(init), Signal::SIGKILL)?;
    }
    until(|| inits().is_empty()).await;
    let container = sandbox.create(spec.clone()).await?;
    assert_eq!(say(&container, "echo alive").await?, "alive\n");
    Ok(())
}

async fn nobody_waits_for_what_is_given_up(
    sandbox: &Sandbox,
    spec: &ContainerSpec,
) -> Result<(), Box<dyn Error>> {
    for _ in 0..20 {
        sandbox.expect_like(spec.clone(), 1);
        let create = sandbox.create(spec.clone());
        tokio::time::timeout(Duration::from_millis(1), create).await.ok();
    }
    let container = sandbox.create(spec.clone()).await?;
    assert_eq!(say(&container, "echo alive").await?, "alive\n");
    Ok(())
}

/// As when the host runs out of memory.
async fn a_first_program_is_not_lost_with_who_waited_to_become_it(
    sandbox: &Sandbox,
    spec: &ContainerSpec,
) -> Result<(), Box<dyn Error>> {
    let waiting = || -> Vec<i32> { inits().iter().flat_map(|init| children(*init)).collect() };
    for is_noticed in [true, false] {
        until(|| inits().is_empty()).await;
        let container = sandbox.create(spec.clone()).await?;
        until(|| waiting().len() == 1).await;
        for child in waiting() {
            kill(Pid::from_raw(child), Signal::SIGKILL)?;
        }
        if is_noticed {
            until(|| waiting().is_empty()).await;
        }
        let program = Program::new(["/bin/true"]);
        let mut process = container.start(program, Streams::null()?, None).await?;
        let ended = tokio::time::timeout(Duration::from_secs(20), process.wait()).await??;
        assert!(ended.code() == Some(0) || !is_noticed, "{ended:?}");
        assert_eq!(say(&container, "echo alive").await?, "alive\n");
    }
    Ok(())
}

/// The inits of all containers, as the spawner's children.
fn inits() -> Vec<i32> {
    children("self").into_iter().flat_map(children).collect()
}

fn children(of: impl std::fmt::Display) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let lists = tasks.flat_map(|task| fs::read_to_string(task.path().join("children")));
    lists
        .flat_map(|list| list.split_whitespace().flat_map(str::parse).collect::<Vec<_>>())
        .collect()
}

async fn until(happened: impl Fn() -> bool) {
    let look = async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), look).await.unwrap();
}

/// Runs a script; returns what it said.
async fn say(container: &Container, script: &str) -> Result<String, Box<dyn Error>> {
    let (mut reading, writing) = std::io::pipe()?;
    let mut program = Program::new(["bash", "-c", script]);
    program.env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
    let errors = OwnedFd::from(writing.try_clone()?);
    let streams = Streams::output(OwnedFd::from(writing), errors);
    container.start(program, streams, None).await?.wait().await?;
    let mut said = String::new();
    tokio::task::spawn_blocking(move || reading.read_to_string(&mut said).map(|_| said))
        .await?
        .map_err(Into::into)
}
