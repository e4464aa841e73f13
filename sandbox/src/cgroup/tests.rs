//! Real groups with real processes: each limit is exceeded, each group is gone afterwards.
//!
//! They need root or a delegated cgroup subtree and say so, by name, where they have neither.

use std::{
    io::Write as _,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;
use crate::{limits::Limits, sys};

const MIB: u64 = 1 << 20;

/// Says that a test cannot run here, past the test harness, which keeps what a passing test prints.
fn not_run(test: &str, reason: &str) {
    writeln!(std::io::stderr(), "NOT RUN on this host: {test}: {reason}").unwrap();
}

/// An instance of one test; its groups are removed with it.
struct Scene {
    hierarchy: Hierarchy,
    name: String,
    instance: Instance,
}

impl Scene {
    /// Nothing where this host lets this process make no groups.
    fn new(test: &str) -> Option<Self> {
        let hierarchy = Hierarchy::detect(&[]).unwrap();
        for finding in hierarchy.report() {
            if let Enforcement::Missing { reason, .. } = finding.enforcement
                && !finding.limit.is_optional()
            {
                not_run(test, &format!("`{}`: {reason}", finding.limit));
                return None;
            }
        }
        let name = format!("test-{}-{test}", std::process::id());
        let instance = hierarchy.prepare(&name).unwrap();
        Some(Self { hierarchy, name, instance })
    }

    fn create(&self, limits: &Limits) -> Group {
        self.instance.create("container", limits, &GroupOptions::default()).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.hierarchy.remove_instance(&self.name).unwrap();
        let left: Vec<PathBuf> =
            self.instance.directories().into_iter().filter(|path| path.exists()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests' own processes, outside of containers")]
fn shell(script: &str) -> Child {
    Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A shell that enters the group by its own doing, as a container's process does, and then runs
/// the script. An entrance that does not work ends it with 99.
fn run_in(group: &Group, script: &str) -> Child {
    let entrance = group.entrance().unwrap();
    let paths: Vec<String> = entrance
        .tasks
        .iter()
        .chain(&entrance.procs)
        .map(|file: &OwnedFd| format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()))
        .collect();
    let enter = format!("for f in {}; do echo 0 > $f || exit 99; done", paths.join(" "));
    let mut child = shell(&format!("{enter}\nread -r go || exit 98\n{script}"));
    let mut pipe = child.stdin.take().unwrap();
    let number = i32::try_from(child.id()).unwrap();
    let entered = within(Duration::from_secs(20), || {
        group.directories.all().all(|path| file::processes(path).unwrap().contains(&number))
    });
    assert!(entered, "did not enter: {:?}", child.try_wait());
    // The entrance is open until here, because the child opens it by way of this process.
    drop(entrance);
    pipe.write_all(b"go\n").unwrap();
    child
}

fn within(time: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + time;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

fn was_killed(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal() == Some(libc::SIGKILL)
}

#[test]
fn groups_come_and_go() {
    let Some(scene) = Scene::new("groups_come_and_go") else { return };
    let group = scene.create(&Limits::default());
    assert!(group.directories().iter().all(|path| path.is_dir()));
    assert!(scene.hierarchy.instances().unwrap().contains(&scene.name));
    assert_eq!(scene.hierarchy.instance(&scene.name).unwrap().group("container").unwrap(), group);

    let again = scene.instance.create("container", &Limits::default(), &GroupOptions::default());
    assert!(again.is_err(), "a group was made twice");
    assert!(group.directories().iter().all(|path| path.is_dir()), "the first one is still there");

    let step = group.step("one").unwrap();
    assert!(group.step("one").is_err(), "a step was made twice");
    assert!(step.directories().iter().all(|path| path.is_dir()));
    group.remove().unwrap();
    assert!(!group.directories().iter().any(|path| path.exists()));
    // What is gone can be killed and removed again.
    step.kill().unwrap();
    step.remove().unwrap();
    group.remove().unwrap();
}

#[test]
fn memory_is_limited() {
    let Some(scene) = Scene::new("memory_is_limited") else { return };
    let limits = Limits { memory: 32 * MIB, ..Limits::default() };
    let group = scene.create(&limits);
    let events = group.memory_events().unwrap();
    assert!(!events.acknowledge().unwrap());
    let step = group.step("hungry").unwrap();
    // `tail` keeps a line that never ends.
    let mut child = run_in(&step, "head -c 200000000 /dev/zero | tail -n 1 | wc -c; exit 3");
    let mut waiting = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut waiting, PollTimeout::from(30_000_u16)).unwrap(), 1, "no event");
    assert!(events.acknowledge().unwrap());
    assert!(within(Duration::from_secs(20), || group.usage().unwrap().oom_kills > 0));
    if scene.hierarchy.bases.v1(controller::Controller::Memory).is_some() {
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

#[test]
fn processes_are_limited_and_none_escapes_a_kill() {
    let test = "processes_are_limited_and_none_escapes_a_kill";
    let Some(scene) = Scene::new(test) else { return };
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

#[test]
fn a_step_is_measured_and_killed_by_itself() {
    let Some(scene) = Scene::new("a_step_is_measured_and_killed_by_itself") else { return };
    let group = scene.create(&Limits::default());
    // The container's first process, before there is any step.
    let mut init = run_in(&group, "sleep 600");
    let first = group.step("first").unwrap();
    let second = group.step("second").unwrap();
    let mut busy = run_in(&first, "while :; do :; done");
    let mut idle = run_in(&second, "sleep 600");
    let cpu = |group: &Group| {
        let usage = group.usage().unwrap();
        usage.cpu_user_us.unwrap() + usage.cpu_system_us.unwrap()
    };
    assert!(within(Duration::from_secs(60), || cpu(&first) > 300_000));
    assert!(cpu(&group) >= cpu(&first));
    assert!(cpu(&second) < cpu(&first));
    let listed = |group: &Group, child: &Child| {
        group.processes().unwrap().contains(&i32::try_from(child.id()).unwrap())
    };
    for child in [&init, &busy, &idle] {
        assert!(listed(&group, child));
    }
    assert!(listed(&first, &busy) && !listed(&first, &idle) && !listed(&second, &init));

    first.kill().unwrap();
    assert!(was_killed(busy.wait().unwrap()));
    first.remove().unwrap();
    assert!(idle.try_wait().unwrap().is_none(), "the other step was killed too");
    assert!(init.try_wait().unwrap().is_none(), "the init was killed too");
    group.kill().unwrap();
    assert!(was_killed(idle.wait().unwrap()));
    assert!(was_killed(init.wait().unwrap()));
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

#[test]
fn frozen_processes_stand_still_and_can_be_killed() {
    let test = "frozen_processes_stand_still_and_can_be_killed";
    let Some(scene) = Scene::new(test) else { return };
    let group = scene.create(&Limits::default());
    if scene.hierarchy.bases.v2().is_none() {
        not_run(test, "no unified hierarchy");
        assert!(group.freeze(true).is_err());
        return;
    }
    let mut child = run_in(&group, "while :; do :; done");
    let frozen = |expected: &str| {
        let events = group.directories.v2().unwrap().join("cgroup.events");
        let line = format!("frozen {expected}");
        within(Duration::from_secs(20), || {
            std::fs::read_to_string(&events).unwrap().lines().any(|one| one == line)
        })
    };
    group.freeze(true).unwrap();
    assert!(frozen("1"));
    group.freeze(false).unwrap();
    assert!(frozen("0"));
    group.freeze(true).unwrap();
    assert!(frozen("1"));
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
    let only_unified = controller::Directories {
        v1: Vec::new(),
        v2: Some((controller::Controllers::new(), directory)),
    };
    let group = Group { directories: only_unified };
    let node = std::env::temp_dir().join(format!("cofferdam-program-{}", std::process::id()));
    let mut child = run_in(&group, &format!("node={}\n{DEVICE_SCRIPT}", node.display()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(sys::bpf::load_device_program(&[0]).is_err(), "a program without an end was taken");
    assert!(sys::bpf::load_device_program(&[]).is_err());
}

#[test]
fn an_instance_is_removed_with_all_that_lives_in_it() {
    let test = "an_instance_is_removed_with_all_that_lives_in_it";
    let Some(scene) = Scene::new(test) else { return };
    let mut children = Vec::new();
    for name in ["a", "b"] {
        let limits = Limits::default();
        let group = scene.instance.create(name, &limits, &GroupOptions::default()).unwrap();
        children.push(run_in(&group, "trap '' TERM; sleep 600"));
        children.push(run_in(&group.step("s").unwrap(), "sleep 600"));
    }
    // Removal waits for the processes' end, and these are this test's to reap.
    let reaper = std::thread::spawn(move || {
        children.into_iter().all(|mut child| was_killed(child.wait().unwrap()))
    });
    // Another process that finds the instance by its name.
    let other = Hierarchy::detect(&[]).unwrap();
    if other.bases == scene.hierarchy.bases {
        other.remove_instance(&scene.name).unwrap();
    } else {
        remove_groups(&scene.instance.directories()).unwrap();
    }
    assert!(reaper.join().unwrap());
    assert!(!other.instances().unwrap().contains(&scene.name));
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
    let finding = scene.hierarchy.report().into_iter().find(|finding| finding.limit == Limit::Io);
    match finding.unwrap().enforcement {
        Enforcement::Enforced(_) => match result {
            Ok(group) => {
                let text = group.directories.v2().unwrap().join("io.max");
                let text = std::fs::read_to_string(text).unwrap();
                assert_eq!(text.trim(), "7:0 rbps=1048576 wbps=max riops=max wiops=max");
            }
            // No such block device on this host.
            Err(error) => assert!(error.doing().contains("io.max"), "{error}"),
        },
        enforcement => {
            let error = result.unwrap_err();
            assert!(error.remedy_text().is_some(), "{enforcement:?}");
            assert_eq!(error.doing(), "enforce the limit `io`");
        }
    }
}

#[test]
fn names_are_plain() {
    let hierarchy = Hierarchy::detect(&[]).unwrap();
    for name in ["", ".", "..", "a/b", "../x", ".hidden", "a b", "ä", "a\n", &"x".repeat(129)] {
        assert!(hierarchy.instance(name).is_err(), "{name:?}");
        assert!(hierarchy.remove_instance(name).is_err(), "{name:?}");
        assert!(hierarchy.prepare(name).is_err(), "{name:?}");
    }
    let instance = hierarchy.instance("x").unwrap();
    assert!(instance.group("../y").is_err());
    assert!(instance.group("y").unwrap().step("a/b").is_err());
}

#[test]
fn only_control_groups_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("pids.max"), "1").unwrap();
    std::fs::write(directory.path().join("cgroup.procs"), "1\n").unwrap();
    let error = remove_groups(&[directory.path().to_owned()]).unwrap_err();
    assert!(error.doing().starts_with("remove the control group"), "{error}");
    assert!(directory.path().exists());
    remove_groups(&[directory.path().join("missing")]).unwrap();
}

/// A process that has a delegated group to itself: it makes room and comes back.
#[test]
fn the_supervisor_moves_into_a_leaf_and_back() {
    let test = "the_supervisor_moves_into_a_leaf_and_back";
    let Some(scene) = Scene::new(test) else { return };
    let Some(directory) = scene.instance.directories.v2().filter(|_| {
        scene
            .hierarchy
            .bases
            .home(controller::Controller::Memory)
            .is_some_and(|home| matches!(home, controller::Home::V2(_)))
    }) else {
        not_run(test, "the memory controller is not in the unified hierarchy");
        return;
    };
    // This process stands for the one that owns the group: another process can be moved, the
    // test's own would take all tests along.
    let own = directory.join("scope");
    std::fs::create_dir(&own).unwrap();
    let mut child = shell("read -r go");
    let number = i32::try_from(child.id()).unwrap();
    file::write(&own.join("cgroup.procs"), &number.to_string()).unwrap();
    let hierarchy = scene.hierarchy.clone().in_delegated(&own, number);
    for _ in 0..2 {
        let instance = hierarchy.prepare("inner").unwrap();
        assert_eq!(file::processes(&own).unwrap(), Vec::<i32>::new());
        assert_eq!(file::processes(&own.join("cofferdam-supervisor")).unwrap(), [number]);
        hierarchy.leave().unwrap();
        assert_eq!(
            file::processes(&own).unwrap(),
            Vec::<i32>::new(),
            "left although an instance is there"
        );
        let group = instance.create("c", &Limits::default(), &GroupOptions::default()).unwrap();
        assert!(group.directories.v2().unwrap().join("memory.max").exists());
        assert_eq!(hierarchy.instances().unwrap(), ["inner"]);
        hierarchy.remove_instance("inner").unwrap();
        hierarchy.leave().unwrap();
        assert_eq!(file::processes(&own).unwrap(), [number]);
        assert!(file::children(&own).unwrap().is_empty());
    }
    drop(child.stdin.take());
    child.wait().unwrap();
}
