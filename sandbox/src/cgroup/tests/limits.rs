//! Each limit is exceeded, and holds.

use std::{os::fd::AsFd as _, time::Duration};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    super::{
        Enforcement, Group, GroupOptions, IoLimit, Limit,
        controller::{Controller, Controllers, Directories},
        device,
    },
    scene::{Scene, run_in, was_killed, within},
};
use crate::{limits::Limits, sys, tests::not_run};

const MIB: u64 = 1 << 20;

#[test]
fn memory_is_limited() {
    for scene in Scene::on_each_layout("memory_is_limited") {
        let limits = Limits { memory: 32 * MIB, ..Limits::default() };
        let group = scene.create(&limits);
        let events = group.memory_events().unwrap();
        assert!(!events.acknowledge().unwrap());
        let step = group.step("hungry").unwrap();
        // `tail` keeps a line that never ends.
        let mut child =
            run_in(&step, "head -c 200000000 /dev/zero | tail -n 1 | wc -c; exec sleep 600");
        let priority = events.interest().is_priority();
        let flags = if priority { PollFlags::POLLPRI } else { PollFlags::POLLIN };
        let mut waiting = [PollFd::new(events.as_fd(), flags)];
        assert_eq!(poll(&mut waiting, PollTimeout::from(30_000_u16)).unwrap(), 1, "no event");
        assert!(events.acknowledge().unwrap());
        assert!(within(Duration::from_secs(20), || group.usage().unwrap().oom_kills > 0));
        if scene.hierarchy.bases.v1(Controller::Memory).is_some() {
            // What a supervisor does on v1; the unified hierarchy kills the whole group by itself.
            group.kill().unwrap();
        }
        assert!(was_killed(child.wait().unwrap()), "the shell survived");
        assert!(within(Duration::from_secs(5), || group.processes().unwrap().is_empty()));
        for group in [&group, &step] {
            let usage = group.usage().unwrap();
            assert!(usage.oom_kills >= 1, "{usage:?}");
            let peak = usage.memory_peak.unwrap();
            // A dying process may still take some pages beyond the limit.
            assert!((24 * MIB..=34 * MIB).contains(&peak), "{usage:?}");
            assert!(usage.memory_current.unwrap() <= peak, "{usage:?}");
        }
    }
}

/// The process that is killed for memory is a child, and its parent would go on.
#[tokio::test]
async fn a_container_without_memory_ends_as_a_whole() {
    for scene in Scene::on_each_layout("a_container_without_memory_ends_as_a_whole") {
        let group = scene.create(&Limits { memory: 32 * MIB, ..Limits::default() });
        let step = group.step("hungry").unwrap();
        let hunger = "head -c 200000000 /dev/zero | tail -n 1 | wc -c; exec sleep 600";
        let mut child = run_in(&step, hunger);
        let mut largest = None;
        let watch =
            group.watch_memory(|| largest = largest.take().or_else(|| group.largest_process()));
        let ended = tokio::task::spawn_blocking(move || child.wait());
        // On v1 the watch ends the rest, in the unified hierarchy the kernel does.
        let status = tokio::select! {
            status = ended => status.unwrap(),
            never = async { watch.await.unwrap(); std::future::pending().await } => never,
            () = tokio::time::sleep(Duration::from_secs(60)) => panic!("the shell survived"),
        };
        assert!(was_killed(status.unwrap()));
        // The kernel may have been faster; whoever had much is the one.
        let large = largest.filter(|process| process.bytes > 16 * MIB);
        assert!(large.as_ref().is_none_or(|it| it.name == "tail"), "{large:?}");
        assert!(group.usage().unwrap().oom_kills > 0);
    }
}

/// The kernel of v1 also tells of the group's end: that ends the wait.
#[tokio::test]
async fn a_watch_ends_with_the_group() {
    for scene in Scene::on_each_layout("a_watch_ends_with_the_group") {
        if scene.hierarchy.bases.v1(Controller::Memory).is_none() {
            continue;
        }
        let group = scene.create(&Limits::default());
        let other = group.clone();
        let watch = tokio::spawn(async move { other.watch_memory(|| {}).await });
        tokio::task::yield_now().await;
        group.remove().unwrap();
        let result = tokio::time::timeout(Duration::from_secs(30), watch).await.unwrap();
        result.unwrap().unwrap();
    }
}

#[test]
fn processes_are_limited_and_none_escapes_a_kill() {
    for scene in Scene::on_each_layout("processes_are_limited_and_none_escapes_a_kill") {
        let limits = Limits { pids: 20, ..Limits::default() };
        let group = scene.create(&limits);
        let step = group.step("bomb").unwrap();
        // They fork until they are refused, ignore what can be ignored and leave their session.
        let bomb = "trap '' TERM INT HUP\n\
                    setsid sh -c 'trap \"\" TERM; while :; do sleep 600 & done' &\n\
                    (while :; do sleep 600 & done) &\n\
                    exec sleep 600";
        let mut child = run_in(&step, bomb);
        assert!(within(Duration::from_secs(20), || group.usage().unwrap().pids_refused > 0));
        let usage = group.usage().unwrap();
        assert!(usage.pids_peak.is_none_or(|peak| peak <= 20), "{usage:?}");
        assert!(group.processes().unwrap().len() <= 20);
        step.kill().unwrap();
        assert!(was_killed(child.wait().unwrap()));
        assert!(within(Duration::from_secs(20), || group.processes().unwrap().is_empty()));
        group.remove().unwrap();
    }
}

#[test]
fn processor_time_is_limited() {
    let Some(scene) = Scene::new("processor_time_is_limited") else { return };
    let limits = Limits { cpus: 0.05, ..Limits::default() };
    let group = scene.create(&limits);
    let mut child = run_in(&group, "while :; do :; done");
    assert!(within(Duration::from_secs(60), || group.usage().unwrap().throttled_us > Some(100_000)));
    group.kill().unwrap();
    assert!(was_killed(child.wait().unwrap()));
}

/// In order: what may be opened, what may not, what cannot be made.
const DEVICE_SCRIPT: &str = "\
: < /dev/null || exit 11
: > /dev/null || exit 12
head -c 1 /dev/urandom > /dev/null || exit 13
if (: < /dev/kmsg); then exit 14; fi
if mknod $node c 1 3; then rm -f $node; exit 15; fi
exit 0";

#[test]
fn device_nodes_are_guarded() {
    let Some(scene) = Scene::new("device_nodes_are_guarded") else { return };
    if !scene.hierarchy.privileged {
        not_run("device_nodes_are_guarded", "only root can make or open device nodes");
        return;
    }
    let group = scene.create(&Limits::default());
    let node = std::env::temp_dir().join(format!("cofferdam-node-{}", std::process::id()));
    let mut child = run_in(&group, &format!("node={}\n{DEVICE_SCRIPT}", node.display()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// The unified hierarchy's way, also where the v1 controller would be taken.
#[test]
fn the_kernel_takes_the_device_program() {
    let test = "the_kernel_takes_the_device_program";
    let Some(scene) = Scene::new(test) else { return };
    let Some(directory) = scene.instance.directories.v2() else {
        not_run(test, "no unified hierarchy");
        return;
    };
    if !scene.hierarchy.privileged {
        not_run(test, "needs root");
        return;
    }
    let directory = directory.join("program");
    std::fs::create_dir(&directory).unwrap();
    let program = sys::bpf::load_device_program(&device::program()).unwrap();
    let file = std::fs::File::open(&directory).unwrap();
    sys::bpf::attach_device_program(&file, &program).unwrap();
    drop(program);
    let only_unified = Directories { v1: Vec::new(), v2: Some((Controllers::new(), directory)) };
    let group = Group { directories: only_unified, guard: None, io_limited: false };
    let node = std::env::temp_dir().join(format!("cofferdam-program-{}", std::process::id()));
    let mut child = run_in(&group, &format!("node={}\n{DEVICE_SCRIPT}", node.display()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(sys::bpf::load_device_program(&[0]).is_err(), "a program without an end was taken");
    assert!(sys::bpf::load_device_program(&[]).is_err());
}

#[test]
fn processors_can_be_chosen() {
    let Some(scene) = Scene::new("processors_can_be_chosen") else { return };
    let options = GroupOptions { cpuset: Some("0".to_owned()), ..GroupOptions::default() };
    match scene.instance.create("pinned", &Limits::default(), &options) {
        Ok(group) => {
            let mut child = run_in(&group, "test \"$(nproc)\" = 1");
            assert_eq!(child.wait().unwrap().code(), Some(0));
        }
        Err(error) => {
            let missing = scene.hierarchy.report().into_iter().any(|finding| {
                finding.limit == Limit::CpuSet
                    && matches!(finding.enforcement, Enforcement::Missing { .. })
            });
            assert!(missing, "{error}: {:?}", std::error::Error::source(&error));
            not_run("processors_can_be_chosen", "no cpuset controller");
        }
    }
    let options = GroupOptions { cpuset: Some("no".to_owned()), ..GroupOptions::default() };
    assert!(scene.instance.create("wrong", &Limits::default(), &options).is_err());
    let group = scene.instance.group("wrong").unwrap();
    assert!(
        !group.directories().iter().any(|path| path.exists()),
        "a failed creation left a group"
    );
}

#[test]
fn io_is_limited_or_refused() {
    let Some(scene) = Scene::new("io_is_limited_or_refused") else { return };
    let limit = IoLimit { major: 7, minor: 0, read: Some(MIB), write: None };
    let options = GroupOptions { io: vec![limit], ..GroupOptions::default() };
    let result = scene.instance.create("slow", &Limits::default(), &options);
    let mut report = scene.hierarchy.report().into_iter();
    let finding = report.find(|finding| finding.limit == Limit::IoRead);
    match finding.unwrap().enforcement {
        Enforcement::Enforced(_) => match result {
            Ok(group) => {
                let (directory, file, expected) = match group.directories.v1(Controller::Io) {
                    Some(v1) => (v1, "blkio.throttle.read_bps_device", "7:0 1048576"),
                    None => {
                        let expected = "7:0 rbps=1048576 wbps=max riops=max wiops=max";
                        (group.directories.v2().unwrap(), "io.max", expected)
                    }
                };
                let text = std::fs::read_to_string(directory.join(file)).unwrap();
                assert_eq!(text.trim(), expected);
            }
            // No such block device on this host.
            Err(error) => assert!(error.doing().contains("limit `io.read`"), "{error}"),
        },
        enforcement => {
            let error = result.unwrap_err();
            assert!(error.remedy_text().is_some(), "{enforcement:?}");
            assert_eq!(error.doing(), "enforce the limit `io.read`");
        }
    }
}
