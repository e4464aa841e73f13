//! Groups come, hold processes, and go.

use std::process::Child;
use std::time::Duration;

use super::{
    super::{
        Group, GroupOptions,
        controller::{Controller, Home},
        file,
    },
    scene::{Scene, run_in, shell, was_killed, within},
};
use crate::{limits::Limits, tests::not_run};

#[test]
fn groups_come_and_go() {
    for scene in Scene::on_each_layout("groups_come_and_go") {
        let group = scene.create(&Limits::default());
        assert!(group.directories().iter().all(|path| path.is_dir()));
        assert!(scene.hierarchy.instances().unwrap().contains(&scene.name));
        assert_eq!(
            scene.hierarchy.instance(&scene.name).unwrap().group("container").unwrap(),
            group
        );

        let again =
            scene.instance.create("container", &Limits::default(), &GroupOptions::default());
        assert!(again.is_err(), "a group was made twice");
        assert!(
            group.directories().iter().all(|path| path.is_dir()),
            "the first one is still there"
        );

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
}

#[test]
fn a_step_is_measured_and_killed_by_itself() {
    for scene in Scene::on_each_layout("a_step_is_measured_and_killed_by_itself") {
        let group = scene.create(&Limits::default());
        // The container's first process, before there is any step.
        let mut init = run_in(&group, "exec sleep 600");
        let first = group.step("first").unwrap();
        let second = group.step("second").unwrap();
        let mut busy = run_in(&first, "while :; do :; done");
        let mut idle = run_in(&second, "exec sleep 600");
        let cpu = |group: &Group| {
            let usage = group.usage().unwrap();
            usage.cpu_user_us.unwrap() + usage.cpu_system_us.unwrap()
        };
        assert!(within(Duration::from_secs(60), || cpu(&first) > 300_000));
        // It goes on, so what it had so far is read first.
        let used = cpu(&first);
        assert!(within(Duration::from_secs(60), || cpu(&group) >= used));
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

#[test]
fn an_instance_is_removed_with_all_that_lives_in_it() {
    for scene in Scene::on_each_layout("an_instance_is_removed_with_all_that_lives_in_it") {
        let mut children = Vec::new();
        for name in ["a", "b"] {
            let limits = Limits::default();
            let group = scene.instance.create(name, &limits, &GroupOptions::default()).unwrap();
            children.push(run_in(&group, "trap '' TERM; exec sleep 600"));
            children.push(run_in(&group.step("s").unwrap(), "exec sleep 600"));
        }
        // Removal waits for the processes' end, and these are this test's to reap.
        let reaper = std::thread::spawn(move || {
            children.into_iter().all(|mut child| was_killed(child.wait().unwrap()))
        });
        assert!(scene.hierarchy.instances().unwrap().contains(&scene.name));
        scene.hierarchy.remove_instance(&scene.name).unwrap();
        assert!(reaper.join().unwrap());
        assert!(!scene.hierarchy.instances().unwrap().contains(&scene.name));
    }
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
            .home(Controller::Memory)
            .is_some_and(|home| matches!(home, Home::V2(_)))
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
        let instance = hierarchy.prepare("inner", &[]).unwrap();
        assert_eq!(file::processes(&own).unwrap(), [0_i32; 0]);
        let leaf = own.join("cofferdam-supervisor");
        assert_eq!(file::processes(&leaf).unwrap(), [number]);
        assert_eq!(file::read(&leaf.join("memory.min")).unwrap().trim(), "67108864");
        hierarchy.leave().unwrap();
        assert_eq!(
            file::processes(&own).unwrap(),
            [0_i32; 0],
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

/// More than are pinned at once.
#[test]
fn a_crowd_is_killed() {
    for scene in Scene::on_each_layout("a_crowd_is_killed") {
        let group = scene.create(&Limits { pids: 400, ..Limits::default() });
        let crowd = "i=0; while [ $i -lt 150 ]; do sleep 600 & i=$((i + 1)); done; exec sleep 600";
        let mut child = run_in(&group, crowd);
        assert!(within(Duration::from_secs(120), || group.processes().unwrap().len() > 150));
        group.kill().unwrap();
        assert!(was_killed(child.wait().unwrap()));
        assert!(within(Duration::from_secs(30), || group.processes().unwrap().is_empty()));
    }
}
