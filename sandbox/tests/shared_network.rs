//! Containers that share a network, through the library: this test has its own `main`, because a
//! spawner is forked before any thread.

#![expect(clippy::unwrap_used, reason = "a test without the test harness")]

mod library;

use std::{error::Error, sync::Arc};

use cofferdam_sandbox::{
    Container, ContainerNetwork, ContainerSpec, Fault, Network, Sandbox, SharedNetwork,
    image::Image,
};

use library::{Tested, inits, say, until, with_sandbox};

fn main() -> Tested {
    with_sandbox("shared-network", async |sandbox, image| {
        job_and_service(sandbox, &image).await?;
        names_are_checked(sandbox).await;
        Ok(())
    })
}

async fn container(
    sandbox: &Sandbox,
    image: &Arc<Image>,
    network: impl Into<ContainerNetwork>,
) -> Result<Container, cofferdam_sandbox::Error> {
    let spec = ContainerSpec { network: network.into(), ..ContainerSpec::new(Arc::clone(image)) };
    sandbox.create(spec).await
}

/// A server on a low port, by the means of the host image alone.
const SERVE: &str = "perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, 0); \
    setsockopt(S, SOL_SOCKET, SO_REUSEADDR, 1); bind(S, sockaddr_in(80, INADDR_ANY)) or die $!; \
    listen(S, 5); print qq(up\\n); close STDOUT; close STDERR; \
    while (accept(C, S)) { print C qq(served\\n); close C }'";

async fn job_and_service(sandbox: &Sandbox, image: &Arc<Image>) -> Tested {
    let network: SharedNetwork =
        sandbox.share_network(Network::None, vec!["db".to_owned()]).await?;
    let service = container(sandbox, image, network.clone()).await?;
    let job = container(sandbox, image, network.clone()).await?;
    let other = container(sandbox, image, Network::None).await?;

    let served = say(&service, SERVE);
    let asked = async {
        // Each host until it answers: the server may come up between the two.
        let probe = "for host in db localhost; do for try in $(seq 200); do \
            exec 3<>/dev/tcp/$host/80 && cat <&3 && continue 2; sleep 0.05; done 2>/dev/null; \
            echo lost; done";
        let said = say(&job, probe).await?;
        assert_eq!(said, "served\nserved\n");
        // Nothing else of the service shows: its processes, its files, its queues.
        let said = say(&job, "touch /tmp/job; pgrep -c perl; ls /proc | grep -c '^[0-9]'").await?;
        assert!(said.starts_with("0\n"), "{said}");
        // What is in the other network is not here.
        let said =
            say(&other, "exec 3<>/dev/tcp/127.0.0.1/80 || echo refused; getent hosts db").await?;
        assert!(said.ends_with("refused\n"), "{said}");
        // No way out, and no power over it.
        let script = "cat /proc/net/dev | grep -c :; cat /proc/net/route | wc -l; \
            ip link add x type dummy 2>&1; ip link set lo down 2>&1; \
            echo 1 > /proc/sys/net/ipv4/ip_forward; ls /sys/class/net";
        let said = say(&job, script).await?;
        let expect = "1\n1\nRTNETLINK answers: Operation not permitted\n\
            RTNETLINK answers: Operation not permitted\n\
            bash: line 1: /proc/sys/net/ipv4/ip_forward: Read-only file system\nlo\n";
        assert_eq!(said, expect);
        let (theirs, ours) = (namespaces(&service).await?, namespaces(&job).await?);
        for (theirs, ours) in theirs.lines().zip(ours.lines()) {
            assert_eq!(theirs == ours, ours.starts_with("net:"), "{theirs} and {ours}");
        }
        service.stop().await?;
        Ok::<_, Box<dyn Error>>(())
    };
    let (served, asked) = tokio::join!(served, asked);
    asked?;
    assert!(served.is_err(), "its container was ended under it");
    assert_eq!(
        say(&job, "exec 3<>/dev/tcp/db/80 || echo gone").await?.lines().last(),
        Some("gone")
    );

    // A namespace stays as long as someone is in it, and no longer.
    let inode =
        namespaces(&job).await?.lines().find(|line| line.starts_with("net:")).unwrap().to_owned();
    service.end().await?;
    drop(service);
    drop(network);
    assert!(say(&job, "cat /etc/hosts").await?.contains("127.0.0.1\tdb\n"));
    let end = job.end().await?;
    assert_eq!(end.network, None);
    drop(job);
    // The rest of a container is taken apart beside its owner.
    until("the namespace is gone", || !held(&inode).unwrap()).await;
    other.end().await?;
    until("all have ended", || inits().is_empty()).await;
    Ok(())
}

async fn namespaces(container: &Container) -> Result<String, Box<dyn Error>> {
    say(
        container,
        "for each in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$each; done",
    )
    .await
}

/// Whether a descriptor of this process holds this namespace.
fn held(name: &str) -> std::io::Result<bool> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let target = std::fs::read_link(entry?.path());
        if target.is_ok_and(|target| target.as_os_str() == name) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn names_are_checked(sandbox: &Sandbox) {
    let names = vec!["db\n192.0.2.1 registry".to_owned()];
    let error = sandbox.share_network(Network::None, names).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Pipeline);
}
