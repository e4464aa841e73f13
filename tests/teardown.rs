//! What is left behind is told, fails the run, stops no later one, and is removed by `cofferdam gc`.
//!
//! `gc` looks at the whole host, so these tests are alone while they leave something there.
//!
//! The audit after a run must be able to fail: here something that the run cannot remove is put in
//! its way, once per kind.

use std::{
    fs,
    fs::File,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Child,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::Signal,
};

use crate::{
    binary::{Cofferdam, Ended, alone, copy_program, kill, wait},
    host::{Need, needs, which},
    residue::{Snapshot, await_end, children},
    world::{ip, with_world},
};

/// A run that has begun and waits to be ended.
pub(crate) struct Begun<'a> {
    cofferdam: &'a Cofferdam,
    pub(crate) child: Child,
}

impl<'a> Begun<'a> {
    pub(crate) fn start(cofferdam: &'a Cofferdam, flags: &[&str]) -> Self {
        let script = "echo up; exec sleep 1000";
        let mut arguments = vec!["exec", "host"];
        arguments.extend(flags);
        arguments.extend(["--", "sh", "-c", script]);
        Self::of(cofferdam, cofferdam.command(arguments).spawn().expect("start cofferdam"))
    }

    fn of(cofferdam: &'a Cofferdam, mut child: Child) -> Self {
        use std::io::BufRead as _;
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("a pipe");
        std::io::BufReader::new(stdout).read_line(&mut line).expect("the first line");
        assert_eq!(line, "up\n");
        Self { cofferdam, child }
    }

    /// Its journal: the only one of its state directory that is in use.
    pub(crate) fn journal(&self) -> PathBuf {
        let instances = self.cofferdam.state().join("instances");
        let mut all: Vec<PathBuf> =
            fs::read_dir(instances).expect("journals").map(|it| it.expect("one").path()).collect();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    fn groups(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string(self.journal().join("journal")).expect("a journal");
        let first = text.lines().next().expect("a line");
        let entry: serde_json::Value = serde_json::from_str(first).expect("JSON");
        let groups = entry["ControlGroups"].as_array().expect("groups").iter();
        groups.map(|group| group.as_str().expect("a path").into()).collect()
    }

    pub(crate) fn end(self) -> Ended {
        kill(self.child.id(), Signal::SIGINT);
        wait(self.child)
    }

    /// Ends the runner and the spawner, so that nobody cleans up.
    fn kill_all(mut self) {
        let runner = self.child.id();
        kill(runner, Signal::SIGSTOP);
        let spawners = children(runner);
        spawners.iter().for_each(|spawner| kill(*spawner, Signal::SIGKILL));
        kill(runner, Signal::SIGKILL);
        self.child.wait().expect("wait");
        // Until then it has the journal locked.
        await_end(&spawners);
    }
}

/// What `cofferdam gc` says of the whole host.
pub(crate) fn gc(cofferdam: &Cofferdam, flags: &[&str]) -> serde_json::Value {
    let ended = cofferdam.run(["gc", "--json"].iter().chain(flags));
    let said: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let clean = said["left"].as_array().expect("a list").is_empty();
    assert_eq!(ended.status, if clean { 0 } else { 70 }, "{said}");
    said
}

/// The names of one kind in a list of [`gc`].
pub(crate) fn names(list: &serde_json::Value, kind: &str) -> Vec<String> {
    let all = list.as_array().expect("a list").iter();
    let of_kind = all.filter(|it| it["kind"] == kind);
    of_kind.map(|it| it["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn a_group_that_cannot_be_removed() {
    needs!(Need::Containers, Need::Root);
    let _quiet = alone();
    let cofferdam = Cofferdam::unshared();
    let json = tempfile::NamedTempFile::new().expect("a file");
    let begun = Begun::start(&cofferdam, &["--json", &json.path().display().to_string()]);
    let journal = begun.journal().display().to_string();
    let group = begun.groups().remove(0);
    // Deeper than any of ours: it belongs to somebody else, and is not removed.
    let foreign = group.join("a/b/c/d/e/f");
    fs::create_dir_all(&foreign).expect("make groups");
    let ended = begun.end().expect(70);
    ended.says(&["left behind: control group", &group.display().to_string(), "not ours"]);
    let outcome = fs::read_to_string(json.path()).expect("the outcome");
    let outcome: serde_json::Value = serde_json::from_str(&outcome).expect("JSON");
    assert_eq!(outcome["status"], 70);
    assert_eq!(outcome["residue"].as_array().map(Vec::len), Some(2), "{outcome}");

    // It stops nothing, and is told of until it is gone.
    cofferdam.script(&[], "echo works").expect(0).says(&["works", "`cofferdam gc`"]);
    cofferdam.run(["doctor"]).expect(0).says(&["left behind", &journal]);
    let left = gc(&cofferdam, &[])["left"].clone();
    assert_eq!(names(&left, "journal"), [journal.as_str()], "{left}");
    assert!(group.exists(), "removed with what is below it");

    for directory in foreign.ancestors().take_while(|it| *it != group) {
        fs::remove_dir(directory).expect("remove a group");
    }
    let dry = gc(&cofferdam, &["--dry-run"])["removed"].clone();
    assert_eq!(names(&dry, "journal"), [journal.as_str()], "{dry}");
    assert!(names(&dry, "control group").contains(&group.display().to_string()), "{dry}");
    assert!(group.exists());
    let removed = gc(&cofferdam, &[])["removed"].clone();
    assert_eq!(names(&removed, "journal"), [journal.as_str()], "{removed}");
    assert!(!group.exists() && !Path::new(&journal).exists());
    let ended = cofferdam.script(&[], "true").expect(0);
    assert!(!ended.text().contains("gc"), "{}", ended.text());
}

#[test]
fn a_run_of_a_pipeline_says_so_in_its_record() {
    needs!(Need::Containers, Need::Root);
    let _quiet = alone();
    let cofferdam = Cofferdam::unshared();
    let out = tempfile::tempdir().expect("a directory");
    let text = "jobs: { a: { steps: [{ run: 'echo up; exec sleep 1000' }] } }\n";
    let pipeline = crate::binary::file(out.path(), "pipeline.yml", text);
    let results = out.path().join("results");
    let command = ["run".as_ref(), pipeline.as_os_str(), "--out".as_ref(), results.as_os_str()];
    let child = cofferdam.command(command).spawn().expect("start cofferdam");
    let begun = Begun { cofferdam: &cofferdam, child };
    let log = results.join("logs/a");
    crate::binary::await_that(|| {
        let logs = fs::read_dir(&log).into_iter().flatten().filter_map(Result::ok);
        logs.into_iter().any(|it| fs::read_to_string(it.path()).is_ok_and(|it| it.contains("up")))
    });
    let group = begun.groups().remove(0);
    let foreign = group.join("a/b/c/d/e/f");
    fs::create_dir_all(&foreign).expect("make groups");
    begun.end().expect(70).says(&["left behind by this run", &group.display().to_string()]);
    let record = fs::read_to_string(results.join("run.json")).expect("run.json");
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    assert_eq!(record["conclusion"], "system-fault");
    assert_eq!(record["residue"].as_array().map(Vec::len), Some(2), "{record}");
    for directory in foreign.ancestors().take_while(|it| *it != group) {
        fs::remove_dir(directory).expect("remove a group");
    }
    gc(&cofferdam, &[]);
}

#[test]
fn a_mount_of_the_runs() {
    needs!(Need::Containers, Need::Root);
    let _quiet = alone();
    let cofferdam = Cofferdam::unshared();
    let begun = Begun::start(&cofferdam, &[]);
    let place = tempfile::tempdir().expect("a directory");
    let none = None::<&str>;
    mount(Some(&begun.journal()), place.path(), none, MsFlags::MS_BIND, none).expect("mount");
    let ended = begun.end();
    umount2(place.path(), MntFlags::MNT_DETACH).expect("unmount");
    ended.expect(70).says(&[&format!("left behind: mount `{}`", place.path().display())]);
}

#[test]
fn a_loop_device_that_somebody_has_open() {
    needs!(Need::Containers, Need::Disk);
    let _quiet = alone();
    let cofferdam = Cofferdam::unshared();
    let begun = Begun::start(&cofferdam, &["--scratch", "disk"]);
    let journal = begun.journal();
    let device = fs::read_dir("/sys/block").expect("devices").find_map(|entry| {
        let entry = entry.expect("a device");
        let file = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
        Path::new(&file).starts_with(&journal).then(|| entry.file_name())
    });
    let device = device.expect("a loop device").into_string().expect("a name");
    let held = File::open(Path::new("/dev").join(&device)).expect("open the device");
    begun.end().expect(70).says(&[&format!("left behind: loop device `{device}`")]);
    let left = gc(&cofferdam, &[])["left"].clone();
    assert!(names(&left, "loop device").contains(&device), "{left}");
    // It detaches itself.
    drop(held);
    let dry = gc(&cofferdam, &["--dry-run"]);
    assert!(!names(&dry["removed"], "loop device").contains(&device), "{dry}");
}

#[test]
fn a_link_with_the_runs_name() {
    needs!(Need::Containers, Need::Root, Need::Program("ip"));
    with_world(|_| {
        let cofferdam = Cofferdam::unshared();
        let begun = Begun::start(&cofferdam, &["--network", "full"]);
        let journal = begun.journal();
        let id = journal.file_name().and_then(|name| name.to_str()).expect("a name");
        let link = format!("cfd000{}", &id[..8]);
        ip(&[&format!("link add {link} type veth peer name other")]);
        begun.end().expect(70).says(&[&format!("left behind: link `{link}`")]);
        let removed = gc(&cofferdam, &[])["removed"].clone();
        assert_eq!(names(&removed, "link"), [link]);
    });
}

/// Nobody is left to clean up: the next start does, and `gc` does so without one.
#[test]
fn killed_together_with_the_spawner() {
    needs!(Need::Containers);
    let _quiet = alone();
    let cofferdam = Cofferdam::unshared();
    cofferdam.script(&[], "true").expect(0);
    let before = Snapshot::take(cofferdam.state());
    for by_start in [true, false] {
        let begun = Begun::start(&cofferdam, &[]);
        let (journal, groups) = (begun.journal(), begun.groups());
        begun.kill_all();
        assert!(journal.exists() && groups.iter().all(|group| group.exists()));
        if by_start {
            cofferdam.script(&[], "true").expect(0);
        } else {
            let removed = gc(&cofferdam, &[])["removed"].clone();
            assert_eq!(names(&removed, "journal"), [journal.display().to_string()]);
        }
        before.expect_again(cofferdam.state());
    }
}

/// A machine on which somebody has removed the state directory of a run that was killed.
#[test]
fn groups_without_a_journal() {
    needs!(Need::Containers);
    let _quiet = alone();
    let (lost, other) = (Cofferdam::unshared(), Cofferdam::unshared());
    let begun = Begun::start(&lost, &[]);
    let groups = begun.groups();
    begun.kill_all();
    fs::remove_dir_all(lost.state().join("instances")).expect("remove the journals");
    let removed = gc(&other, &[])["removed"].clone();
    let removed = names(&removed, "control group");
    for group in groups {
        assert!(removed.contains(&group.display().to_string()), "{removed:?}");
        assert!(!group.exists());
    }
}

/// What the supervisor of a run that was killed sat in carries no run's name: it goes once nobody is in
/// it, nor in the group above, where a run is before it moves there.
#[test]
fn a_supervisors_leaf() {
    needs!(Need::Containers, Need::Root);
    let _quiet = alone();
    let cofferdam = Cofferdam::unshared();
    let tree = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
    let tree = tree.into_iter().find(|it| it.join("cgroup.procs").exists()).expect("a hierarchy");
    let above = tree.join(format!("test-{}-leaf", std::process::id()));
    let leaf = above.join("cofferdam-supervisor");
    fs::create_dir_all(&leaf).expect("make groups");
    let name = leaf.display().to_string();
    for occupied in [&leaf, &above] {
        let mut child = crate::binary::program("sleep").arg("1000").spawn().expect("start sleep");
        fs::write(occupied.join("cgroup.procs"), child.id().to_string()).expect("move");
        let said = gc(&cofferdam, &[]);
        for list in ["removed", "left"] {
            assert!(!names(&said[list], "control group").contains(&name), "{said}");
        }
        assert!(leaf.exists());
        kill(child.id(), Signal::SIGKILL);
        child.wait().expect("wait");
    }
    let dry = gc(&cofferdam, &["--dry-run"])["removed"].clone();
    assert!(names(&dry, "control group").contains(&name) && leaf.exists(), "{dry}");
    let removed = gc(&cofferdam, &[])["removed"].clone();
    assert!(names(&removed, "control group").contains(&name) && !leaf.exists(), "{removed}");
    fs::remove_dir(&above).expect("remove the group above");
}

/// A process of this program's name that hides what it has open (its user may execute and not read
/// it) may be the run whose groups these are: they stay until it has ended.
#[test]
fn what_cannot_be_looked_at_may_be_alive() {
    needs!(Need::Containers, Need::User);
    let _quiet = alone();
    let (lost, other) = (Cofferdam::unshared(), Cofferdam::unshared());
    let begun = Begun::start(&lost, &[]);
    let groups: Vec<String> =
        begun.groups().iter().map(|group| group.display().to_string()).collect();
    begun.kill_all();
    fs::remove_dir_all(lost.state().join("instances")).expect("remove the journals");
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("cofferdam");
    copy_program(which("sleep").expect("sleep"), &program);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o111)).expect("hide");
    let mut hidden = crate::binary::program(&program).arg("1000").spawn().expect("start it");
    // Until it is executed, it is this test's copy.
    while fs::read_dir(format!("/proc/{}/fd", hidden.id())).is_ok() {
        std::thread::yield_now();
    }
    let said = gc(&other, &[]);
    let left = names(&said["left"], "control group");
    assert!(groups.iter().all(|group| left.contains(group)), "{said}");
    assert!(groups.iter().all(|group| Path::new(group).exists()));
    kill(hidden.id(), Signal::SIGKILL);
    hidden.wait().expect("wait");
    let said = gc(&other, &[]);
    let removed = names(&said["removed"], "control group");
    assert!(groups.iter().all(|group| removed.contains(group)), "{said}");
}

/// Whatever state directory `gc` is told.
#[test]
fn nothing_of_a_live_run_is_touched() {
    needs!(Need::Containers);
    let _quiet = alone();
    let (live, other) = (Cofferdam::unshared(), Cofferdam::unshared());
    let begun = Begun::start(&live, &[]);
    let groups = begun.groups();
    for cofferdam in [&live, &other] {
        for flags in [&["--dry-run"][..], &[]] {
            let said = gc(cofferdam, flags)["removed"].clone();
            let said = names(&said, "control group");
            for group in &groups {
                assert!(!said.contains(&group.display().to_string()), "{said:?}");
                assert!(group.exists());
            }
        }
    }
    let ended = begun.end().expect(130);
    assert!(!ended.text().contains("left behind"), "{}", ended.text());
}

/// Trees that are deeper than any path, closed to their owner, and wide: freed with the container,
/// in memory and on disk. `COFFERDAM_HOSTILE_FILES` says how many files (20 000 unless told
/// otherwise; the full proof is a million).
#[test]
fn hostile_trees_go_with_their_container() {
    needs!(Need::Containers, Need::Disk);
    let files = std::env::var("COFFERDAM_HOSTILE_FILES").unwrap_or_else(|_| "20000".to_owned());
    let _quiet = alone();
    let cofferdam = Cofferdam::unshared();
    let script = format!(
        "exec perl -e 'chdir \"/tmp\"; mkdir \"closed\"; mkdir \"closed/in\"; chmod 0, \"closed\"; \
         for (1..{files}) {{ open(F, \">\", \"f$_\") or die \"$_: $!\"; }} \
         for (1..10000) {{ mkdir \"d\" or die $!; chdir \"d\" or die $! }} print \"made\"'"
    );
    for scratch in ["memory", "disk"] {
        let flags = ["--scratch", scratch, "--memory", "4GiB", "--inodes", "1100000"];
        cofferdam.script(&flags, "true").expect(0);
        let before = Snapshot::take(cofferdam.state());
        cofferdam.script(&flags, &script).expect(0).says(&["made"]);
        before.expect_again(cofferdam.state());
    }
}

/// A pipe that is on its way through sockets which nobody will ever read, and which hold each other.
#[test]
fn a_pipe_in_flight_holds_up_nothing() {
    needs!(Need::Containers, Need::Program("python3"));
    let script = "import array, os, socket\n\
        one, two = socket.socketpair()\n\
        rights = array.array('i', [1, 2, one.fileno(), two.fileno()])\n\
        for each in (one, two):\n\
        \x20   each.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])\n\
        print('sent', flush=True)\n\
        os._exit(0)\n";
    let cofferdam = Cofferdam::common();
    cofferdam.run(["exec", "host", "--", "python3", "-c", script]).expect(0).says(&["sent"]);
    let directory = tempfile::tempdir().expect("a directory");
    let script = serde_json::to_string(script).expect("JSON");
    let pipeline = format!("jobs: {{ a: {{ steps: [{{ exec: [python3, -c, {script}] }}] }} }}\n");
    let pipeline = crate::binary::file(directory.path(), "pipeline.yml", pipeline);
    let out = directory.path().join("out");
    let arguments = ["run".as_ref(), pipeline.as_os_str(), "--out".as_ref(), out.as_os_str()];
    cofferdam.run(arguments).expect(0);
}
