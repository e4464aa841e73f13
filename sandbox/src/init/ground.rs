//! What every container begins with, whatever it is for: its groups, its ids, its kernel file
//! systems.
//!
//! The init does this before it knows its job, so that it can be done ahead of need, or while the
//! runner prepares the rest. Nothing here comes from a job or an image. Everything stands on a
//! small set-up file system, which is the current directory from then on, and is moved into the
//! container's root later.
//!
//! **Invariant:** while an init waits for its job, it holds no mount of the host: what the host
//! unmounts meanwhile is gone. With root it never has one (`spawner::bare`); without, it has no mount
//! namespace yet, because it has to open what its job needs by the host's paths.

use std::{
    fs::File,
    io::Write as _,
    os::fd::{AsFd as _, OwnedFd},
};

use nix::{
    fcntl::{OFlag, open},
    sched::{CloneFlags, unshare},
    sys::stat::{Mode, mkdirat, umask},
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};

use super::{
    message::{Begin, NetworkNamespace},
    procfs::{self, KernelParameters},
};
use crate::{
    devices,
    error::{Doing as _, Error, Result},
    own_root,
    supervisor::EARLY_VICTIM,
    sys::{
        mount::{Attributes, Configuration, move_mount, move_mount_at},
        network::loopback_up,
        process,
    },
};

/// Directories of the set-up file system, with their permission bits.
const PLACES: [(&str, u32); 13] = [
    ("c", 0o755),
    ("c/cofferdam", 0o755),
    ("c/secrets", 0o755),
    ("dev", 0o755),
    ("empty.d", 0o555),
    ("h", 0o755),
    ("l", 0o755),
    ("proc", 0o555),
    ("root", 0o755),
    ("sys", 0o555),
    ("up", 0o755),
    ("w", 0o755),
    ("workspace", 0o755),
];

/// The kernel file systems of a container, mounted on the set-up file system.
#[derive(Debug)]
pub(super) struct Ground {
    /// `/dev`, with its pseudo-terminals and message queues.
    pub(super) devices: OwnedFd,
    /// `/proc`, with everything hidden that tells of the host.
    pub(super) proc: OwnedFd,
    /// `/sys`, likewise.
    pub(super) sys: OwnedFd,
    /// What is still to be written below `/proc`.
    pub(super) parameters: KernelParameters,
}

/// Joins the control groups; returns what descriptors are left.
pub(super) fn enter(begin: &Begin, descriptors: Vec<OwnedFd>) -> Result<Vec<OwnedFd>> {
    let mut descriptors = descriptors.into_iter();
    for group in descriptors.by_ref().take(begin.join) {
        File::from(group).write_all(b"0").system(|| "join the container's control group")?;
    }
    // What is made here has the permissions that are written here, whoever started the runner.
    umask(Mode::empty());
    Ok(descriptors.collect())
}

/// Parts from the host's mounts, where there is no root: what is mounted from here on is seen by nobody
/// else.
pub(super) fn leave_host() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).system(|| "make a mount namespace")?;
    own_root::make_all_private()
}

/// Becomes root of the container, and makes its kernel file systems; `nodes` go on `devices`.
///
/// `sys` is the mount for `/sys`, where the init cannot make it because the network is not its own.
pub(super) fn make(
    begin: &Begin,
    devices: OwnedFd,
    nodes: Vec<OwnedFd>,
    sys: Option<OwnedFd>,
) -> Result<Ground> {
    become_root(begin.ids.highest())?;
    enter_setup_filesystem()?;
    place_at(&devices, "dev").system(|| "place the devices")?;
    devices::mount_on(&devices, nodes).system(|| "mount the host's harmless devices")?;
    place_devices(&devices)?;
    let empty = procfs::Empty::make().system(|| "make what hides files of the host")?;
    let has_network = begin.network == NetworkNamespace::Own;
    let ping = has_network.then(|| begin.ids.highest());
    let (proc, parameters) = procfs::mount_proc(&empty, ping)?;
    let sys = sys.map_or_else(procfs::make_sys, Ok)?;
    procfs::place_sys(&empty, &sys, begin.cgroup_mount)?;
    if has_network {
        loopback_up().system(|| "bring the loopback interface up")?;
    }
    if !begin.ids.is_privileged() {
        // The host's `/proc` and `/sys` had to be in sight for those above: the kernel shows nobody
        // more of them than they see already.
        own_root::let_go_of_host()?;
    }
    Ok(Ground { devices, proc, sys, parameters })
}

/// Root of the user namespace, with no group of the host left, dying with the spawner.
///
/// Its real id is another one, where there is another: who has one id for all purposes, as every
/// process of the job has, may then not change its resource limits (`check_prlimit_permission` of
/// the kernel), so that no job ends its container in the name of the host.
fn become_root(highest_id: u32) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWCGROUP).system(|| "make a control group namespace")?;
    // Written while this process may still write its own /proc files: see `set_not_dumpable`.
    std::fs::write("/proc/self/oom_score_adj", EARLY_VICTIM)
        .system(|| "make the container a preferred victim when memory runs out")?;
    match setgroups(&[]) {
        // In a namespace with a single mapped id, groups cannot be changed at all.
        Ok(()) | Err(nix::errno::Errno::EPERM) => {}
        Err(error) => return Err(Error::system("leave the host's groups", error)),
    }
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(group, group, group).system(|| "become the root group of the container")?;
    setresuid(Uid::from_raw(highest_id), user, user).system(|| "become root of the container")?;
    // Changing ids clears both of these, so they come after.
    process::die_with_parent().system(|| "tie the container to the spawner")?;
    process::set_not_dumpable().system(|| "make the init untraceable")
}

/// A small file system of its own, as the current directory, to put everything else on.
fn enter_setup_filesystem() -> Result<()> {
    let setup = tmpfs(
        &[(c"size", c"32m"), (c"nr_inodes", c"16k"), (c"mode", c"755")],
        Attributes::NOSUID.and(Attributes::NODEV),
    )
    .system(|| "make the set-up file system")?;
    for (name, mode) in PLACES {
        mkdirat(&setup, name, Mode::from_bits_truncate(mode))
            .system(|| format!("make `{name}` on the set-up file system"))?;
    }
    own_root::enter(setup)
}

/// The file systems below `/dev` that are the same for every container; the nodes and directories
/// came with the device mount.
fn place_devices(devices: &OwnedFd) -> Result<()> {
    let plain = Attributes::NOSUID.and(Attributes::NOEXEC);
    // Each mount of devpts is an instance of its own.
    let pseudo_terminals = Configuration::open(c"devpts").and_then(|terminals| {
        for (key, value) in [(c"ptmxmode", c"666"), (c"mode", c"620"), (c"max", c"64")] {
            terminals.set(key, value)?;
        }
        terminals.mount(plain)
    });
    let queues =
        Configuration::open(c"mqueue").and_then(|it| it.mount(plain.and(Attributes::NODEV)));
    for (target, mount) in [(c"pts", pseudo_terminals), (c"mqueue", queues)] {
        mount
            .and_then(|mount| move_mount_at(mount, c"", devices.as_fd(), target))
            .system(|| format!("make `/dev/{}`", target.to_string_lossy()))?;
    }
    Ok(())
}

/// A tmpfs with these options as a detached mount.
pub(super) fn tmpfs(
    options: &[(&'static std::ffi::CStr, &std::ffi::CStr)],
    attributes: Attributes,
) -> std::io::Result<OwnedFd> {
    let configuration = Configuration::open(c"tmpfs")?;
    for (key, value) in options {
        configuration.set(key, value)?;
    }
    configuration.mount(attributes)
}

/// Places a detached mount on a directory of the set-up file system.
pub(super) fn place_at(detached: impl std::os::fd::AsFd, name: &str) -> std::io::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    move_mount(detached, open(name, flags, Mode::empty())?)
}
