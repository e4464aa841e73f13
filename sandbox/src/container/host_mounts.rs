//! What is mounted below the directories of this host that the image `host` shows, such as a
//! `/usr/local` of its own.
//!
//! A copy of one mount shows the empty directories beneath the others, so those are shown one by one,
//! each in its place. **Invariant:** no file system of a user's is among them, which could answer root
//! with whatever it likes, or never. What stands in the mount namespace of the machine was mounted
//! there by its root, or by a program of root's for a user, which only FUSE has.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};

use crate::{
    error::{Doing as _, Error, Result},
    ids, kernel_file,
    mount_table::{self, Mount},
    sys,
};

/// More than any host has, and few enough for a moment.
const MOST: usize = 64;
/// The kernel's own, which stands for what is mounted when somebody looks.
const AUTOMOUNT: &str = "autofs";

/// A mount below a directory that is shown.
#[derive(Debug)]
pub(super) struct Below {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Its root.
    pub(super) place: OwnedFd,
    /// Whether that is a directory; otherwise it is a file.
    pub(super) is_directory: bool,
}

/// What is in sight below `directory`, outer mounts first.
///
/// # Errors
/// Where one of them is not root's.
pub(super) fn below(directory: &Path) -> Result<Vec<Below>> {
    let doing = || format!("show `{}` of this host in a container", directory.display());
    let table = kernel_file::read("/proc/self/mountinfo").system(doing)?;
    let points = points(&table, directory).map_err(|why| refused(doing(), why))?;
    let Some(first) = points.first() else { return Ok(Vec::new()) };
    if !is_in_namespace_of_root().system(doing)? {
        let why = format!(
            "`{}` is mounted below it in a mount namespace that belongs to a user's",
            first.display()
        );
        return Err(refused(doing(), why));
    }
    let found = points.into_iter().filter_map(|path| open(&table, path).transpose());
    found.collect::<io::Result<_>>().system(doing)
}

fn refused(doing: String, why: String) -> Error {
    Error::system(doing, why)
        .remedy("use an image other than `host`, or unmount what is named while jobs run")
}

/// The places below `directory` on which something is mounted.
fn points(table: &str, directory: &Path) -> std::result::Result<BTreeSet<PathBuf>, String> {
    let below = |mount: &Mount<'_>| mount.point != directory && mount.point.starts_with(directory);
    let mut points = BTreeSet::new();
    for mount in mount_table::mounts(table).filter(below) {
        if is_of_a_user(&mount) {
            let point = mount.point.display();
            return Err(format!("`{point}` is mounted below it by a user ({})", mount.kind));
        }
        if mount.kind != AUTOMOUNT {
            points.insert(mount.point);
        }
        if points.len() > MOST {
            return Err(format!("more than {MOST} places are mounted on below it"));
        }
    }
    Ok(points)
}

/// Whether a user's program serves a file system. The option is always there (fuse(4)).
fn is_of_a_user(mount: &Mount<'_>) -> bool {
    let is_fuse = mount.kind.starts_with("fuse") && mount.kind != "fusectl";
    is_fuse && !mount.options.split(',').any(|option| option == "user_id=0")
}

/// Whether only root of the machine mounts in this process' mount namespace.
fn is_in_namespace_of_root() -> io::Result<bool> {
    let owner = match sys::namespace::owner(File::open("/proc/self/ns/mnt")?) {
        // That of a user namespace which is none of this process' or below it.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Ok(false),
        other => File::from(other?).metadata()?.ino(),
    };
    Ok(ids::in_first_namespace()? && fs::metadata("/proc/self/ns/user")?.ino() == owner)
}

/// The mount that is in sight at `path`; `None` where another one covers it.
fn open(table: &str, path: PathBuf) -> io::Result<Option<Below>> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let place = match openat2(AT_FDCWD, &path, how) {
        Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => return Ok(None),
        other => other?,
    };
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", place.as_raw_fd()))?;
    let number = about.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim);
    let is_shown = |mount: Mount<'_>| Some(mount.number) == number && mount.point == path;
    if !mount_table::mounts(table).any(is_shown) {
        return Ok(None);
    }
    let place = File::from(place);
    let is_directory = place.metadata()?.is_dir();
    Ok(Some(Below { path, place: place.into(), is_directory }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_and_no_users() {
        const TABLE: &str = "\
21 1 254:1 / / rw - ext4 /dev/vda rw
22 21 254:2 / /usr rw - ext4 /dev/vdb rw
23 22 254:3 / /usr/local rw - xfs /dev/vdc rw
24 22 0:30 / /usr/lib/x rw - autofs systemd-1 rw
25 23 0:31 / /usr/local/a rw - fuse.of-root x rw,user_id=0,group_id=0
26 21 0:32 / /usrs rw - tmpfs none rw
";
        let check = |more: &str, expected: std::result::Result<&[&str], &str>| {
            let table = format!("{TABLE}{more}");
            let found = points(&table, Path::new("/usr"));
            let expected = expected.map(|all| all.iter().map(PathBuf::from).collect());
            assert_eq!(found, expected.map_err(str::to_owned), "{more}");
        };
        check("", Ok(&["/usr/local", "/usr/local/a"]));
        check(
            "27 22 0:33 / /usr/b rw - fuse.sshfs u@h: rw,user_id=1000,group_id=1000,allow_other\n",
            Err("`/usr/b` is mounted below it by a user (fuse.sshfs)"),
        );
        check(
            "27 22 0:33 / /usr/b rw - fuse x rw,user_id=01\n",
            Err("`/usr/b` is mounted below it by a user (fuse)"),
        );
        let many: String = (0..=MOST)
            .map(|each| format!("{} 22 0:9 / /usr/m/{each} rw - tmpfs x rw\n", each + 100))
            .collect();
        check(&many, Err("more than 64 places are mounted on below it"));
    }
}
