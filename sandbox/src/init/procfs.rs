//! `/proc` and `/sys` of a container, and what is hidden or read-only in them.
//!
//! Everything is reached through the descriptors of the file systems mounted here, never through
//! a path that an image could have prepared (SECURITY: masked and read-only files).

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, openat},
    mount::{MsFlags, mount},
    sys::stat::Mode,
};

use super::ground::place_at;
use crate::{
    error::{Doing as _, Result},
    sys::mount::{Attributes, Configuration, Tree, move_mount_at, open_tree, restrict},
};

/// Of `/proc`: shown empty. They tell of the host or of other jobs. As in all of these lists, what is a
/// directory ends with a slash.
const MASKED_PROC: [&str; 20] = [
    "acpi/",
    "asound/",
    "interrupts",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "pagetypeinfo",
    "sched_debug",
    "scsi/",
    "slabinfo",
    "softirqs",
    "timer_list",
    "timer_stats",
    "vmallocinfo",
];

/// Of `/proc`: readable, as programs expect, but not to be written.
const READ_ONLY_PROC: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Of `/sys`: shown empty.
const MASKED_SYS: [&str; 6] = [
    "devices/virtual/powercap/",
    "firmware/",
    "fs/bpf/",
    "kernel/debug/",
    "kernel/security/",
    "kernel/tracing/",
];

const PLAIN: Attributes = Attributes::NOSUID.and(Attributes::NODEV).and(Attributes::NOEXEC);

/// Mounts the container's `/proc` on the set-up file system, and returns what is still to be
/// written there. All groups up to `ping` may send echo requests, where the network is the
/// container's own.
pub(super) fn mount_proc(empty: &Empty, ping: Option<u32>) -> Result<(OwnedFd, KernelParameters)> {
    let proc = make_proc()?;
    place_at(&proc, "proc").system(|| "place `/proc`")?;
    let parameters = KernelParameters::open(proc.as_fd(), ping)?;
    for name in MASKED_PROC {
        empty.cover(&format!("proc/{name}")).system(|| format!("hide `/proc/{name}`"))?;
    }
    for name in READ_ONLY_PROC {
        make_read_only(&format!("proc/{name}"))
            .system(|| format!("make `/proc/{name}` read-only"))?;
    }
    Ok((proc, parameters))
}

/// A detached mount for `/proc`, of the caller's process namespace.
pub(crate) fn make_proc() -> Result<OwnedFd> {
    Configuration::open(c"proc").and_then(|proc| proc.mount(PLAIN)).system(|| {
        "mount `/proc` (the host's own `/proc` must be whole: not below another container engine)"
    })
}

/// A detached, read-only mount for `/sys`; only who has power over the network may make one.
pub(crate) fn make_sys() -> Result<OwnedFd> {
    Configuration::open(c"sysfs")
        .and_then(|sys| sys.mount(PLAIN.and(Attributes::RDONLY)))
        .system(|| "mount `/sys`")
}

/// Places `/sys` on the set-up file system, and with `cgroup` the container's own v2 tree inside it.
pub(super) fn place_sys(empty: &Empty, sys: &OwnedFd, cgroup: bool) -> Result<()> {
    place_at(sys, "sys").system(|| "place `/sys`")?;
    for name in MASKED_SYS {
        empty.cover(&format!("sys/{name}")).system(|| format!("hide `/sys/{name}`"))?;
    }
    cover_throttling(empty, sys.as_fd()).system(|| "hide how hot processors are")?;
    if cgroup {
        Configuration::open(c"cgroup2")
            .and_then(|tree| tree.mount(PLAIN.and(Attributes::RDONLY)))
            .and_then(|tree| move_mount_at(tree, c"", sys, c"fs/cgroup"))
            .system(|| "mount `/sys/fs/cgroup`")?;
    }
    Ok(())
}

/// How often each processor was too hot tells what others do with it. Virtual machines have none of
/// these, so that one look is all there is to it there.
fn cover_throttling(empty: &Empty, sys: BorrowedFd<'_>) -> io::Result<()> {
    let throttle = |number: u32| format!("sys/devices/system/cpu/cpu{number}/thermal_throttle/");
    if !empty.cover(&throttle(0))? {
        return Ok(());
    }
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let mut possible = String::new();
    File::from(openat(sys, "devices/system/cpu/possible", flags, Mode::empty())?)
        .read_to_string(&mut possible)?;
    for number in 1..=last_of(&possible).unwrap_or(0) {
        empty.cover(&throttle(number))?;
    }
    Ok(())
}

/// The last number of a list such as `0-3,8-11`.
fn last_of(list: &str) -> Option<u32> {
    list.trim().rsplit([',', '-']).next()?.parse().ok()
}

/// An empty file and an empty directory that cannot be changed, to cover others with. They are
/// mounts in their own right, so that each copy of them is restricted from the start.
#[derive(Debug)]
pub(super) struct Empty(());

impl Empty {
    /// Makes them on the set-up file system, whose `empty.d` is there.
    pub(super) fn make() -> io::Result<Self> {
        File::options().write(true).create_new(true).mode(0o444).open("empty")?;
        for name in [c"empty", c"empty.d"] {
            let copy = open_tree(AT_FDCWD, name, Tree::Copy)?;
            restrict(&copy, PLAIN.and(Attributes::RDONLY))?;
            move_mount_at(copy, c"", AT_FDCWD, name)?;
        }
        Ok(Self(()))
    }

    /// Covers a file, or a directory with a slash at its end, of what is mounted on the set-up file
    /// system, where it exists; says whether it does.
    ///
    /// By path, because that is one call for each of many: nothing but file systems of the kernel is
    /// on the way. A kernel in which it is the other of the two is served as well, but is not what is
    /// tried first: after a mount that fails, the kernel waits for all processors.
    fn cover(&self, path: &str) -> nix::Result<bool> {
        let Self(()) = self;
        let (path, likely, other) = match path.strip_suffix('/') {
            Some(path) => (path, "empty.d", "empty"),
            None => (path, "empty", "empty.d"),
        };
        // The kernel puts neither a file on a directory nor the other way round.
        let put = |empty: &str| {
            mount(Some(empty), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).map(|()| true)
        };
        match put(likely).or_else(|error| match error {
            Errno::ENOTDIR => put(other),
            error => Err(error),
        }) {
            Err(Errno::ENOENT) => Ok(false),
            other => other,
        }
    }
}

/// Makes what is at `path` of the set-up file system read-only, where it exists.
fn make_read_only(path: &str) -> nix::Result<()> {
    let again = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let mount = |source, flags| mount(source, path, None::<&str>, flags, None::<&str>);
    match mount(Some(path), MsFlags::MS_BIND) {
        Err(Errno::ENOENT) => Ok(()),
        other => other.and_then(|()| mount(None, again | plain)),
    }
}

/// A quarter of what the kernel gives a user.
const INOTIFY_INSTANCES: u32 = 32;
/// As many as a large project has directories.
const INOTIFY_WATCHES: u32 = 65_536;

/// Kernel parameters of the container's own namespaces: opened while `/proc/sys` can be written,
/// set when nothing is mounted any more, because one of them forbids mounts.
#[derive(Debug)]
pub(super) struct KernelParameters(Vec<(String, File, String)>);

impl KernelParameters {
    fn open(proc: BorrowedFd<'_>, ping: Option<u32>) -> Result<Self> {
        // Namespaces inside namespaces are where kernel bugs are found, and no build needs them.
        let namespaces = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"]
            .map(|kind| (format!("sys/user/max_{kind}_namespaces"), "0".to_owned()));
        // Without root the kernel counts these for one user for all containers, too (`spawner::owner`), who
        // has 128 instances: a container that used them up would take them from all others and from the
        // host (inotify(7), `fs/notify/inotify` of the kernel).
        let watches = [("instances", INOTIFY_INSTANCES), ("watches", INOTIFY_WATCHES)]
            .map(|(what, most)| (format!("sys/user/max_inotify_{what}"), most.to_string()));
        // `ping` works without CAP_NET_RAW for every id that the container has.
        let ping =
            ping.map(|last| ("sys/net/ipv4/ping_group_range".to_owned(), format!("0 {last}")));
        let mut parameters = Vec::new();
        for (path, value) in namespaces.into_iter().chain(watches).chain(ping) {
            let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
            match openat(proc, path.as_str(), flags, Mode::empty()) {
                // A kernel without that kind of namespace, without inotify, or without IPv4.
                Err(Errno::ENOENT) => {}
                other => {
                    let file = other.system(|| format!("open `/proc/{path}`"))?;
                    parameters.push((path, File::from(file), value));
                }
            }
        }
        Ok(Self(parameters))
    }

    /// Writes them all.
    pub(super) fn set(self) -> Result<()> {
        for (path, mut file, value) in self.0 {
            file.write_all(value.as_bytes()).system(|| format!("write `/proc/{path}`"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_processor_is_found() {
        for (list, last) in
            [("0\n", Some(0)), ("0-127\n", Some(127)), ("0-3,8", Some(8)), ("", None)]
        {
            assert_eq!(last_of(list), last, "{list:?}");
        }
    }
}
