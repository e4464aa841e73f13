//! The mount namespace that the inits of root are cloned from: an empty root, a `/proc`, a `/sys`, and
//! nothing else.
//!
//! The kernel gives a new mount namespace a copy of all mounts of its maker's. Cloned from here, an init
//! never has a mount of the host, whose copying and letting go would take longer the more there are;
//! and it changes its root once, which costs a look at all processes of the machine and a wait for all
//! processors each time. `/proc` and `/sys` have to be there because the kernel shows nobody more of
//! them than they see already; they are mounts of their own, which go with the rest when the init
//! enters its container.

use std::{
    fs::File,
    os::fd::{AsFd as _, OwnedFd},
};

use nix::{
    sched::{CloneFlags, setns},
    sys::stat::{Mode, mkdirat},
};

use crate::{
    error::{Doing as _, Result},
    init, own_root,
    sys::{
        mount::{Attributes, move_mount_at, restrict},
        process,
    },
};

/// Where the mounts go that it has, and where an init puts its set-up file system.
const PLACES: [&str; 3] = ["proc", "sys", "tmp"];

/// The namespace, and the one that the spawner is in.
#[derive(Debug)]
pub(super) struct Bare {
    namespace: OwnedFd,
    own: OwnedFd,
}

impl Bare {
    /// Makes it; the caller, who has one thread, is where it was afterwards.
    pub(super) fn make() -> Result<Self> {
        let own = File::open("/proc/self/ns/mnt").system(|| "open the mount namespace")?.into();
        let made = own_root::make(c"755").and_then(|own_root::Made { namespace, root }| {
            for name in PLACES {
                mkdirat(&root, name, Mode::from_bits_truncate(0o755))
                    .system(|| format!("make `/{name}` for containers to begin with"))?;
            }
            for (mount, name) in [(init::make_proc()?, c"proc"), (init::make_sys()?, c"sys")] {
                move_mount_at(mount, c"", &root, name)
                    .system(|| "place what containers begin with")?;
            }
            restrict(&root, Attributes::RDONLY).system(|| "protect what containers begin with")?;
            Ok(namespace)
        });
        go_back(&own);
        Ok(Self { namespace: made?, own })
    }

    /// Has `work` done in it by the caller, who has one thread. A process that is cloned there and
    /// stays must not return from `work`.
    pub(super) fn inside<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let result = self.enter().and_then(|()| work());
        go_back(&self.own);
        result
    }

    /// Goes there, for good.
    pub(super) fn enter(&self) -> Result<()> {
        setns(self.namespace.as_fd(), CloneFlags::CLONE_NEWNS)
            .system(|| "enter the mount namespace that containers begin in")
    }
}

/// A spawner that cannot go back would not find what it has to undo: it ends instead, which ends its
/// containers, and the next start undoes the journal.
fn go_back(own: &OwnedFd) {
    if setns(own, CloneFlags::CLONE_NEWNS).is_err() {
        process::exit_now(1);
    }
}
