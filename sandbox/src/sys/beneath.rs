//! Opening below a directory without ever leaving it, and the extended attributes of open files.
//!
//! `openat2(2)` resolves the whole path in one call, so nothing can be swapped between looking and
//! opening. Symbolic links, magic links and other mounts end the resolution with an error instead
//! of being followed: what is opened is what was named.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use nix::{
    NixPath,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::Mode,
};

/// Opens `path` below `root`; fails with `ELOOP` at a symbolic link and `EXDEV` at a mount or `..`
/// that would leave. `O_CLOEXEC` is always set.
pub(crate) fn open_beneath<P: NixPath + ?Sized>(
    root: BorrowedFd<'_>,
    path: &P,
    flags: OFlag,
) -> io::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(Mode::empty()).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_XDEV,
    );
    Ok(openat2(root, path, how)?)
}

/// Opens `path` as a process would whose root is `root`: links are followed, and lead nowhere else.
/// `O_CLOEXEC` is always set.
pub(crate) fn open_in_root<P: NixPath + ?Sized>(
    root: BorrowedFd<'_>,
    path: &P,
    flags: OFlag,
) -> io::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(Mode::empty()).resolve(
        ResolveFlag::RESOLVE_IN_ROOT
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_XDEV,
    );
    Ok(openat2(root, path, how)?)
}

/// Sets the extended attribute `name` of an open file (`fsetxattr(2)`).
pub(crate) fn set_attribute(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: `name` is NUL-terminated, `value` is valid for the given length, and the kernel
    // only reads from both.
    let result = unsafe {
        libc::fsetxattr(
            file.as_raw_fd(),
            name.as_ptr(),
            value.as_ptr().cast::<libc::c_void>(),
            value.len(),
            0,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The extended attribute `name` of an open file, at most 64 KiB (the kernel's own bound), or
/// `None` where it is not set or the file system has none (`fgetxattr(2)`).
pub(crate) fn attribute(file: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0_u8; 64 * 1024];
    // SAFETY: `name` is NUL-terminated and `value` is writable for the given length.
    let length = unsafe {
        libc::fgetxattr(
            file.as_raw_fd(),
            name.as_ptr(),
            value.as_mut_ptr().cast::<libc::c_void>(),
            value.len(),
        )
    };
    match usize::try_from(length) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(_) => match io::Error::last_os_error() {
            error if matches!(error.raw_os_error(), Some(libc::ENODATA | libc::EOPNOTSUPP)) => {
                Ok(None)
            }
            error => Err(error),
        },
    }
}

/// The names of the extended attributes of an open file, at most 64 KiB in all (`flistxattr(2)`).
pub(crate) fn attribute_names(file: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut names = vec![0_u8; 64 * 1024];
    // SAFETY: `names` is writable for the given length.
    let length = unsafe {
        libc::flistxattr(file.as_raw_fd(), names.as_mut_ptr().cast::<libc::c_char>(), names.len())
    };
    match usize::try_from(length) {
        Ok(length) => {
            names.truncate(length);
            let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
            Ok(names.map(<[u8]>::to_vec).collect())
        }
        Err(_) => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Vec::new()),
            error => Err(error),
        },
    }
}
