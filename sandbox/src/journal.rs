//! The journal of one process that runs containers: what it makes is named before it is made.
//!
//! A journal is a directory `instances/ID` of the state directory, locked by its runner and
//! its spawner, and a file with a line per resource. Teardown on the ordinary path removes
//! the resources and then the journal; whatever else happens, the spawner or the next start finds
//! the journal and undoes it from its last line to its first.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::{
    cgroup,
    error::{Doing as _, Error, Result},
    network,
};

/// Directory of all journals, below the state directory.
const INSTANCES: &str = "instances";
/// The file with the entries.
const ENTRIES: &str = "journal";
/// Largest journal that is read back, in bytes.
const LARGEST: u64 = 64 * 1024 * 1024;

/// A resource that outlives its process unless it is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// Control groups, with all that is in and below them.
    ControlGroups(Vec<PathBuf>),
    /// The packet filter of the containers' networks, and the note that says that packets pass.
    Network {
        /// The table's name.
        table: String,
        /// The machine-wide note.
        forwarding: PathBuf,
    },
}

/// The journal of this process.
#[derive(Debug)]
pub(crate) struct Journal {
    id: String,
    directory: PathBuf,
    lock: Flock<File>,
}

impl Journal {
    /// Starts a journal below the state directory `state`.
    pub(crate) fn create(state: &Path) -> Result<Self> {
        let parent = state.join(INSTANCES);
        let create = || -> io::Result<Self> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&parent)?;
            loop {
                let id = random_id()?;
                let directory = parent.join(&id);
                fs::DirBuilder::new().mode(0o700).create(&directory)?;
                if let Some(lock) = try_lock(&directory)? {
                    return Ok(Self { id, directory, lock });
                }
            }
        };
        create().map_err(|error| {
            Error::system(format!("create a journal in `{}`", parent.display()), error).remedy(
                "choose a writable state directory with `--state` or the variable COFFERDAM_STATE",
            )
        })
    }

    /// Name of this instance, unique on the machine.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Where the journal is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The locked file, to be shared with the spawner.
    pub(crate) fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Names a resource that is about to be made.
    pub(crate) fn record(&self, entry: &Entry) -> Result<()> {
        let append = || {
            let mut line = serde_json::to_vec(entry)?;
            line.push(b'\n');
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(self.directory.join(ENTRIES))?
                .write_all(&line)
        };
        append().map_err(|error| {
            let doing = format!("write the journal `{}`", self.directory.display());
            Error::system(doing, error).remedy(
                "make room in the state directory, or choose another with `--state` or the \
                 variable COFFERDAM_STATE",
            )
        })
    }

    /// Undoes what is left, and removes the journal.
    pub(crate) fn finish(self) -> Result<()> {
        undo(&self.directory)
    }
}

/// Undoes everything that the journal in `directory` names, and removes it.
///
/// The caller holds its lock, or is a copy of the process that did.
pub(crate) fn undo(directory: &Path) -> Result<()> {
    for entry in read(directory)?.into_iter().rev() {
        match entry {
            Entry::ControlGroups(directories) => cgroup::remove_groups(&directories)?,
            Entry::Network { table, forwarding } => {
                network::remove_table(&table)
                    .and_then(|()| network::release_forwarding(&forwarding))
                    .system(|| format!("remove the packet filter `{table}`"))?;
            }
        }
    }
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
    .system(|| format!("remove the journal `{}`", directory.display()))
}

fn read(directory: &Path) -> Result<Vec<Entry>> {
    let path = directory.join(ENTRIES);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.system(|| format!("open the journal `{}`", path.display()))?,
    };
    let mut entries = Vec::new();
    for line in BufReader::new(file.take(LARGEST)).lines() {
        let line = line.system(|| format!("read the journal `{}`", path.display()))?;
        // A line that a crash of the machine cut short names nothing that was made.
        if let Ok(entry) = serde_json::from_str(&line) {
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// Undoes the journals below `state` whose runner and spawner are both gone; returns how many.
pub(crate) fn recover(state: &Path) -> Result<usize> {
    let parent = state.join(INSTANCES);
    let list = match fs::read_dir(&parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other.system(|| format!("list the journals in `{}`", parent.display()))?,
    };
    let mut undone = 0;
    for directory in list {
        let directory = directory.system(|| format!("list `{}`", parent.display()))?.path();
        let lock = try_lock(&directory).system(|| format!("lock `{}`", directory.display()))?;
        let Some(lock) = lock else { continue };
        undo(&directory)?;
        drop(lock);
        undone += 1;
    }
    Ok(undone)
}

/// Locks a journal's directory; `None` where somebody else has it, or has removed it.
///
/// The directory itself is locked and no file in it, so that there is no moment in which it exists
/// and could not be told to be abandoned. Between its making and its locking, a start that clears up
/// may take it: the maker then finds it gone and makes another.
fn try_lock(directory: &Path) -> io::Result<Option<Flock<File>>> {
    let handle = match File::open(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    match Flock::lock(handle, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(directory.exists().then_some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error.into()),
    }
}

fn random_id() -> io::Result<String> {
    let mut bytes = [0; 6];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_in_use_is_left_alone_and_an_abandoned_one_is_undone() {
        let state = tempfile::tempdir().unwrap();
        let journal = Journal::create(state.path()).unwrap();
        let directory = journal.directory().to_owned();
        assert_eq!(recover(state.path()).unwrap(), 0);
        assert!(directory.exists());
        drop(journal);
        assert_eq!(recover(state.path()).unwrap(), 1);
        assert!(!directory.exists());
    }

    #[test]
    fn entries_survive_and_a_torn_line_is_nothing() {
        let state = tempfile::tempdir().unwrap();
        let journal = Journal::create(state.path()).unwrap();
        let entry = Entry::ControlGroups(vec!["/sys/fs/cgroup/none-such-0".into()]);
        journal.record(&entry).unwrap();
        let path = journal.directory().join(ENTRIES);
        OpenOptions::new().append(true).open(path).unwrap().write_all(b"{\"Control").unwrap();
        assert_eq!(read(journal.directory()).unwrap(), [entry]);
    }
}
