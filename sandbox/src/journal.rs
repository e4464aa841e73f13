//! The journal of one process that runs containers: what it makes is named before it is made.
//!
//! A journal is a directory `instances/ID` of the state directory, locked by its runner and
//! its spawner, and a file with a line per resource. Teardown on the ordinary path removes
//! the resources and then the journal; whatever else happens, the spawner or the next start finds
//! the journal and undoes it from its last line to its first.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::{
    cgroup,
    error::{Doing as _, Error, Result, with_causes},
    network, scratch,
};

/// Directory of all journals, below the state directory.
const INSTANCES: &str = "instances";
/// The file with the entries.
const ENTRIES: &str = "journal";
/// The file that says why a journal could not be undone.
const STUCK: &str = "stuck";
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
    /// As they are in the file.
    entries: Mutex<Vec<Entry>>,
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
                    return Ok(Self { id, directory, lock, entries: Mutex::default() });
                }
                // Whoever has it looks for abandoned ones; it is gone, or of no use to anyone.
                fs::remove_dir(&directory).ok();
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
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry.clone());
        append().map_err(|error| {
            let doing = format!("write the journal `{}`", self.directory.display());
            Error::system(doing, error).remedy(
                "make room in the state directory, or choose another with `--state` or the \
                 variable COFFERDAM_STATE",
            )
        })
    }

    /// What was recorded so far.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Undoes what is left, and removes the journal.
    pub(crate) fn finish(self) -> Result<()> {
        undo_or_note(&self.directory)
    }
}

/// Undoes everything that the journal in `directory` names, and removes it. What cannot be undone
/// holds up nothing else that it names; the journal stays then.
///
/// The caller holds its lock, or is a copy of the process that did.
pub(crate) fn undo(directory: &Path) -> Result<()> {
    let mut failed: Vec<String> = Vec::new();
    for entry in read(directory)?.iter().rev() {
        failed.extend(entry.undo().err().map(|error| with_causes(&error)));
    }
    // They lie beside it, so nothing else names them.
    failed.extend(scratch::remove_projects(directory).err().map(|error| with_causes(&error)));
    let doing = || format!("undo the journal `{}`", directory.display());
    if !failed.is_empty() {
        return Err(Error::system(doing(), failed.join("; ")));
    }
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
    .system(doing)
}

impl Entry {
    fn undo(&self) -> Result<()> {
        match self {
            Self::ControlGroups(directories) => cgroup::remove_groups(directories),
            Self::Network { table, forwarding } => network::remove_table(table)
                .and_then(|()| network::release_forwarding(forwarding))
                .system(|| format!("remove the packet filter `{table}`")),
        }
    }
}

fn read(directory: &Path) -> Result<Vec<Entry>> {
    let path = directory.join(ENTRIES);
    let doing = || format!("read the journal `{}`", path.display());
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.system(doing)?,
    };
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text).system(doing)?;
    // A line that a crash of the machine cut short names nothing that was made.
    let lines = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    lines
        .map(|line| {
            serde_json::from_slice(line).system(doing).map_err(|error| {
                error.remedy("run `cofferdam gc` of the version that wrote it, or a newer one")
            })
        })
        .collect()
}

/// A journal whose runner and spawner are both gone, held while this lives.
#[derive(Debug)]
pub(crate) struct Abandoned {
    directory: PathBuf,
    /// Why it could not be undone before.
    stuck: Option<String>,
    #[expect(dead_code, reason = "nobody else undoes it while it is held")]
    lock: Flock<File>,
}

impl Abandoned {
    /// Where it is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Why it could not be undone before; `None` when that was not tried.
    pub(crate) fn stuck(&self) -> Option<&str> {
        self.stuck.as_deref()
    }

    /// Undoes it. Where that fails, it notes why, so that no start waits for the same thing again.
    pub(crate) fn undo(&self) -> Result<()> {
        undo_or_note(&self.directory)
    }
}

fn undo_or_note(directory: &Path) -> Result<()> {
    undo(directory).inspect_err(|error| {
        if let Err(error) = fs::write(directory.join(STUCK), with_causes(error)) {
            tracing::debug!(%error, "cannot note that a journal cannot be undone");
        }
    })
}

/// The journals below `state` that nobody works on any more.
pub(crate) fn abandoned(state: &Path) -> Result<Vec<Abandoned>> {
    let parent = state.join(INSTANCES);
    let doing = || format!("list the journals in `{}`", parent.display());
    let list = match fs::read_dir(&parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.system(doing)?,
    };
    let mut found = Vec::new();
    for directory in list {
        let directory = directory.system(doing)?.path();
        match try_lock(&directory) {
            Ok(Some(lock)) => {
                let stuck = fs::read_to_string(directory.join(STUCK)).ok();
                found.push(Abandoned { directory, stuck, lock });
            }
            Ok(None) => {}
            // Not this user's, then.
            Err(error) => {
                tracing::warn!(%error, "cannot lock `{}`", directory.display());
            }
        }
    }
    Ok(found)
}

/// Undoes the journals below `state` whose runner and spawner are both gone; returns how many. One
/// that cannot be undone is told of and passed over: it is no reason to start nothing any more.
pub(crate) fn recover(state: &Path) -> Result<usize> {
    let (mut undone, mut stuck) = (0, 0);
    for journal in abandoned(state)? {
        if journal.stuck().is_some() {
            stuck += 1;
            continue;
        }
        match journal.undo() {
            Ok(()) => undone += 1,
            Err(error) => {
                tracing::warn!("{}", with_causes(&error));
                stuck += 1;
            }
        }
    }
    if stuck > 0 {
        tracing::warn!(
            "of {stuck} earlier runs something is left: `cofferdam doctor` says what, \
             `cofferdam gc` tries again to remove it"
        );
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

/// Whether `text` could be the name of an instance.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The instance whose journal's directory is `path`, or holds it.
pub(crate) fn instance_of(path: &Path) -> Option<&str> {
    path.ancestors().find_map(|directory| {
        let id = directory.file_name()?.to_str().filter(|name| is_id(name))?;
        (directory.parent()?.file_name()? == INSTANCES).then_some(id)
    })
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

    /// What it names is no control group, so it cannot be undone; one beside it can.
    #[test]
    fn one_that_cannot_be_undone_holds_up_no_other_and_is_tried_once() {
        let state = tempfile::tempdir().unwrap();
        let foreign = state.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        let [stuck, good] = [foreign.clone(), "/sys/fs/cgroup/none-such-0".into()].map(|path| {
            let journal = Journal::create(state.path()).unwrap();
            journal.record(&Entry::ControlGroups(vec![path])).unwrap();
            journal.directory().to_owned()
        });
        assert_eq!(recover(state.path()).unwrap(), 1);
        assert!(foreign.exists() && stuck.exists() && !good.exists());
        let why = |journals: &[Abandoned]| journals[0].stuck().unwrap().to_owned();
        assert!(why(&abandoned(state.path()).unwrap()).contains("no directory of a cgroup"));
        // Tried once: now it could be undone, and only who asks for it does so.
        fs::remove_dir(&foreign).unwrap();
        assert_eq!(recover(state.path()).unwrap(), 0);
        abandoned(state.path()).unwrap()[0].undo().unwrap();
        assert!(abandoned(state.path()).unwrap().is_empty());
    }

    #[test]
    fn instances_are_told_by_their_journals() {
        let state = tempfile::tempdir().unwrap();
        let journal = Journal::create(state.path()).unwrap();
        assert!(is_id(journal.id()));
        let file = journal.directory().join("#12 (deleted)");
        for path in [journal.directory(), &file] {
            assert_eq!(instance_of(path), Some(journal.id()));
        }
        for path in ["/x/instances", "/x/0123456789ab", "/x/instances/0123456789AB", "/"] {
            assert_eq!(instance_of(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn what_another_version_wrote_is_not_dropped() {
        let state = tempfile::tempdir().unwrap();
        let journal = Journal::create(state.path()).unwrap();
        let path = journal.directory().join(ENTRIES);
        fs::write(path, "{\"Satellite\":\"x\"}\n").unwrap();
        let error = undo(journal.directory()).unwrap_err();
        assert!(error.remedy_text().is_some() && journal.directory().exists());
    }
}
