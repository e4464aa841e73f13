//! Builds the container's root file system and enters it.
//!
//! Order matters and is this: put lower layers and scratch on the set-up file system that
//! [`super::ground`] has made, mount the overlay over them, place everything else inside it by
//! descriptor, pivot, and detach the old root. All paths given to the overlay are relative to the
//! set-up file system, so the mount table inside shows no path of the host.

use std::{
    ffi::CString,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{
    fcntl::{AT_FDCWD, OFlag, open},
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::stat::{FchmodatFlags, Mode, fchmodat, mkdirat},
    unistd::{chdir, fchdir, sethostname},
};

use super::{
    ground::{Ground, place_at, tmpfs},
    message::Setup,
    tree,
};
use crate::{
    error::{Doing as _, Error, Result},
    sys::mount::{
        Attributes, Tree, move_mount, move_mount_at, open_tree, pivot_root_here, restrict,
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
pub(super) const CONTROL: [(&str, &str); 2] =
    [("cofferdam", "/run/cofferdam"), ("secrets", "/run/secrets")];

/// What remains reachable of the container from outside after its end.
#[derive(Debug)]
pub(super) struct Built {
    /// The root directory.
    pub(super) root: OwnedFd,
    /// The workspace directory.
    pub(super) workspace: OwnedFd,
    /// The directories of [`CONTROL`].
    pub(super) control: OwnedFd,
    /// The workspace as mounts of their own, for others.
    pub(super) copies: Vec<OwnedFd>,
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

/// Does all of the above, and returns with the new root as root and current directory. `shared` is
/// the workspace of another container.
pub(super) fn build(
    ground: Ground,
    setup: &Setup,
    shared: Option<OwnedFd>,
    descriptors: Vec<OwnedFd>,
) -> Result<Built> {
    let Ground { devices, proc, sys, parameters } = ground;
    let mut descriptors = Descriptors(descriptors.into_iter());
    let scratch = descriptors.next()?;
    place_layers(setup.layers, scratch, &mut descriptors)?;
    mount_overlay("root", setup.layers, "l")?;
    let root = open("root", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .system(|| "open the new root")?;
    for (name, mode) in DIRECTORIES {
        let place = || {
            let point = tree::own_directory(root.as_fd(), name, mode)?;
            match name {
                "dev" => move_mount(&devices, point),
                "proc" => move_mount(&proc, point),
                "sys" => move_mount(&sys, point),
                _ => Ok(()),
            }
        };
        place().system(|| format!("make `/{name}`"))?;
    }
    let copies = populate(setup, root.as_fd(), (&devices, shared), &mut descriptors)?;
    let directory = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let control = open("c", directory, Mode::empty()).system(|| "open the steps' own files")?;
    sethostname(&setup.hostname).system(|| "set the host name")?;
    enter(root.as_fd())?;
    parameters.set()?;
    Ok(Built {
        root: open("/", directory, Mode::empty()).system(|| "open the root directory")?,
        workspace: open(WORKSPACE, directory, Mode::empty())
            .system(|| "open the workspace directory")?,
        control,
        copies,
    })
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

/// Places everything that is neither a layer of the root nor the same for every container; returns
/// copies of the workspace for others.
fn populate(
    setup: &Setup,
    root: BorrowedFd<'_>,
    (devices, shared): (&OwnedFd, Option<OwnedFd>),
    descriptors: &mut Descriptors,
) -> Result<Vec<OwnedFd>> {
    // Not a link: it was made before, or is a directory of the image.
    open_to_all(root, "workspace")?;
    let place = |mount: &OwnedFd, target: &str, is_directory| -> Result<()> {
        tree::mount_point(root, target, is_directory)
            .and_then(|point| move_mount(mount, point))
            .pipeline(|| format!("mount `{target}`"))
    };
    for index in 0..setup.workspace {
        let name = format!("w/{index}");
        mkdirat(AT_FDCWD, name.as_str(), Mode::from_bits_truncate(0o755))
            .system(|| "make a place for the project")?;
        place_at(descriptors.next()?, &name).system(|| "place the project")?;
    }
    if setup.workspace > 0 {
        mount_overlay("workspace", setup.workspace, "w")?;
    }
    let copies = place_workspace(setup, root, shared)?;
    place_shared_memory(setup.shm, devices).system(|| "make `/dev/shm`")?;
    place_network_files(setup, root)?;
    for (name, target) in CONTROL {
        let shown = CString::new(format!("c/{name}"))
            .map_err(std::io::Error::from)
            .and_then(|source| open_tree(AT_FDCWD, &source, Tree::Copy))
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
    Ok(copies)
}

/// Shows the workspace, where it is not just a directory of the root; returns copies for others.
fn place_workspace(
    setup: &Setup,
    root: BorrowedFd<'_>,
    shared: Option<OwnedFd>,
) -> Result<Vec<OwnedFd>> {
    let place = |mount: &OwnedFd| -> Result<()> {
        tree::mount_point(root, WORKSPACE, true)
            .and_then(|point| move_mount(mount, point))
            .system(|| format!("mount `{WORKSPACE}`"))
    };
    // While it is still where it was mounted, or at its place in the root: an attached one.
    let copy = || match setup.workspace {
        0 => open_tree(root, c"workspace", Tree::Copy),
        _ => open_tree(AT_FDCWD, c"workspace", Tree::Copy),
    };
    let copy = || copy().system(|| "open the workspace");
    let copies = (0..setup.workspace_copies).map(|_| copy()).collect::<Result<_>>()?;
    match shared {
        Some(shared) => place(&shared)?,
        None if setup.workspace > 0 => place(&copy()?)?,
        None => {}
    }
    Ok(copies)
}

fn place_shared_memory(size: u64, devices: &OwnedFd) -> std::io::Result<()> {
    let size = CString::new(size.to_string())?;
    let options = [(c"size", size.as_c_str()), (c"nr_inodes", c"16k"), (c"mode", c"1777")];
    let mount = tmpfs(&options, Attributes::NOSUID.and(Attributes::NODEV))?;
    move_mount_at(mount, c"", devices, c"shm")
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
