//! Whether this host passes packets on (`net.ipv4.ip_forward`): on while a container has a network.
//!
//! The setting is the whole host's. Where it was off, a file of the machine says that Cofferdam has
//! turned it on, and every run that needs it holds a shared lock on that file. The last run to end,
//! or the next start after a crash, takes the lock alone and turns it off again. Where it was on
//! already, nothing is changed, then or later.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

use super::identity;
use crate::lock_file;

/// What the names of these files begin with; the number of a network namespace follows.
const PREFIX: &str = "forwarding-";
const SETTING: &str = "/proc/sys/net/ipv4/ip_forward";
/// What the file holds while Cofferdam has turned forwarding on.
const TURNED_ON: &[u8] = b"on\n";

/// Keeps forwarding on.
#[derive(Debug)]
pub(super) struct Forwarding {
    path: PathBuf,
    lock: Option<Flock<File>>,
}

/// The machine-wide file; the setting is a namespace's, and so is the file's name.
pub(super) fn path(directory: &Path) -> io::Result<PathBuf> {
    let namespace = identity::current()?;
    Ok(directory.join(format!("{PREFIX}{namespace}")))
}

/// Whether forwarding is off, or on because Cofferdam has turned it on.
pub(super) fn is_for_containers(path: &Path) -> io::Result<bool> {
    if !is_on()? {
        return Ok(true);
    }
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        other => Ok(other? == TURNED_ON),
    }
}

/// Whether this host passes packets on, for whomever.
pub(super) fn is_on() -> io::Result<bool> {
    Ok(fs::read(SETTING)?.trim_ascii() == b"1")
}

impl Forwarding {
    /// Turns it on, where it is off.
    pub(super) fn hold(path: &Path) -> io::Result<Self> {
        loop {
            let file = lock_file::open(path)?;
            // Alone, so that nobody turns it off between the look and the note.
            let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(alone) => {
                    turn_on(&alone)?;
                    alone.relock(FlockArg::LockShared)?;
                    alone
                }
                // Someone holds it already, so it is on.
                Err((file, nix::errno::Errno::EWOULDBLOCK)) => {
                    Flock::lock(file, FlockArg::LockShared)
                        .map_err(|(_, error)| io::Error::from(error))?
                }
                Err((_, error)) => return Err(error.into()),
            };
            // The holder that was there may have let go in between, and removed the file.
            if lock_file::is_named(&lock, path)? {
                turn_on(&lock)?;
                return Ok(Self { path: path.to_owned(), lock: Some(lock) });
            }
        }
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.lock = None;
        if let Err(error) = release(&self.path) {
            tracing::warn!(%error, "cannot turn forwarding off again");
        }
    }
}

fn turn_on(mut file: &File) -> io::Result<()> {
    if is_on()? {
        return Ok(());
    }
    file.set_len(0)?;
    file.write_all(TURNED_ON)?;
    fs::write(SETTING, b"1")
}

/// Whether the file is there, and nobody holds it.
pub(super) fn is_left(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        // Someone is removing it just now.
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(false),
        Err((_, error)) => Err(error.into()),
        Ok(shared) => match shared.relock(FlockArg::LockExclusiveNonblock) {
            Ok(()) => lock_file::is_named(&shared, path),
            Err(nix::errno::Errno::EWOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        },
    }
}

/// Turns it off again, where Cofferdam has turned it on and no run needs it any more, and removes
/// the file. That of another namespace is removed when that namespace is gone, and the setting with
/// it; while it is there, it is its own runs' to release.
pub(crate) fn release(path: &Path) -> io::Result<()> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let Ok(alone) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { return Ok(()) };
    if !lock_file::is_named(&alone, path)? {
        return Ok(());
    }
    let mut note = Vec::new();
    (&*alone).take(16).read_to_end(&mut note)?;
    if note == TURNED_ON {
        let namespace = namespace_of(path);
        if namespace == Some(identity::current()?) {
            fs::write(SETTING, b"0")?;
        } else if namespace.is_some_and(identity::has_processes) {
            return Ok(());
        }
    }
    // Under the lock, so that whoever has opened it meanwhile sees that it has no name any more.
    fs::remove_file(path)
}

/// The namespace whose setting a file is about.
pub(super) fn namespace_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_goes_with_its_last_holder() {
        let directory = tempfile::tempdir().unwrap();
        // Of a namespace that cannot be, so that this host's setting stays as it is.
        let path = directory.path().join("forwarding-1");
        let held = |note: &[u8]| {
            fs::write(&path, note).unwrap();
            Flock::lock(lock_file::open(&path).unwrap(), FlockArg::LockShared).unwrap()
        };
        for note in [&b""[..], TURNED_ON] {
            let lock = held(note);
            release(&path).unwrap();
            assert!(path.exists(), "it is held");
            drop(lock);
            release(&path).unwrap();
            assert!(!path.exists());
            release(&path).unwrap();
        }
    }

    #[test]
    fn a_file_that_was_removed_is_not_held() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = lock_file::open(&path).unwrap();
        assert!(lock_file::is_named(&first, &path).unwrap());
        fs::remove_file(&path).unwrap();
        assert!(!lock_file::is_named(&first, &path).unwrap());
        let second = lock_file::open(&path).unwrap();
        assert!(!lock_file::is_named(&first, &path).unwrap());
        assert!(lock_file::is_named(&second, &path).unwrap());
    }
}
