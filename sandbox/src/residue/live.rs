//! Which runs are alive: those whose journal some process of this machine has open.
//!
//! Runner and spawner hold their journal's directory locked from before they make anything until
//! after they have removed everything, whatever its state directory is. The lock of a journal that
//! nobody can find any more, because its state directory is gone, still shows here.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt as _, path::Path};

use crate::journal;

/// The names of all runs that are alive, as far as this process may look: root sees all, others
/// their own, which are the only ones that they can clean up after.
pub(super) fn instances() -> BTreeSet<String> {
    let list = |path: &Path| fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    list(Path::new("/proc"))
        .filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit))
        .flat_map(|process| list(&process.path().join("fd")))
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .filter_map(|path| {
            // As the kernel marks what was removed while it is open (proc_pid_fd(5)).
            let name = path.to_str()?;
            let path = Path::new(name.strip_suffix(" (deleted)").unwrap_or(name));
            journal::instance_of(path).map(str::to_owned)
        })
        .collect()
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
    use super::*;
    use crate::journal::Journal;

    #[test]
    fn a_run_is_alive_while_its_journal_is_open() {
        let state = tempfile::tempdir().unwrap();
        let journal = Journal::create(state.path()).unwrap();
        let id = journal.id().to_owned();
        // Also when nobody can find it any more.
        fs::remove_dir_all(journal.directory()).unwrap();
        assert!(instances().contains(&id));
        drop(journal);
        assert!(!instances().contains(&id));
    }
}
