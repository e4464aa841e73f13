//! Which runs are alive: those whose journal some process of this machine has open.
//!
//! Runner and spawner hold their journal's directory locked from before they make anything until
//! after they have removed everything, whatever its state directory is. The lock of a journal that
//! nobody can find any more, because its state directory is gone, still shows here.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use nix::unistd::geteuid;

use crate::{cgroup, ids::is_root, journal};

/// What a runner, unless somebody has named it otherwise, and its spawner are called.
const NAME: &str = "cofferdam";

/// Who is alive.
#[derive(Debug, Default)]
pub(super) struct Alive {
    /// The names of the runs that are.
    pub(super) instances: BTreeSet<String>,
    /// A process whose descriptors cannot be seen, and that so may be any run's.
    pub(super) unseen: Option<String>,
}

/// The runs whose journal a process of this user has open; root's are everyone's. Those of others
/// are not this user's to clean up after.
pub(super) fn look() -> Alive {
    let mut alive = Alive::default();
    let list = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    for process in list.map(|entry| entry.path()) {
        let Some(pid) = process.file_name().and_then(|it| it.to_str()?.parse::<u32>().ok()) else {
            continue;
        };
        match journals_of(&process) {
            Ok(instances) => alive.instances.extend(instances),
            Err(error) if has_gone(&error) => {}
            Err(_) if may_hold_a_journal(&process).unwrap_or_else(|error| !has_gone(&error)) => {
                alive.unseen = Some(pid.to_string());
            }
            Err(_) => {}
        }
    }
    alive
}

/// The runs whose journal a process has open.
fn journals_of(process: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for descriptor in fs::read_dir(process.join("fd"))? {
        let path = match fs::read_link(descriptor?.path()) {
            Err(error) if has_gone(&error) => continue,
            // In a deep tree that is just being removed; a journal's path is none such.
            Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => continue,
            other => other?,
        };
        // As the kernel marks what was removed while it is open (proc_pid_fd(5)).
        let name = path.to_string_lossy();
        let name = Path::new(name.strip_suffix(" (deleted)").unwrap_or(&name));
        found.extend(journal::instance_of(name).map(str::to_owned));
    }
    Ok(found)
}

/// Whether a process whose descriptors are hidden may be a runner or a spawner: it has this program's
/// name, and is no container's. There are always some that are neither, such as those of a session
/// or, where this is root with less than all capabilities, those with more. Containers' processes
/// hold no journal.
fn may_hold_a_journal(process: &Path) -> io::Result<bool> {
    let status = fs::read_to_string(process.join("status"))?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if field("State:").is_some_and(|state| state.starts_with(['Z', 'X'])) {
        return Ok(false);
    }
    if cgroup::is_in_an_instance(&fs::read_to_string(process.join("cgroup"))?) {
        return Ok(false);
    }
    let user = geteuid();
    let is_ours = field("Uid:").and_then(|ids| ids.split_whitespace().next()?.parse().ok())
        == Some(user.as_raw());
    let own = fs::read_to_string("/proc/self/comm").unwrap_or_default();
    let is_named_so = field("Name:").is_some_and(|it| it.starts_with(NAME) || it == own.trim());
    Ok((is_root() || is_ours) && is_named_so)
}

/// A process ends whenever it likes.
fn has_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// The number of the machine's first process namespace (`PID_NS_INIT_INO` of linux/nsfs.h).
const FIRST_NAMESPACE: u64 = 0xefff_fffc;

/// Whether `/proc` shows all processes of this machine: in a namespace of its own, as in a container
/// that shares control groups or the network with its host, the host's runs cannot be seen.
pub(super) fn sees_all() -> bool {
    fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() == FIRST_NAMESPACE)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use nix::{
        fcntl::{OFlag, openat},
        sys::stat::{Mode, mkdirat},
    };

    use super::*;
    use crate::journal::Journal;

    #[test]
    fn a_run_is_alive_while_its_journal_is_open() {
        let state = tempfile::tempdir().unwrap();
        let journal = Journal::create(state.path()).unwrap();
        let id = journal.id().to_owned();
        // Also when nobody can find it any more.
        fs::remove_dir_all(journal.directory()).unwrap();
        assert!(look().instances.contains(&id));
        drop(journal);
        assert!(!look().instances.contains(&id));
    }

    /// As a run has it open while it removes one.
    #[test]
    fn a_deep_directory_hides_no_journal() {
        let state = tempfile::tempdir().unwrap();
        let journal = Journal::create(state.path()).unwrap();
        let name = "d".repeat(255);
        let mut deepest = File::open(state.path()).unwrap();
        for _ in 0..20 {
            mkdirat(&deepest, name.as_str(), Mode::S_IRWXU).unwrap();
            let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            deepest = openat(&deepest, name.as_str(), flags, Mode::empty()).unwrap().into();
        }
        assert!(look().instances.contains(journal.id()));
    }
}
