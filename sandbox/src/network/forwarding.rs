//! Whether this host passes packets on (`net.ipv4.ip_forward`): on while a container has a network.
//!
//! The setting is the whole host's. Where it was off, a file of the machine says that Cofferdam has
//! turned it on, and every run that needs it holds a shared lock on that file. The last run to end,
//! or the next start after a crash, takes the lock alone and turns it off again. Where it was on
//! already, nothing is changed, then or later.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

use crate::lock_file;

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
    let namespace = fs::metadata("/proc/self/ns/net")?.ino();
    Ok(directory.join(format!("forwarding-{namespace}")))
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

fn is_on() -> io::Result<bool> {
    Ok(fs::read(SETTING)?.trim_ascii() == b"1")
}

impl Forwarding {
    /// Turns it on, where it is off.
    pub(super) fn hold(path: &Path) -> io::Result<Self> {
        let file = lock_file::open(path)?;
        // Alone, so that nobody turns it off between the look and the note.
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(alone) => {
                if !is_on()? {
                    write_note(&alone)?;
                    fs::write(SETTING, b"1")?;
                }
                alone.relock(FlockArg::LockShared)?;
                alone
            }
            // Someone holds it already, so it is on.
            Err((file, nix::errno::Errno::EWOULDBLOCK)) => Flock::lock(file, FlockArg::LockShared)
                .map_err(|(_, error)| io::Error::from(error))?,
            Err((_, error)) => return Err(error.into()),
        };
        // The holder that was there may have let go in between.
        if !is_on()? {
            write_note(&lock)?;
            fs::write(SETTING, b"1")?;
        }
        Ok(Self { path: path.to_owned(), lock: Some(lock) })
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

fn write_note(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all(TURNED_ON)
}

/// Turns it off again, where Cofferdam has turned it on and no run needs it any more.
pub(crate) fn release(path: &Path) -> io::Result<()> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let Ok(alone) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { return Ok(()) };
    let mut note = Vec::new();
    (&*alone).take(16).read_to_end(&mut note)?;
    if note == TURNED_ON {
        fs::write(SETTING, b"0")?;
        alone.set_len(0)?;
    }
    Ok(())
}
