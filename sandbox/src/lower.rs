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

/// What to do where a file system cannot show its files with other ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WithoutIdMap {
    /// An error: the job could not work with the files.
    Refuse,
    /// Show them as they are; they then belong to nobody inside, and are only readable by all.
    ShowUnmapped,
}

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
pub(crate) fn tree(
    path: &Path,
    user_namespace: impl AsFd,
    read_only: bool,
    without: WithoutIdMap,
) -> Result<OwnedFd> {
    let attributes = if read_only { PLAIN.and(Attributes::RDONLY) } else { PLAIN };
    let open = || -> io::Result<OwnedFd> {
        let source =
            File::options().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path)?;
        open_tree(source, c"", Tree::Copy)
    };
    let copy = open()
        .map_err(|error| Error::system(format!("open the tree `{}`", path.display()), error))?;
    match map_ids(&copy, user_namespace, attributes) {
        Ok(()) => Ok(copy),
        Err(error)
            if without == WithoutIdMap::ShowUnmapped
                && matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM)) =>
        {
            restrict(&copy, attributes).map_err(|error| {
                Error::system(format!("restrict the mount of `{}`", path.display()), error)
            })?;
            Ok(copy)
        }
        Err(error) => Err(Error::system(
            format!("show `{}` with the container's ids", path.display()),
            error,
        )
        .remedy(
            "its file system does not support id-mapped mounts (ext4, xfs, btrfs and, since Linux \
             6.3, tmpfs do): move it, or choose another state directory with `--state`",
        )),
    }
}
