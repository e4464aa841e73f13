//! One container with the fewest system calls: seven namespaces, an id map, an overlay over an
//! id-mapped layer with its upper directory on a bounded tmpfs, `/proc`, `/sys`, `/dev`, the control
//! groups that ours have with the limits that ours have, and our system call filter.
//!
//! It is what ours are measured against, so it leaves out whatever can be left out: the program is
//! process 1 itself, nobody is told anything, nothing is verified, hidden or read back, and what
//! is wrong with it would not be noticed. The calls are those of `sandbox/src/sys`, so that the
//! workspace's rule for unsafe code holds here as well; the caller has one thread and little memory,
//! which is what makes a copy of it cheap.

use std::{
    ffi::{CString, c_int},
    fs,
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use cofferdam_sandbox::Limits;
use nix::{
    fcntl::{AT_FDCWD, OFlag},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::{
        stat::{Mode, SFlag, makedev, mknod},
        wait::{WaitStatus, waitpid},
    },
    unistd::{Gid, Pid, Uid, chdir, mkdir, pipe2, read, setresgid, setresuid, write},
};

use super::{
    groups::{Groups, Made},
    rootfs::layer,
};
use crate::seccomp;
use crate::sys::{
    mount::{
        Attributes, Configuration, Tree, map_ids, move_mount_at, open_tree, pivot_root_here,
        restrict,
    },
    process::{self, Cloned},
};

const NAMESPACES: c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWNET;

/// The range of every container here; only one that nobody else has would be safe.
const FIRST_ID: u32 = 0x6f00_0000;
const IDS: u32 = 65_536;

/// Names and numbers of the devices.
const NODES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const CANNOT_START: c_int = 125;

/// What all containers of the floor have in common.
#[derive(Debug)]
pub(crate) struct Floor {
    groups: Groups,
    layer: CString,
    /// `/dev`, made once and shown to each.
    devices: OwnedFd,
    /// Where a container's tmpfs and its root go, in its own mount namespace.
    upper: PathBuf,
    root: PathBuf,
    options: String,
    overlay: String,
    number: u32,
}

impl Floor {
    /// Prepares containers of the root file system in `directory` with the default limits.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let limits = Limits::default();
        let (upper, root) = (directory.join("upper"), directory.join("root"));
        for directory in [&upper, &root] {
            fs::create_dir_all(directory)?;
        }
        let (upper_name, root_name) = (upper.display(), root.display());
        Ok(Self {
            groups: Groups::learn(&limits)?,
            layer: CString::new(layer(directory).as_os_str().as_bytes())?,
            devices: devices()?,
            options: format!("size={},nr_inodes={},mode=755", limits.disk, limits.inodes),
            overlay: format!(
                "lowerdir={root_name},upperdir={upper_name}/u,workdir={upper_name}/w,userxattr,volatile"
            ),
            upper,
            root,
            number: 0,
        })
    }

    /// Puts a container up, runs `argv` in it, and takes it down; how the program ended.
    pub(crate) fn run(&mut self, argv: &[CString]) -> io::Result<WaitStatus> {
        self.number += 1;
        let name = format!("{}-{}", std::process::id(), self.number);
        let groups = self.groups.make(&name)?;
        let result = self.run_in(&groups, argv);
        groups.remove()?;
        result
    }

    fn run_in(&self, groups: &Made, argv: &[CString]) -> io::Result<WaitStatus> {
        let layer = open_tree(AT_FDCWD, &self.layer, Tree::Copy)?;
        let devices = open_tree(&self.devices, c"", Tree::Copy)?;
        let (go, mapped) = pipe2(OFlag::O_CLOEXEC)?;
        match process::clone(NAMESPACES, groups.unified())? {
            Cloned::Child => {
                drop(mapped);
                let failure = self.become_container(&go, groups, &layer, &devices, argv);
                writeln!(io::stderr(), "the floor's container cannot start: {failure}").ok();
                process::exit_now(CANNOT_START)
            }
            Cloned::Parent { pid, pidfd: _ } => {
                write_map(pid, "uid_map")?;
                write_map(pid, "gid_map")?;
                let namespace = fs::File::open(format!("/proc/{pid}/ns/user"))?;
                map_ids(&layer, &namespace, Attributes::RDONLY.and(Attributes::NOSUID))?;
                write(&mapped, b"1")?;
                Ok(waitpid(pid, None)?)
            }
        }
    }

    /// In the new process; returns only with what went wrong.
    fn become_container(
        &self,
        go: &OwnedFd,
        groups: &Made,
        layer: &OwnedFd,
        devices: &OwnedFd,
        argv: &[CString],
    ) -> io::Error {
        let build = || -> io::Result<()> {
            if read(go.as_fd(), &mut [0])? != 1 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            groups.enter()?;
            unshare(CloneFlags::CLONE_NEWCGROUP)?;
            let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
            setresgid(group, group, group)?;
            setresuid(user, user, user)?;
            let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            mount(Some("tmpfs"), &self.upper, Some("tmpfs"), plain, Some(self.options.as_str()))?;
            for directory in ["u", "w"] {
                mkdir(&self.upper.join(directory), Mode::from_bits_truncate(0o755))?;
            }
            place(layer, &self.root)?;
            let overlay = Some("overlay");
            mount(overlay, &self.root, overlay, plain, Some(self.overlay.as_str()))?;
            chdir(&self.root)?;
            let plain = plain | MsFlags::MS_NOEXEC;
            mount(Some("proc"), "proc", Some("proc"), plain, None::<&str>)?;
            let read_only = plain | MsFlags::MS_RDONLY;
            mount(Some("sysfs"), "sys", Some("sysfs"), read_only, None::<&str>)?;
            place(devices, Path::new("dev"))?;
            pivot_root_here()?;
            umount2(".", MntFlags::MNT_DETACH)?;
            process::set_no_new_privileges()?;
            seccomp::filter().install()
        };
        match (build(), argv.first()) {
            (Ok(()), Some(program)) => process::execve(program, argv, &[]),
            (Err(error), _) => error,
            (Ok(()), None) => io::ErrorKind::InvalidInput.into(),
        }
    }
}

fn place(mount: &OwnedFd, target: &Path) -> io::Result<()> {
    let target = CString::new(target.as_os_str().as_bytes())?;
    move_mount_at(mount, c"", AT_FDCWD, &target)
}

fn write_map(pid: Pid, name: &str) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/{pid}/{name}"))?
        .write_all(format!("0 {FIRST_ID} {IDS}\n").as_bytes())
}

/// A small read-only file system with the nodes that programs expect.
fn devices() -> io::Result<OwnedFd> {
    let devices =
        Configuration::open(c"tmpfs")?.mount(Attributes::NOSUID.and(Attributes::NOEXEC))?;
    let directory = PathBuf::from(format!("/proc/self/fd/{}", devices.as_raw_fd()));
    for (name, major, minor) in NODES {
        let (path, all) = (directory.join(name), Mode::from_bits_truncate(0o666));
        mknod(&path, SFlag::S_IFCHR, all, makedev(major, minor))?;
    }
    restrict(&devices, Attributes::RDONLY)?;
    Ok(devices)
}
