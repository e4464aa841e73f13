//! Builds the container's root file system and enters it.
//!
//! Order matters and is this: join the control groups, make all mounts private, make those mounts
//! that the runner could not prepare, take a control group namespace of one's own, become root of
//! the user namespace, put lower layers and scratch on a small set-up file system, mount the overlay over them, place everything else inside it by
//! descriptor, pivot, and detach the old root. All paths given to the overlay are relative to the
//! set-up file system, so the mount table inside shows no path of the host.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io::Write as _,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{
    fcntl::{AT_FDCWD, OFlag, open},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::stat::{FchmodatFlags, Mode, fchmodat, mkdirat, umask},
    unistd::{Gid, Uid, chdir, fchdir, setgroups, sethostname, setresgid, setresuid},
};

use super::{
    message::{NetworkNamespace, Setup},
    own_mounts,
    procfs::{self, KernelParameters, make_sys},
    tree,
};
use crate::{
    devices,
    error::{Doing as _, Error, Result},
    sys::{
        mount::{
            Attributes, Configuration, Tree, move_mount, open_tree, pivot_root_here, restrict,
        },
        network::loopback_up,
        process,
    },
};

/// Where the project is shown inside a container.
pub const WORKSPACE: &str = "/workspace";

/// Directories that every container has, whatever its image says, with their permission bits.
const DIRECTORIES: [(&str, u32); 8] = [
    ("dev", 0o755),
    ("proc", 0o555),
    ("sys", 0o555),
    ("etc", 0o755),
    ("run", 0o755),
    ("tmp", 0o1777),
    ("var", 0o755),
    ("workspace", 0o777),
];

/// Where steps find what is theirs alone: files to talk through, and secrets. They are in memory
/// and in no overlay, so that none of it is part of a file system that another job starts in.
const CONTROL: [(&CStr, &str); 2] =
    [(c"c/cofferdam", "/run/cofferdam"), (c"c/secrets", "/run/secrets")];

/// What remains reachable of the container from outside after its end.
#[derive(Debug)]
pub(super) struct Built {
    /// The root directory.
    pub(super) root: OwnedFd,
    /// The workspace directory.
    pub(super) workspace: OwnedFd,
    /// The directories of [`CONTROL`].
    pub(super) control: OwnedFd,
    /// The writable file system, where it was made here.
    pub(super) scratch: Option<OwnedFd>,
}

/// Hands out the descriptors of a [`Setup`] in their order.
struct Descriptors(std::vec::IntoIter<OwnedFd>);

impl Descriptors {
    fn next(&mut self) -> Result<OwnedFd> {
        self.0.next().ok_or_else(|| {
            Error::system("take the mounts of the container", "a descriptor is missing")
        })
    }
}

/// Does all of the above, and returns with the new root as root and current directory.
///
/// `sys` is the mount for `/sys`, where the init cannot make it because the network is not its own.
pub(super) fn build(
    setup: &Setup,
    descriptors: Vec<OwnedFd>,
    sys: Option<OwnedFd>,
) -> Result<Built> {
    let mut descriptors = Descriptors(descriptors.into_iter());
    for _ in 0..setup.join {
        let group = descriptors.next()?;
        File::from(group).write_all(b"0").system(|| "join the container's control group")?;
    }
    // What is made here has the permissions that are written here, whoever started the runner.
    umask(Mode::empty());
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .system(|| "make all mounts private")?;
    let (mut nodes, mut own_scratch) = (Vec::new(), None);
    if let Some(wanted) = &setup.own_mounts {
        // Before the host's groups are left, which may be what opens the way to the project.
        let made = own_mounts::make(wanted)?;
        descriptors = Descriptors(made.mounts.into_iter());
        nodes = made.nodes;
        own_scratch = Some(made.scratch);
    }
    become_root()?;
    let scratch = descriptors.next()?;
    let devices = descriptors.next()?;
    enter_setup_filesystem()?;
    place_layers(setup.layers, scratch, &mut descriptors)?;
    mount_overlay("root", setup.layers, "l")?;
    let root = open("root", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .system(|| "open the new root")?;
    let sys = sys.map_or_else(make_sys, Ok)?;
    let parameters = populate(setup, root.as_fd(), (devices, nodes), sys, &mut descriptors)?;
    let directory = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let control = open("c", directory, Mode::empty()).system(|| "open the steps' own files")?;
    sethostname(&setup.hostname).system(|| "set the host name")?;
    if setup.network == NetworkNamespace::Own {
        loopback_up().system(|| "bring the loopback interface up")?;
    }
    enter(root.as_fd())?;
    parameters.set()?;
    Ok(Built {
        root: open("/", directory, Mode::empty()).system(|| "open the root directory")?,
        workspace: open(WORKSPACE, directory, Mode::empty())
            .system(|| "open the workspace directory")?,
        control,
        scratch: own_scratch,
    })
}

/// Root of the user namespace, with no group of the host left, dying with the spawner.
fn become_root() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWCGROUP).system(|| "make a control group namespace")?;
    // Written while this process may still write its own /proc files: see `set_not_dumpable`.
    std::fs::write("/proc/self/oom_score_adj", b"500")
        .system(|| "make the container a preferred victim when memory runs out")?;
    match setgroups(&[]) {
        // In a namespace with a single mapped id, groups cannot be changed at all.
        Ok(()) | Err(nix::errno::Errno::EPERM) => {}
        Err(error) => return Err(Error::system("leave the host's groups", error)),
    }
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(group, group, group).system(|| "become the root group of the container")?;
    setresuid(user, user, user).system(|| "become root of the container")?;
    // Changing ids clears both of these, so they come after.
    process::die_with_parent().system(|| "tie the container to the spawner")?;
    process::set_not_dumpable().system(|| "make the init untraceable")
}

/// A small file system of its own, as the current directory, to put everything else on.
fn enter_setup_filesystem() -> Result<()> {
    let setup = tmpfs(
        &[(c"size", "32m"), (c"nr_inodes", "16k"), (c"mode", "755")],
        Attributes::NOSUID.and(Attributes::NODEV),
    )
    .system(|| "make the set-up file system")?;
    for (name, mode) in [
        ("l", 0o755),
        ("up", 0o755),
        ("root", 0o755),
        ("w", 0o755),
        ("h", 0o755),
        ("c", 0o755),
        ("c/cofferdam", 0o755),
        ("c/secrets", 0o755),
        ("workspace", 0o755),
        ("empty.d", 0o555),
    ] {
        mkdirat(&setup, name, Mode::from_bits_truncate(mode))
            .system(|| format!("make `{name}` on the set-up file system"))?;
    }
    let anchor = open("/tmp", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .or_else(|_| {
            open("/dev", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        })
        .system(|| "find a place for the set-up file system")?;
    move_mount(&setup, anchor).system(|| "place the set-up file system")?;
    fchdir(&setup).system(|| "enter the set-up file system")
}

/// A tmpfs with these options as a detached mount.
pub(super) fn tmpfs(
    options: &[(&'static CStr, &str)],
    attributes: Attributes,
) -> std::io::Result<OwnedFd> {
    let configuration = Configuration::open(c"tmpfs")?;
    for (key, value) in options {
        configuration.set(key, &CString::new(*value)?)?;
    }
    configuration.mount(attributes)
}

fn place_layers(layers: usize, scratch: OwnedFd, descriptors: &mut Descriptors) -> Result<()> {
    place_at(&scratch, "up").system(|| "place the scratch file system")?;
    // Made outside, with whatever file mode mask the runner was started with.
    let ours = Mode::from_bits_truncate(0o755);
    fchmodat(AT_FDCWD, "up/root", ours, FchmodatFlags::FollowSymlink)
        .system(|| "open the root directory to the users of the container")?;
    open_to_all(AT_FDCWD, "up/workspace")?;
    for index in 0..layers {
        let name = format!("l/{index}");
        mkdirat(AT_FDCWD, name.as_str(), Mode::from_bits_truncate(0o755))
            .system(|| "make a place for a layer")?;
        place_at(&descriptors.next()?, &name).system(|| format!("place layer {index}"))?;
    }
    Ok(())
}

/// Whoever a step runs as may add to the workspace: it is a throwaway copy.
fn open_to_all(parent: impl AsFd, name: &str) -> Result<()> {
    let all = Mode::from_bits_truncate(0o777);
    fchmodat(parent, name, all, FchmodatFlags::FollowSymlink)
        .system(|| "open the workspace to all users of the container")
}

/// Places a detached mount on a directory of the set-up file system.
fn place_at(detached: impl AsFd, name: &str) -> std::io::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    move_mount(detached, open(name, flags, Mode::empty())?)
}

/// Mounts an overlay on `target` over `prefix/0` (lowest) to `prefix/N-1`, with the upper and
/// work directories `up/TARGET` and `up/TARGET.work`.
fn mount_overlay(target: &str, layers: usize, prefix: &str) -> Result<()> {
    let lower: Vec<String> = (0..layers).rev().map(|index| format!("{prefix}/{index}")).collect();
    // `volatile`: the upper is thrown away or kept as a whole, and never survives a crash of the
    // machine, so syncing it would only cost time.
    let options = format!(
        "lowerdir={},upperdir=up/{target},workdir=up/{target}.work,userxattr,volatile",
        lower.join(":")
    );
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("overlay"), target, Some("overlay"), flags, Some(options.as_str()))
        .system(|| format!("mount the overlay of `/{target}`"))
}

/// The read-only directory `shown` seen through an overlay: a lock, a lease or a watch on a file
/// is then one on this container's inode, and not on the host's.
fn with_own_inodes(shown: OwnedFd, index: usize) -> std::io::Result<OwnedFd> {
    let (lower, target) = (format!("h/{index}"), format!("h/{index}.own"));
    for name in [&lower, &target] {
        mkdirat(AT_FDCWD, name.as_str(), Mode::from_bits_truncate(0o755))?;
    }
    place_at(shown, &lower)?;
    // An overlay without an upper directory wants two lower ones.
    let options = format!("lowerdir={lower}:empty.d,userxattr");
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let kind = Some("overlay");
    mount(kind, target.as_str(), kind, flags, Some(options.as_str()))?;
    open_tree(AT_FDCWD, &CString::new(target)?, Tree::Copy)
}

/// Places everything that is not a layer of the root; what it returns is set after the last mount.
fn populate(
    setup: &Setup,
    root: BorrowedFd<'_>,
    (devices, nodes): (OwnedFd, Vec<OwnedFd>),
    sys: OwnedFd,
    descriptors: &mut Descriptors,
) -> Result<KernelParameters> {
    for (name, mode) in DIRECTORIES {
        tree::own_directory(root, name, mode).system(|| format!("make `/{name}`"))?;
    }
    // Not a link: it was made above, or is a directory of the image.
    open_to_all(root, "workspace")?;
    let workspace = setup.workspace.then(|| descriptors.next()).transpose()?;
    let place = |mount: &OwnedFd, target: &str, is_directory| -> Result<()> {
        tree::mount_point(root, target, is_directory)
            .and_then(|point| move_mount(mount, point))
            .pipeline(|| format!("mount `{target}`"))
    };
    if let Some(lower) = workspace {
        mkdirat(AT_FDCWD, "w/0", Mode::from_bits_truncate(0o755))
            .system(|| "make a place for the project")?;
        place_at(lower, "w/0").system(|| "place the project")?;
        mount_overlay("workspace", 1, "w")?;
        let project =
            open_tree(AT_FDCWD, c"workspace", Tree::Copy).system(|| "open the workspace")?;
        place(&project, WORKSPACE, true)?;
    }
    place(&devices, "/dev", true)?;
    devices::mount_on(&devices, nodes).system(|| "mount the host's harmless devices")?;
    place_devices(setup, root)?;
    let ping = (setup.network == NetworkNamespace::Own).then(|| setup.ids.highest());
    let parameters = procfs::mount_proc(root, ping)?;
    procfs::place_sys(root, &sys, setup.cgroup_mount)?;
    place_network_files(setup, root)?;
    for (source, target) in CONTROL {
        let shown = open_tree(AT_FDCWD, source, Tree::Copy)
            .system(|| format!("open the directory for `{target}`"))?;
        place(&shown, target, true)?;
    }
    for (index, bind) in setup.binds.iter().enumerate() {
        let mut shown = descriptors.next()?;
        if bind.own_inodes {
            shown = with_own_inodes(shown, index)
                .system(|| format!("give `{}` inodes of its own", bind.target))?;
        }
        place(&shown, &bind.target, bind.directory)?;
    }
    Ok(parameters)
}

/// The file systems below `/dev`; the nodes and directories came with the device mount.
fn place_devices(setup: &Setup, root: BorrowedFd<'_>) -> Result<()> {
    let plain = Attributes::NOSUID.and(Attributes::NOEXEC);
    let no_devices = Attributes::NOSUID.and(Attributes::NODEV);
    let mut mounts = Vec::with_capacity(3);
    let pseudo_terminals = || {
        let configuration = Configuration::open(c"devpts")?;
        for (key, value) in [(c"ptmxmode", c"666"), (c"mode", c"620"), (c"max", c"64")] {
            configuration.set(key, value)?;
        }
        // Each mount is an instance of its own (since Linux 4.7).
        configuration.mount(plain)
    };
    mounts.push(("/dev/pts", pseudo_terminals().system(|| "make `/dev/pts`")?));
    let size = setup.shm.to_string();
    let shm = tmpfs(&[(c"size", &size), (c"nr_inodes", "16k"), (c"mode", "1777")], no_devices);
    mounts.push(("/dev/shm", shm.system(|| "make `/dev/shm`")?));
    let queues = Configuration::open(c"mqueue").and_then(|it| it.mount(plain.and(no_devices)));
    mounts.push(("/dev/mqueue", queues.system(|| "make `/dev/mqueue`")?));
    for (target, mount) in mounts {
        tree::mount_point(root, target, true)
            .and_then(|point| move_mount(mount, point))
            .system(|| format!("mount `{target}`"))?;
    }
    Ok(())
}

/// `hosts`, `hostname` and `resolv.conf`, read-only and outside the job's quota.
fn place_network_files(setup: &Setup, root: BorrowedFd<'_>) -> Result<()> {
    let etc = tree::own_directory(root, "etc", 0o755).system(|| "open `/etc`")?;
    let hostname = format!("{}\n", setup.hostname);
    for (name, content) in
        [("hosts", &setup.hosts), ("hostname", &hostname), ("resolv.conf", &setup.resolv_conf)]
    {
        let place = || -> std::io::Result<()> {
            tree::write_new(name, 0o644, content.as_bytes())?;
            let source = open_tree(AT_FDCWD, &CString::new(name)?, Tree::Copy)?;
            restrict(&source, Attributes::RDONLY)?;
            move_mount(source, tree::own_file(etc.as_fd(), name)?)
        };
        place().system(|| format!("make `/etc/{name}`"))?;
    }
    Ok(())
}

/// Makes `root` the root, and lets go of the old one.
fn enter(root: BorrowedFd<'_>) -> Result<()> {
    fchdir(root).system(|| "enter the new root")?;
    pivot_root_here().system(|| "pivot into the new root")?;
    umount2(".", MntFlags::MNT_DETACH).system(|| "detach the old root")?;
    chdir("/").system(|| "go to the new root")
}
