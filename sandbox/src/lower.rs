//! Lower layers and bind mounts: trees of the host, shown with the container's ids.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::Path,
};

use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};

use crate::{
    error::{Error, Result},
    init::message::OwnTree,
    sys::mount::{Attributes, Tree, map_ids, open_tree, restrict, restrict_recursively},
};

const PLAIN: Attributes = Attributes::NOSUID.and(Attributes::NODEV);

/// A detached copy of a tree with the ids that it has on the host, made by the init in its own
/// namespaces: its user's files show as root's there.
pub(crate) fn own_tree(tree: &OwnTree) -> Result<OwnedFd> {
    let attributes = if tree.read_only { PLAIN.and(Attributes::RDONLY) } else { PLAIN };
    let copy = || -> io::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let source = openat2(AT_FDCWD, &tree.path, how)?;
        let kind = if tree.recursive { Tree::CopyRecursive } else { Tree::Copy };
        let copy = open_tree(source, c"", kind)?;
        restrict_recursively(&copy, attributes)?;
        Ok(copy)
    };
    copy().map_err(|error| {
        let doing = format!("show `{}` in the container", tree.path.display());
        if error.raw_os_error() == Some(libc::EINVAL) && !tree.recursive {
            let why = "something else is mounted below it, which only root can leave out";
            return Error::pipeline(doing, why);
        }
        Error::system(doing, error)
    })
}

/// A detached copy of the mount at `path`, with the ids of `user_namespace`.
pub(crate) fn tree(path: &Path, user_namespace: impl AsFd, read_only: bool) -> Result<OwnedFd> {
    let attributes = if read_only { PLAIN.and(Attributes::RDONLY) } else { PLAIN };
    let copy = open(path).and_then(|source| open_tree(source, c"", Tree::Copy));
    let copy =
        copy.map_err(|error| Error::system(format!("open the tree `{}`", path.display()), error))?;
    map_ids(&copy, user_namespace, attributes).map_err(|error| {
        Error::system(format!("show `{}` with the container's ids", path.display()), error).remedy(
            "its file system does not support id-mapped mounts (ext4, xfs, btrfs and, since Linux \
             6.3, tmpfs do): move it, or choose another state directory with `--state`",
        )
    })?;
    Ok(copy)
}

/// A detached, read-only copy of the mount that `source` is in: programs of the host, at `path`.
///
/// Its files keep the ids that they have on the host and so are nobody's in the container: its root
/// reads of them what everyone on the host may, and nothing that is kept for root.
pub(crate) fn programs(source: impl AsFd, path: &Path) -> Result<OwnedFd> {
    let show = || -> io::Result<OwnedFd> {
        let copy = open_tree(source, c"", Tree::Copy)?;
        restrict(&copy, PLAIN.and(Attributes::RDONLY))?;
        Ok(copy)
    };
    show().map_err(|error| {
        Error::system(format!("show `{}` in the container", path.display()), error)
    })
}

/// The file or directory at `path`, to be referred to.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path)
}
