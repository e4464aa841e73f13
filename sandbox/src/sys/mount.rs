//! The file-descriptor mount interface: `open_tree(2)`, `move_mount(2)`, `fsopen(2)`,
//! `fsconfig(2)`, `fsmount(2)`, `mount_setattr(2)`, and `pivot_root(2)`.
//!
//! Mounts are handled as descriptors until they are placed, so a path is resolved once and cannot
//! be exchanged in between.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    ptr,
};

use super::check;

/// Attributes of a mount, as for `mount_setattr(2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes(u64);

impl Attributes {
    /// No set-user-id, set-group-id or file capabilities.
    pub(crate) const NOSUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
    /// Device files do not open their devices.
    pub(crate) const NODEV: Self = Self(libc::MOUNT_ATTR_NODEV);
    /// Nothing can be executed from here.
    pub(crate) const NOEXEC: Self = Self(libc::MOUNT_ATTR_NOEXEC);
    /// Reading changes no access time.
    pub(crate) const NOATIME: Self = Self(libc::MOUNT_ATTR_NOATIME);
    /// Nothing can be changed through this mount.
    pub(crate) const RDONLY: Self = Self(libc::MOUNT_ATTR_RDONLY);

    /// All attributes of both.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The argument of [`open_tree`]: refer to the tree as it is, or make a detached copy of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    /// A detached copy of one mount.
    Copy,
    /// A detached copy of the mount and all below it.
    CopyRecursive,
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let raw = check(result)?;
    let raw = i32::try_from(raw).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the kernel has just returned this descriptor to us and nobody else holds it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Makes a detached copy of the mount at `path` below `dir`; the last component is not followed
/// when it is a symbolic link. An empty `path` means `dir` itself.
pub(crate) fn open_tree(dir: impl AsFd, path: &CStr, tree: Tree) -> io::Result<OwnedFd> {
    let mut flags = libc::OPEN_TREE_CLONE
        | libc::OPEN_TREE_CLOEXEC
        | libc::AT_EMPTY_PATH.cast_unsigned()
        | libc::AT_SYMLINK_NOFOLLOW.cast_unsigned();
    if tree == Tree::CopyRecursive {
        flags |= libc::AT_RECURSIVE.cast_unsigned();
    }
    // SAFETY: `path` is a NUL-terminated string that outlives the call; the rest are numbers.
    owned(unsafe {
        libc::syscall(libc::SYS_open_tree, dir.as_fd().as_raw_fd(), path.as_ptr(), flags)
    })
}

/// Places the detached mount `mount` on the file or directory that `target` refers to.
pub(crate) fn move_mount(mount: impl AsFd, target: impl AsFd) -> io::Result<()> {
    move_mount_at(mount, c"", target, c"")
}

/// Places the mount at `from_path` below `from` on `to_path` below `to`; empty paths mean the
/// descriptors themselves. Symbolic links at the end are not followed.
pub(crate) fn move_mount_at(
    from: impl AsFd,
    from_path: &CStr,
    to: impl AsFd,
    to_path: &CStr,
) -> io::Result<()> {
    const FROM_EMPTY: libc::c_uint = 0x4;
    const TO_EMPTY: libc::c_uint = 0x40;
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    // SAFETY: both paths are NUL-terminated and outlive the call; the rest are numbers.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            from,
            from_path.as_ptr(),
            to,
            to_path.as_ptr(),
            FROM_EMPTY | TO_EMPTY,
        )
    })
    .map(drop)
}

/// A file system that is being configured (`fsopen(2)`).
#[derive(Debug)]
pub(crate) struct Configuration(OwnedFd);

impl Configuration {
    /// Opens a context for the file system type `kind`.
    pub(crate) fn open(kind: &CStr) -> io::Result<Self> {
        const FSOPEN_CLOEXEC: libc::c_uint = 1;
        // SAFETY: `kind` is NUL-terminated and outlives the call.
        owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) }).map(Self)
    }

    /// Sets an option with a value of at most 255 bytes.
    pub(crate) fn set(&self, key: &CStr, value: &CStr) -> io::Result<()> {
        const FSCONFIG_SET_STRING: libc::c_uint = 1;
        self.call(FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr())
    }

    /// Sets an option that takes no value.
    pub(crate) fn flag(&self, key: &CStr) -> io::Result<()> {
        const FSCONFIG_SET_FLAG: libc::c_uint = 0;
        self.call(FSCONFIG_SET_FLAG, key.as_ptr(), ptr::null())
    }

    /// Creates the file system and returns it as a detached mount with these attributes.
    pub(crate) fn mount(self, attributes: Attributes) -> io::Result<OwnedFd> {
        const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
        const FSMOUNT_CLOEXEC: libc::c_uint = 1;
        self.call(FSCONFIG_CMD_CREATE, ptr::null(), ptr::null())?;
        // SAFETY: only numbers are passed.
        owned(unsafe {
            libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), FSMOUNT_CLOEXEC, attributes.0)
        })
    }

    fn call(
        &self,
        command: libc::c_uint,
        key: *const libc::c_char,
        value: *const libc::c_char,
    ) -> io::Result<()> {
        let raw = self.0.as_raw_fd();
        // SAFETY: `key` and `value` are null or NUL-terminated strings that the callers, all in
        // this file, borrow for the length of the call.
        check(unsafe { libc::syscall(libc::SYS_fsconfig, raw, command, key, value, 0) }).map(drop)
    }
}

fn set_attributes(
    mount: BorrowedFd<'_>,
    attributes: &libc::mount_attr,
    flags: libc::c_int,
) -> io::Result<()> {
    // SAFETY: `attributes` is a valid `mount_attr` that outlives the call, and its own size is
    // passed with it.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | flags,
            ptr::from_ref(attributes),
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Adds `attributes` to a mount.
pub(crate) fn restrict(mount: impl AsFd, attributes: Attributes) -> io::Result<()> {
    set_attributes(mount.as_fd(), &added(attributes), 0)
}

/// Adds `attributes` to a mount and all mounts below it.
pub(crate) fn restrict_recursively(mount: impl AsFd, attributes: Attributes) -> io::Result<()> {
    set_attributes(mount.as_fd(), &added(attributes), libc::AT_RECURSIVE)
}

fn added(attributes: Attributes) -> libc::mount_attr {
    libc::mount_attr { attr_set: attributes.0, attr_clr: 0, propagation: 0, userns_fd: 0 }
}

/// Shows the files of a detached mount with the ids of the user namespace `user_namespace`
/// (`MOUNT_ATTR_IDMAP`), and adds `attributes`.
pub(crate) fn map_ids(
    mount: impl AsFd,
    user_namespace: impl AsFd,
    attributes: Attributes,
) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: attributes.0 | libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::from(user_namespace.as_fd().as_raw_fd().cast_unsigned()),
    };
    set_attributes(mount.as_fd(), &attributes, 0)
}

/// `pivot_root(".", ".")`: the current directory becomes the root, and the old root is mounted
/// above it, to be detached next (see the notes of the man page).
pub(crate) fn pivot_root_here() -> io::Result<()> {
    // SAFETY: both arguments are NUL-terminated constants.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) }).map(drop)
}
