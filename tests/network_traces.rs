//! What networks leave behind, and what they change on the host while they are there: nothing that
//! others would notice.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::{
    binary::{kill, program, wait},
    host::{Need, is_root},
    network::{init_of, standing},
    residue::await_end,
    world::{FIRST, ip, needs_world, with_world, with_world_of_its_own},
};

/// What a run has made on this host: links, tables, and the setting that lets packets pass; or the
/// program that does that for a user.
fn made() -> Vec<String> {
    if !is_root() {
        return carriers();
    }
    let list = |name: &str, arguments: &[&str]| {
        let output = program(name).args(arguments).output().expect("run");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let links = list("ip", &["-o", "link"]);
    let tables = list("nft", &["list", "tables"]);
    let lines = links.lines().chain(tables.lines());
    let mut made: Vec<String> = lines
        .filter(|line| line.contains("cfd") || line.contains("cofferdam"))
        .map(ToOwned::to_owned)
        .collect();
    let setting = list("cat", &["/proc/sys/net/ipv4/ip_forward"]);
    if setting.trim() != "0" {
        made.push("forwarding".to_owned());
    }
    made
}

/// Programs that carry packets and are on this thread's host.
fn carriers() -> Vec<String> {
    let here = host_namespace();
    let processes = std::fs::read_dir("/proc").expect("processes").filter_map(Result::ok);
    processes
        .map(|process| process.path())
        .filter(|path| std::fs::read_link(path.join("ns/net")).is_ok_and(|it| it == here))
        .filter_map(|path| std::fs::read_to_string(path.join("comm")).ok())
        .filter(|name| ["pasta", "passt", "slirp4netns"].iter().any(|it| name.starts_with(it)))
        .collect()
}

#[track_caller]
fn expect_nothing_left(after: &str) {
    let deadline = Instant::now() + crate::binary::GRACE;
    while !made().is_empty() {
        assert!(Instant::now() < deadline, "after {after}: {:#?}", made());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// No link, table, setting or program stays, however the run ends.
#[test]
fn nothing_is_left() {
    needs_world!(Need::Program("nft"));
    with_world_of_its_own(|world| {
        expect_nothing_left("the beginning");
        world.script("full", "exit 3").expect(3);
        expect_nothing_left("an ordinary end");

        let (mut child, _) = standing(world, "full", "sleep 1000");
        let expect = if is_root() { 3 } else { 1 };
        assert_eq!(made().len(), expect, "a link, a table and the setting: {:#?}", made());
        kill(child.id(), Signal::SIGKILL);
        child.wait().expect("wait");
        expect_nothing_left("the runner's death");

        let (mut child, _) = standing(world, "listed.example:443", "sleep 1000");
        let spawner = init_of(&child);
        let stat = std::fs::read_to_string(format!("/proc/{spawner}/stat")).expect("stat");
        let parent = stat.rsplit_once(") ").expect("stat").1.split(' ').nth(1).expect("a parent");
        let parent = parent.parse().expect("a number");
        kill(parent, Signal::SIGKILL);
        kill(child.id(), Signal::SIGKILL);
        child.wait().expect("wait");
        // Until then it has its journal locked, and the next start takes the run for a live one.
        await_end(&[parent]);
        world.script("none", "true").expect(0);
        expect_nothing_left("the death of runner and spawner, and the next start");
    });
}

/// Where packets passed before, they go on passing, and other runs are not cut off.
#[test]
fn forwarding_that_was_on_stays_on() {
    needs_world!(Need::Root);
    with_world(|world| {
        ip(&["link set lo up"]);
        let on = program("sh").args(["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]).status();
        assert!(on.expect("run sh").success());
        world.script("full", "true").expect(0);
        let setting = program("cat").arg("/proc/sys/net/ipv4/ip_forward").output().expect("cat");
        assert_eq!(setting.stdout, b"1\n");
    });
}

/// While a run needs this host to pass packets on, it passes on nobody else's.
#[test]
fn the_host_is_no_router_for_others() {
    needs_world!(Need::Root, Need::Program("nsenter"));
    with_world(|world| {
        // A third network behind the host, to which the world has a route.
        let mut third =
            program("unshare").args(["--net", "sleep", "1000"]).spawn().expect("unshare");
        let pid = third.id().to_string();
        let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
        let namespace = format!("/proc/{pid}/ns/net");
        while std::fs::read_link(&namespace).is_ok_and(|it| it == own || it == host_namespace()) {
            std::thread::yield_now();
        }
        ip(&[
            &format!("link add side0 type veth peer name in1 netns {pid}"),
            "addr add 203.0.113.1/24 dev side0",
            "link set side0 up",
        ]);
        let reply = |command: &str| {
            let arguments = ["--net", "--target", &pid, "--", "bash", "-c", command];
            let output = program("nsenter").args(arguments).output().expect("run nsenter");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        reply(
            "ip addr add 203.0.113.9/24 dev in1; ip link set in1 up; ip route add default via \
             203.0.113.1",
        );
        world.route_back("203.0.113.0/24");
        let probe = |patience: u32| {
            format!("timeout {patience} bash -c 'cat < /dev/tcp/{FIRST}/80' || echo nothing")
        };
        let (child, _) = standing(world, "full", "sleep 1000");
        assert_eq!(reply(&probe(2)), "nothing\n");
        kill(child.id(), Signal::SIGTERM);
        wait(child);
        // Without our filter, and with forwarding on, it would have passed.
        let on = program("sh").args(["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]).status();
        assert!(on.expect("run sh").success());
        assert_eq!(reply(&probe(60)), "world\n");
        third.kill().expect("end the third network");
        third.wait().expect("wait");
    });
}

/// The namespace of this test's host.
fn host_namespace() -> std::path::PathBuf {
    std::fs::read_link("/proc/thread-self/ns/net").expect("a namespace")
}

/// The job's container has ended, and the one in the next step's network cannot be put up: what the
/// first has tried is in the record all the same.
#[test]
fn what_was_tried_before_a_container_that_cannot_be_put_up() {
    needs_world!(Need::Root);
    with_world(|world| {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name).display().to_string();
        std::fs::create_dir(path("shared")).expect("make a directory");
        let tried = "getent hosts denied.example || touch /shared/tried; \
                     until [ -e /shared/go ]; do sleep 0.05; done";
        let pipeline = format!(
            "jobs:\n  a:\n    network: {{ allow: [listed.example:80] }}\n    steps:\n    \
             - run: {}\n    - {{ run: echo never, network: none }}\n",
            serde_json::to_string(tried).expect("JSON")
        );
        let pipeline = crate::binary::file(directory.path(), "pipeline.yml", pipeline);
        let pipeline = pipeline.display().to_string();
        let mount = format!("{}:/shared", path("shared"));
        let arguments = ["run", &pipeline, "--out", &path("out"), "--mount", &mount];
        let child = world.command(&arguments).spawn().expect("start");
        crate::binary::await_that(|| std::path::Path::new(&path("shared/tried")).exists());
        // The container keeps it; the next one does not find it.
        std::fs::rename(path("shared"), path("gone")).expect("rename");
        std::fs::write(path("gone/go"), "").expect("write");
        let ended = wait(child);
        ended.says(&["find the mount"]);
        let record = std::fs::read_to_string(path("out/run.json")).expect("run.json");
        let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
        let denied = &record["jobs"][0]["attempts"][0]["network"]["denied"][0];
        assert_eq!(denied["host"], "denied.example", "{record:#}");
    });
}
