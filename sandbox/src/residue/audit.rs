//! The look around after a run: is anything of it still there?
//!
//! It costs a few hundred microseconds: what a run has not used is not looked for, and all lists are
//! short. The kernel takes some things back a little after their last user has gone (the links of a
//! network namespace, a loop device that somebody else has just looked at): these are waited for,
//! and only when time is up they count as left behind.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{Kind, Residue, mounts};
use crate::{
    cgroup, journal::Entry, kernel_file, network, scratch, spawner::Started, sys::readiness,
};

/// How long all that the kernel takes back by itself is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at what tells nobody when it goes.
const PAUSE: Duration = Duration::from_millis(5);

/// What a run has used of what no journal names, as far as it must be looked for afterwards.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    overlays: Mutex<Vec<(u32, u32)>>,
    loop_devices: AtomicBool,
}

/// A run that was taken down, as it is to be looked for.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    /// Its name.
    pub(crate) id: &'a str,
    /// Where its journal was.
    pub(crate) journal: &'a Path,
    /// Why that is still there.
    pub(crate) not_undone: Option<String>,
    /// What its journal named.
    pub(crate) entries: &'a [Entry],
    /// What its spawner has started and was not seen to end: the inits of its containers, and without
    /// root the keeper of their networks and the program that carries their packets.
    pub(crate) started: Vec<Started>,
    /// The ranges of ids that were not given back.
    pub(crate) ids: Vec<u32>,
}

impl Trail {
    /// A container's overlay is on the device with this number.
    pub(crate) fn has_overlay(&self, device: libc::dev_t) {
        let number = (libc::major(device), libc::minor(device));
        self.overlays.lock().unwrap_or_else(PoisonError::into_inner).push(number);
    }

    /// A container's files are on a loop device.
    pub(crate) fn has_loop_device(&self) {
        self.loop_devices.store(true, Ordering::Relaxed);
    }

    /// What this process still has of its containers, once they are gone: descriptors and mounts.
    /// `journal` is where the run's journal is, or was.
    pub(crate) fn audit_own(&self, journal: &Path) -> Vec<Residue> {
        let mut found = own_descriptors();
        let overlays = self.overlays.lock().unwrap_or_else(PoisonError::into_inner);
        found.extend(mounts_left(&overlays, journal));
        found
    }

    /// Everything else that is still there. What cannot be looked at counts as there.
    pub(crate) fn audit(self, ended: Ended<'_>) -> Vec<Residue> {
        let deadline = Instant::now() + PATIENCE;
        let mut found = Vec::new();
        found.extend(processes(ended.started, deadline));
        for entry in ended.entries {
            found.extend(entry_left(entry, ended.id, deadline));
        }
        if self.loop_devices.into_inner() {
            found.extend(loop_devices(ended.journal, deadline));
        }
        found.extend(ended.ids.iter().map(|range| Residue::new(Kind::IdRange, range.to_string())));
        if ended.journal.exists() || ended.not_undone.is_some() {
            let why = ended.not_undone;
            found.push(Residue { why, ..Residue::new(Kind::Journal, path(ended.journal)) });
        }
        found
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// What cannot be seen, as if it were there.
pub(super) fn unseen(kind: Kind, name: impl Into<String>, error: &io::Error) -> Residue {
    Residue::new(kind, name).because(format!("it cannot be looked at: {error}"))
}

/// A pidfd is readable when the process and all others of its namespace have ended.
fn processes(started: Vec<Started>, deadline: Instant) -> Vec<Residue> {
    started
        .into_iter()
        .filter_map(|Started { what, pid, pidfd }| match readiness::wait(&pidfd, deadline) {
            Ok(true) => None,
            Ok(false) => Some(
                Residue::new(Kind::Process, pid.to_string())
                    .because(format!("{what}; it cannot be killed")),
            ),
            Err(error) => Some(unseen(Kind::Process, pid.to_string(), &error)),
        })
        .collect()
}

fn entry_left(entry: &Entry, id: &str, deadline: Instant) -> Vec<Residue> {
    match entry {
        Entry::ControlGroups(directories) => groups(directories),
        Entry::Network { table, forwarding } => {
            let mut found = Vec::new();
            match network::links_left(id, deadline) {
                Ok(links) => {
                    found.extend(links.into_iter().map(|name| Residue::new(Kind::Link, name)));
                }
                Err(error) => found.push(unseen(Kind::Link, id, &error)),
            }
            match network::tables() {
                Ok(tables) if tables.contains(table) => {
                    found.push(Residue::new(Kind::PacketFilter, table));
                }
                Ok(_) => {}
                Err(error) => found.push(unseen(Kind::PacketFilter, table, &error)),
            }
            let name = path(forwarding);
            match network::is_forwarding_left(forwarding) {
                Ok(true) => found.push(Residue::new(Kind::Forwarding, name)),
                Ok(false) => {}
                Err(error) => found.push(unseen(Kind::Forwarding, name, &error)),
            }
            found
        }
    }
}

fn groups(directories: &[PathBuf]) -> Vec<Residue> {
    let there = directories.iter().filter(|directory| directory.exists());
    there.map(|directory| group(directory)).collect()
}

/// A control group, and who is in it.
pub(super) fn group(directory: &Path) -> Residue {
    let residue = Residue::new(Kind::ControlGroup, path(directory));
    match cgroup::processes_below(directory) {
        Ok(processes) if processes.is_empty() => residue,
        Ok(processes) => {
            let list: Vec<String> = processes.iter().take(8).map(ToString::to_string).collect();
            residue.because(format!("processes in it: {}", list.join(", ")))
        }
        Err(error) => residue.because(crate::with_causes(&error)),
    }
}

/// Namespaces of containers that this process itself keeps by a descriptor.
fn own_descriptors() -> Vec<Residue> {
    let list = match fs::read_dir("/proc/self/fd") {
        Ok(list) => list,
        Err(error) => return vec![unseen(Kind::Namespace, "/proc/self/fd", &error)],
    };
    let targets = list.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let kinds = ["cgroup:[", "ipc:[", "mnt:[", "net:[", "pid:[", "user:[", "uts:["];
    targets
        .map(|target| target.to_string_lossy().into_owned())
        .filter(|target| kinds.iter().any(|kind| target.starts_with(kind)))
        .map(|target| Residue::new(Kind::Namespace, target).because("a descriptor is open"))
        .collect()
}

fn mounts_left(overlays: &[(u32, u32)], journal: &Path) -> Vec<Residue> {
    match kernel_file::read_bytes("/proc/self/mountinfo") {
        Ok(table) => mounts::of_run(&String::from_utf8_lossy(&table), overlays, journal)
            .into_iter()
            .map(|point| Residue::new(Kind::Mount, point))
            .collect(),
        Err(error) => vec![unseen(Kind::Mount, "/proc/self/mountinfo", &error)],
    }
}

/// Loop devices whose file was made beside the run's journal.
fn loop_devices(journal: &Path, deadline: Instant) -> Vec<Residue> {
    loop {
        let mut left = match scratch::loop_devices() {
            Ok(left) => left,
            Err(error) => return vec![unseen(Kind::LoopDevice, "/sys/block", &error)],
        };
        left.retain(|(_, file)| file.starts_with(journal));
        if left.is_empty() || Instant::now() >= deadline {
            let residue = |(name, _)| Residue::new(Kind::LoopDevice, name);
            return left.into_iter().map(residue).collect();
        }
        // Whoever has it open, such as udev, has not done anything wrong.
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A pipe that somebody still writes to stands for a process that has not ended: neither is
    /// readable.
    #[test]
    fn what_was_started_and_still_runs_is_told_with_what_it_is() {
        let program = "`pasta`, which carries the containers' packets";
        let (reading, mut writing) = io::pipe().unwrap();
        let started = |pidfd: &io::PipeReader| {
            let pidfd = pidfd.try_clone().unwrap().into();
            vec![Started { what: program, pid: 7, pidfd }]
        };
        let found = processes(started(&reading), Instant::now());
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(told, [format!("process `7`: {program}; it cannot be killed")]);
        writing.write_all(b"x").unwrap();
        assert_eq!(processes(started(&reading), Instant::now()), []);
    }

    /// A range that was not given back, and a namespace that is still open: neither can come from
    /// outside of the process that audits.
    #[test]
    fn what_this_process_itself_keeps_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let ranges = crate::ids::range::IdRanges::open(directory.path()).unwrap();
        let network = fs::File::open("/proc/self/ns/net").unwrap();
        let name = fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
        let audit = || {
            let journal = &directory.path().join("instances/0123456789ab");
            let ids = ranges.held();
            let ended = Ended {
                id: "0123456789ab",
                journal,
                not_undone: None,
                entries: &[],
                started: Vec::new(),
                ids,
            };
            let trail = Trail::default();
            let own = trail.audit_own(journal);
            [own, trail.audit(ended)].concat()
        };
        let range = ranges.acquire().unwrap();
        let told: Vec<String> = audit().iter().map(ToString::to_string).collect();
        let id_range = format!("id range `{}`", range.number());
        assert!(told.contains(&id_range), "{told:?}");
        assert!(told.contains(&format!("namespace `{name}`: a descriptor is open")), "{told:?}");
        drop((range, network));
        let told = audit();
        assert!(told.iter().all(|residue| residue.kind != Kind::IdRange), "{told:?}");
    }
}
