//! What a run may leave behind on the host: nothing. A snapshot before, one after, and the difference.
//!
//! Only what can be told to be this instance's is looked at, since other programs of the machine
//! (other instances among them) come and go: processes with the state directory in their environment
//! and all below them, mounts and loop devices that name it, and control groups that nobody owns.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::binary::GRACE;

/// What is there of one state directory's instance, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Looks at the host now.
    pub(crate) fn take(state: &Path) -> Self {
        let mut found = BTreeSet::new();
        found.extend(processes(state));
        found.extend(mounts(state));
        found.extend(loop_devices(state));
        found.extend(control_groups());
        found.extend(files(state));
        Self(found)
    }

    /// As [`Self::take`], in a [`Place`] where everything that is there is the test's own: all mounts,
    /// links, packet filters, loop devices, ranges of ids and notes count.
    pub(crate) fn of_place(state: &Path, _: &Place) -> Self {
        let Self(mut found) = Self::take(state);
        found.extend(lines("mount", "/proc/thread-self/mountinfo"));
        let links = lines("link", "/proc/thread-self/net/dev").into_iter();
        found.extend(links.filter_map(|line| Some(line.split_once(':')?.0.to_owned())));
        found.extend(packet_filters());
        found.extend(lines("ip_forward", "/proc/sys/net/ipv4/ip_forward"));
        found.extend(id_ranges());
        let notes = fs::read_dir(SHARED).into_iter().flatten().filter_map(Result::ok);
        found.extend(notes.map(|note| format!("file {}", note.path().display())));
        Self(found)
    }

    /// Whether anything of a kind ("process", "mount", …) is there.
    pub(crate) fn names(&self, kind: &str) -> bool {
        self.0.iter().any(|line| line.starts_with(kind))
    }

    /// Asserts that the host comes back to this state within the grace.
    #[track_caller]
    pub(crate) fn expect_again(&self, state: &Path) {
        self.expect_again_of(|| Self::take(state));
    }

    /// As [`Self::expect_again`], for what `take` sees.
    #[track_caller]
    pub(crate) fn expect_again_of(&self, take: impl Fn() -> Self) {
        let deadline = Instant::now() + GRACE;
        loop {
            let now = take();
            let left: Vec<_> = now.0.difference(&self.0).collect();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left behind: {left:#?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Where root's runs keep what all of the machine share.
const SHARED: &str = "/run/cofferdam";

/// A network and a mount namespace of this thread's own, with a [`SHARED`] of its own: whatever is in
/// them was made by the test or by what it has started.
#[derive(Debug)]
pub(crate) struct Place(());

impl Place {
    /// Moves this thread, and those that it starts from now on, into a new one; needs root.
    pub(crate) fn enter() -> Self {
        use nix::{
            mount::{MsFlags, mount},
            sched::{CloneFlags, unshare},
        };
        let none = None::<&str>;
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("new namespaces");
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .expect("private mounts");
        fs::create_dir_all(SHARED).expect("the shared directory");
        mount(Some("tmpfs"), SHARED, Some("tmpfs"), MsFlags::empty(), none).expect("mount a tmpfs");
        crate::world::ip(&["link set lo up"]);
        Self(())
    }
}

fn lines(kind: &str, path: &str) -> Vec<String> {
    let text = fs::read_to_string(path).expect("a list of the kernel's");
    text.lines().map(|line| format!("{kind} {}", line.trim())).collect()
}

fn packet_filters() -> Vec<String> {
    let output = crate::binary::program("nft").args(["list", "tables"]).output().expect("run nft");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tables = String::from_utf8_lossy(&output.stdout).into_owned();
    tables.lines().map(|line| format!("packet filter {line}")).collect()
}

/// Ranges of ids that somebody has locked (proc_locks(5)).
fn id_ranges() -> Vec<String> {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(file) = fs::metadata(Path::new(SHARED).join("ids.lock")) else { return Vec::new() };
    let (major, minor) = (nix::libc::major(file.dev()), nix::libc::minor(file.dev()));
    let file = format!("{major:02x}:{minor:02x}:{}", file.ino());
    let locks = fs::read_to_string("/proc/locks").expect("/proc/locks");
    let of_ranges = locks.lines().filter(|line| line.split_whitespace().any(|it| it == file));
    of_ranges.map(|line| format!("id range {line}")).collect()
}

fn processes(state: &Path) -> Vec<String> {
    let all = process_table();
    let marked = |pid: u32| {
        fs::read(format!("/proc/{pid}/environ")).is_ok_and(|text| {
            memchr::memmem::find(&text, state.as_os_str().as_encoded_bytes()).is_some()
        })
    };
    let mut ours: BTreeSet<u32> = all.keys().copied().filter(|pid| marked(*pid)).collect();
    loop {
        let below = all.iter().filter(|(_, process)| ours.contains(&process.parent));
        let more: Vec<u32> = below.map(|(pid, _)| *pid).filter(|pid| !ours.contains(pid)).collect();
        if more.is_empty() {
            break;
        }
        ours.extend(more);
    }
    ours.iter().map(|pid| format!("process {pid} {}", all[pid].name)).collect()
}

/// The processes that a process has started and that are still there.
pub(crate) fn children(of: u32) -> Vec<u32> {
    let all = process_table();
    all.iter().filter(|(_, process)| process.parent == of).map(|(pid, _)| *pid).collect()
}

/// Waits until these processes, which are not the test's own to wait for, have ended.
#[track_caller]
pub(crate) fn await_end(processes: &[u32]) {
    let deadline = Instant::now() + GRACE;
    for pid in processes {
        while Path::new(&format!("/proc/{pid}")).exists() {
            assert!(Instant::now() < deadline, "process {pid} does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

struct Process {
    parent: u32,
    name: String,
}

fn process_table() -> BTreeMap<u32, Process> {
    let entries = fs::read_dir("/proc").expect("list /proc").filter_map(Result::ok);
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            let field =
                |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let parent = field("PPid:")?.parse().ok()?;
            Some((pid, Process { parent, name: field("Name:")?.to_owned() }))
        })
        .collect()
}

fn mounts(state: &Path) -> Vec<String> {
    let state = state.to_string_lossy();
    fs::read_to_string("/proc/self/mountinfo")
        .expect("mountinfo")
        .lines()
        .filter(|line| line.contains(&*state))
        .map(|line| format!("mount {line}"))
        .collect()
}

fn loop_devices(state: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/block") else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| fs::read_to_string(entry.path().join("loop/backing_file")).ok())
        .filter(|file| Path::new(file.trim()).starts_with(state))
        .map(|file| format!("loop device of {}", file.trim()))
        .collect()
}

/// Groups of an instance that is gone: nothing lives in them, or only what lost its parent.
fn control_groups() -> Vec<String> {
    let all = process_table();
    let orphaned = |pid: &u32| all.get(pid).is_none_or(|process| process.parent == 1);
    directories_below(Path::new("/sys/fs/cgroup"))
        .into_iter()
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("cofferdam-"))
        })
        .filter(|path| members(path).iter().all(orphaned))
        .map(|path| format!("control group {}", path.display()))
        .collect()
}

/// The processes in a group and below it.
fn members(group: &Path) -> Vec<u32> {
    let mut groups = directories_below(group);
    groups.push(group.to_owned());
    groups
        .iter()
        .filter_map(|group| fs::read_to_string(group.join("cgroup.procs")).ok())
        .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn directories_below(top: &Path) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![top.to_owned()]);
    while let Some(directory) = left.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        let below: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        found.extend(below.iter().cloned());
        left.extend(below);
    }
    found
}

/// Whether this is kept on purpose: prepared file systems, named by version, bytes and inodes.
fn is_kept(path: &Path) -> bool {
    let names: Vec<_> = path.iter().rev().take(2).map(|it| it.to_string_lossy()).collect();
    let numbers = |name: &str| {
        name.split('-').count() == 3 && name.split('-').all(|part| part.parse::<u64>().is_ok())
    };
    names[0] == "scratch" || (names[1] == "scratch" && numbers(&names[0]))
}

/// Directories and files below the state directory, two levels deep.
fn files(state: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(state).into_iter().flatten().filter_map(Result::ok) {
        if !is_kept(&entry.path()) {
            found.push(format!("file {}", entry.path().display()));
        }
        for below in fs::read_dir(entry.path()).into_iter().flatten().filter_map(Result::ok) {
            if !is_kept(&below.path()) {
                found.push(format!("file {}", below.path().display()));
            }
        }
    }
    found
}
