//! Which kind of file system a container writes to.
//!
//! Memory is fastest, so that is where the files of ordinary jobs are. What is written there counts
//! as the job's memory, though, so a job that asks for much more disk than memory gets a disk. The
//! choice depends on limits and host alone and never on load, so that a job meets the same bounds
//! each time. Where the host cannot, memory it is: the limits hold there as well, and `cofferdam
//! doctor` says so.

use std::{
    ffi::CStr,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use nix::sys::{
    statfs::{EXT4_SUPER_MAGIC, FsType, TMPFS_MAGIC, XFS_SUPER_MAGIC, fstatfs, statfs},
    utsname::uname,
};

use crate::{
    Limits,
    error::{Error, Result},
    ids::is_root,
    sys::{mount::Configuration, quota},
};

/// Files are kept in memory up to a disk limit of this many times the memory limit: with the default
/// limits they are, and whoever needs a disk says so by a limit that memory could not hold.
const TIMES_MEMORY: u64 = 2;

/// Where the kernel hands out loop devices.
pub(super) const LOOP_CONTROL: &str = "/dev/loop-control";
/// The file system that is made on them.
pub(super) const DISK_FILE_SYSTEM: &CStr = c"ext4";

/// Since then tmpfs has the user extended attributes that overlays in user namespaces need.
const MEMORY_SINCE: (u32, u32) = (6, 6);

/// Where a container keeps what it writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScratchKind {
    /// In memory where the disk limit is at most twice the memory limit, otherwise on disk where
    /// the host can.
    #[default]
    Auto,
    /// In memory: fastest, and what is written counts as the container's memory.
    Memory,
    /// On disk: in a directory with a project quota where the state directory's file system has
    /// them in force, otherwise an ext4 of the container's own in a file without a name.
    Disk,
}

/// What a host can do, each with the reason why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Availability {
    /// Whether files can be kept in memory.
    pub(crate) memory: std::result::Result<(), String>,
    /// Whether they can be kept on disk with an ext4 of the container's own.
    pub(crate) disk: std::result::Result<(), String>,
    /// Whether they can be kept on disk with a project quota, which is preferred.
    pub(crate) project: std::result::Result<(), String>,
}

/// The kind of file system that was decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    Memory,
    /// An ext4 of the container's own, on a loop device.
    Disk,
    /// A directory with a project quota.
    Project,
}

impl Availability {
    /// Looks at this host; `state` is the state directory, or its nearest parent that exists.
    pub(crate) fn of_host(state: &Path) -> Self {
        Self { memory: memory_in(&kernel()), disk: disk(state), project: project(state) }
    }

    /// How files are kept on disk.
    fn on_disk(&self) -> std::result::Result<Backend, &String> {
        match (&self.project, &self.disk) {
            (Ok(()), _) => Ok(Backend::Project),
            (_, Ok(())) => Ok(Backend::Disk),
            (_, Err(why)) => Err(why),
        }
    }
}

/// The release of the kernel.
fn kernel() -> String {
    uname().map(|it| it.release().to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether this kernel is `least` or newer.
pub(super) fn kernel_is_at_least(least: (u32, u32)) -> bool {
    is_at_least(&kernel(), least)
}

/// Decides for one container.
pub(super) fn choose(kind: ScratchKind, limits: &Limits, host: &Availability) -> Result<Backend> {
    let small = limits.disk <= limits.memory.saturating_mul(TIMES_MEMORY);
    match (kind, &host.memory, host.on_disk()) {
        (ScratchKind::Memory, Ok(()), _) => Ok(Backend::Memory),
        (ScratchKind::Disk, _, Ok(backend)) => Ok(backend),
        (ScratchKind::Auto, Ok(()), _) if small => Ok(Backend::Memory),
        (ScratchKind::Auto, _, Ok(backend)) => Ok(backend),
        (ScratchKind::Auto, Ok(()), Err(_)) => Ok(Backend::Memory),
        (ScratchKind::Memory, Err(why), _) => Err(refusal("in memory", why.clone())),
        (ScratchKind::Disk, _, Err(why)) => Err(refusal("on disk", why.clone())),
        (ScratchKind::Auto, Err(memory), Err(disk)) => {
            Err(refusal("in memory or on disk", format!("{memory}; {disk}")))
        }
    }
}

fn refusal(place: &str, why: String) -> Error {
    Error::system(format!("keep the container's files {place}"), why)
        .remedy("`cofferdam doctor` says what this host lacks")
}

fn memory_in(release: &str) -> std::result::Result<(), String> {
    if is_at_least(release, MEMORY_SINCE) {
        return Ok(());
    }
    let (major, minor) = MEMORY_SINCE;
    Err(format!("the kernel {release} is older than {major}.{minor}"))
}

/// Whether the kernel release `release` is `least` or newer.
pub(crate) fn is_at_least(release: &str, least: (u32, u32)) -> bool {
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= least,
        _ => false,
    }
}

fn disk(state: &Path) -> std::result::Result<(), String> {
    if !is_root() {
        return Err("only root may mount file systems on disk".to_owned());
    }
    // Opening it also loads the kernel's module where it is one.
    File::options()
        .read(true)
        .write(true)
        .open(LOOP_CONTROL)
        .map_err(|error| format!("`{LOOP_CONTROL}` cannot be opened: {error}"))?;
    Configuration::open(DISK_FILE_SYSTEM)
        .map_err(|error| format!("the kernel has no ext4: {error}"))?;
    if mke2fs().is_none() {
        return Err("`mke2fs` is not installed (package e2fsprogs)".to_owned());
    }
    let existing = state.ancestors().find(|path| path.exists()).unwrap_or_else(|| Path::new("/"));
    match statfs(existing) {
        Ok(found) if found.filesystem_type() == TMPFS_MAGIC => {
            Err(format!("the state directory `{}` lies in memory itself", state.display()))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(format!("the state directory `{}`: {error}", state.display())),
    }
}

/// The file systems whose project quotas are known to hold overlays of user namespaces.
const WITH_PROJECTS: [FsType; 2] = [EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC];

fn project(state: &Path) -> std::result::Result<(), String> {
    if !is_root() {
        return Err("only root may set quotas".to_owned());
    }
    let existing = state.ancestors().find(|path| path.exists()).unwrap_or_else(|| Path::new("/"));
    let look = || -> io::Result<bool> {
        let directory = File::open(existing)?;
        let kind = fstatfs(&directory)?.filesystem_type();
        Ok(WITH_PROJECTS.contains(&kind) && quota::is_enforced(&directory)?)
    };
    // Whatever keeps the kernel from saying it, none are in force.
    if look().unwrap_or(false) {
        return Ok(());
    }
    let state = state.display();
    Err(format!("the file system of the state directory `{state}` enforces no project quotas"))
}

/// The program that makes an ext4. Users' search paths often lack the directories it is in.
pub(super) fn mke2fs() -> Option<PathBuf> {
    let searched = std::env::var_os("PATH").unwrap_or_default();
    ["/usr/sbin", "/sbin", "/usr/local/sbin"]
        .map(PathBuf::from)
        .into_iter()
        .chain(std::env::split_paths(&searched).filter(|path| path.is_absolute()))
        .map(|directory| directory.join("mke2fs"))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[track_caller]
    fn check(
        kind: ScratchKind,
        (memory, disk): (u64, u64),
        (has_memory, has_disk, has_project): (bool, bool, bool),
        expected: Option<Backend>,
    ) {
        let limits = Limits { memory, disk, ..Limits::default() };
        let can = |can: bool| if can { Ok(()) } else { Err("not here".to_owned()) };
        let host = Availability {
            memory: can(has_memory),
            disk: can(has_disk),
            project: can(has_project),
        };
        assert_eq!(choose(kind, &limits, &host).ok(), expected, "{kind:?} {limits:?} {host:?}");
    }

    #[test]
    fn the_choice_follows_from_limits_and_host() {
        use Backend::{Disk, Memory, Project};
        use ScratchKind as Kind;
        let (small, large) = ((512 * MIB, 1024 * MIB), (512 * MIB, 1025 * MIB));
        for (kind, limits, host, expected) in [
            (Kind::Auto, small, (true, true, false), Some(Memory)),
            (Kind::Auto, large, (true, true, false), Some(Disk)),
            (Kind::Auto, small, (true, false, false), Some(Memory)),
            (Kind::Auto, large, (true, false, false), Some(Memory)),
            (Kind::Auto, small, (false, true, false), Some(Disk)),
            (Kind::Auto, small, (false, false, false), None),
            (Kind::Memory, large, (true, true, false), Some(Memory)),
            (Kind::Memory, small, (false, true, false), None),
            (Kind::Disk, small, (true, true, false), Some(Disk)),
            (Kind::Disk, small, (true, false, false), None),
            (Kind::Auto, small, (true, true, true), Some(Memory)),
            (Kind::Auto, large, (true, true, true), Some(Project)),
            (Kind::Auto, small, (false, false, true), Some(Project)),
            (Kind::Memory, large, (true, false, true), Some(Memory)),
            (Kind::Disk, small, (true, false, true), Some(Project)),
        ] {
            check(kind, limits, host, expected);
        }
    }

    #[test]
    fn kernel_releases_are_compared_as_numbers() {
        for (release, expected) in [
            ("6.6.0", true),
            ("6.18.44-fc-v669", true),
            ("10.0", true),
            ("6.1.0-40-cloud-amd64", false),
            ("5.19", false),
            ("6", false),
            ("odd", false),
        ] {
            assert_eq!(is_at_least(release, MEMORY_SINCE), expected, "{release}");
        }
    }
}
