//! Containers that were made ahead of need, through the library: this test has its own `main`,
//! because a spawner is forked before any thread.

mod library;

use std::{collections::BTreeSet, time::Duration};

use cofferdam_sandbox::{ContainerSpec, Limits, Program, Sandbox, Streams};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use library::{Tested, children, inits, say, until, with_sandbox};

fn main() -> Tested {
    with_sandbox("ahead", async |sandbox, image| {
        let spec = ContainerSpec::new(image);
        each_is_fresh(sandbox, &spec).await?;
        another_description_is_another_container(sandbox, &spec).await?;
        one_that_was_killed_is_not_handed_over(sandbox, &spec).await?;
        nobody_waits_for_what_is_given_up(sandbox, &spec).await?;
        a_first_program_is_not_lost_with_who_waited_to_become_it(sandbox, &spec).await?;
        // What stands goes with the sandbox.
        sandbox.expect_like(spec, 2);
        until("two stand", || inits().len() >= 2).await;
        Ok(())
    })
}

/// Five are asked for in a row, and each is alone, whether it was made ahead or not.
async fn each_is_fresh(sandbox: &Sandbox, spec: &ContainerSpec) -> Tested {
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
) -> Tested {
    sandbox.expect_like(spec.clone(), 1);
    let limits = Limits { nofile: 77, ..Limits::default() };
    let other = ContainerSpec { hostname: "other".to_owned(), limits, ..spec.clone() };
    let container = sandbox.create(other).await?;
    assert_eq!(say(&container, "hostname; ulimit -n").await?, "other\n77\n");
    let expected = sandbox.create(spec.clone()).await?;
    assert_eq!(say(&expected, "hostname; ulimit -n").await?, "sandbox\n4096\n");
    Ok(())
}

async fn one_that_was_killed_is_not_handed_over(sandbox: &Sandbox, spec: &ContainerSpec) -> Tested {
    until("all have ended", || inits().is_empty()).await;
    sandbox.expect_like(spec.clone(), 1);
    until("one stands", || inits().len() == 1).await;
    for init in inits() {
        kill(Pid::from_raw(init), Signal::SIGKILL)?;
    }
    until("all have ended", || inits().is_empty()).await;
    let container = sandbox.create(spec.clone()).await?;
    assert_eq!(say(&container, "echo alive").await?, "alive\n");
    Ok(())
}

async fn nobody_waits_for_what_is_given_up(sandbox: &Sandbox, spec: &ContainerSpec) -> Tested {
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
) -> Tested {
    let waiting = || -> Vec<i32> { inits().iter().flat_map(|init| children(*init)).collect() };
    for is_noticed in [true, false] {
        until("all have ended", || inits().is_empty()).await;
        let container = sandbox.create(spec.clone()).await?;
        until("a child waits", || waiting().len() == 1).await;
        for child in waiting() {
            kill(Pid::from_raw(child), Signal::SIGKILL)?;
        }
        if is_noticed {
            until("nobody waits", || waiting().is_empty()).await;
        }
        let program = Program::new(["/bin/true"]);
        let mut process = container.start(program, Streams::null()?, None).await?;
        let ended = tokio::time::timeout(Duration::from_secs(300), process.wait()).await??;
        assert!(ended.code() == Some(0) || !is_noticed, "{ended:?}");
        assert_eq!(say(&container, "echo alive").await?, "alive\n");
    }
    Ok(())
}
