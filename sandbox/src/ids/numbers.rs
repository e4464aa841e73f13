//! Numbers of which each belongs to one holder on this machine.
//!
//! A number is held by a lock on one byte of a file that all Cofferdam processes of the machine
//! share: an open file description lock (`F_OFD_SETLK`, fcntl(2)), shared with the spawner, so that
//! it outlives a killed runner until the spawner has ended that runner's containers.

use std::{
    fs::File,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use nix::fcntl::{FcntlArg, fcntl};

/// Numbers from 0 up, as this process sees them.
#[derive(Clone, Debug)]
pub(crate) struct Numbers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    file: Arc<File>,
    /// The byte of number 0.
    first_byte: u32,
    /// Numbers held by this process: its own locks do not exclude each other.
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    taken: Vec<bool>,
    next: u32,
}

/// One of them, given back when dropped.
#[derive(Debug)]
pub(crate) struct Number {
    shared: Arc<Shared>,
    value: u32,
}

impl Number {
    /// Which it is.
    pub(crate) fn value(&self) -> u32 {
        self.value
    }
}

impl Numbers {
    /// `count` of them, locked in `file` by the bytes from `first_byte` on.
    pub(crate) fn new(file: Arc<File>, first_byte: u32, count: u32) -> Self {
        let next = std::process::id() % count.max(1);
        let held = Held { taken: vec![false; count as usize], next };
        Self { shared: Arc::new(Shared { file, first_byte, held: Mutex::new(held) }) }
    }

    /// Takes one that nobody on this machine holds and that `suits`; `None` where there is none.
    pub(crate) fn acquire(
        &self,
        mut suits: impl FnMut(u32) -> io::Result<bool>,
    ) -> io::Result<Option<Number>> {
        let mut held = self.shared.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = u32::try_from(held.taken.len()).map_err(io::Error::other)?;
        for offset in 0..count {
            let value = (held.next + offset) % count;
            let is_taken = held.taken.get(value as usize).copied().unwrap_or(true);
            if is_taken || !self.shared.lock(value, libc::F_WRLCK)? {
                continue;
            }
            match suits(value) {
                Ok(true) => {}
                Ok(false) => {
                    self.shared.lock(value, libc::F_UNLCK)?;
                    continue;
                }
                Err(error) => {
                    self.shared.lock(value, libc::F_UNLCK)?;
                    return Err(error);
                }
            }
            held.next = (value + 1) % count;
            if let Some(taken) = held.taken.get_mut(value as usize) {
                *taken = true;
            }
            drop(held);
            return Ok(Some(Number { shared: Arc::clone(&self.shared), value }));
        }
        Ok(None)
    }

    /// Those that this process has taken and not given back.
    pub(crate) fn held(&self) -> Vec<u32> {
        let held = self.shared.held.lock().unwrap_or_else(PoisonError::into_inner);
        (0..).zip(&held.taken).filter(|(_, taken)| **taken).map(|(value, _)| value).collect()
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        let mut held = self.shared.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = held.taken.get_mut(self.value as usize) {
            *taken = false;
        }
        if let Err(error) = self.shared.lock(self.value, libc::F_UNLCK) {
            tracing::warn!(value = self.value, %error, "cannot give back a number");
        }
    }
}

impl Shared {
    /// Locks or unlocks a number; `false` when another process holds it.
    fn lock(&self, value: u32, kind: libc::c_int) -> io::Result<bool> {
        let request = libc::flock {
            l_type: i16::try_from(kind).unwrap_or(i16::MAX),
            l_whence: i16::try_from(libc::SEEK_SET).unwrap_or(0),
            l_start: (u64::from(self.first_byte) + u64::from(value)).cast_signed(),
            l_len: 1,
            l_pid: 0,
        };
        match fcntl(&self.file, FcntlArg::F_OFD_SETLK(&request)) {
            Ok(_) => Ok(true),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_do_not_suit_and_those_of_other_bytes_stay_free() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let (low, high) = (Numbers::new(Arc::clone(&file), 0, 4), Numbers::new(file, 4, 4));
        let odd = |value| Ok(value % 2 == 1);
        let held: Vec<_> = (0..2).map(|_| low.acquire(odd).unwrap().unwrap().value()).collect();
        assert!(held.iter().all(|value| value % 2 == 1), "{held:?}");
        let odd: Vec<_> = (0..2).map(|_| low.acquire(odd).unwrap().unwrap()).collect();
        assert_eq!(low.held(), [1, 3]);
        assert!(low.acquire(|value| Ok(value % 2 == 1)).unwrap().is_none());
        assert!(low.acquire(|_| Err(io::Error::other("no"))).is_err());
        assert_eq!(low.held(), [1, 3]);
        drop(odd);
        let all: Vec<_> = (0..4).map(|_| high.acquire(|_| Ok(true)).unwrap().unwrap()).collect();
        assert_eq!((low.held(), high.held().len(), all.len()), (vec![], 4, 4));
    }
}
