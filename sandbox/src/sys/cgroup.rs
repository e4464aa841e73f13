//! What control groups need beside files: the mark of delegation, and signals that cannot go astray.

use std::{
    ffi::{CStr, CString},
    io,
    os::{
        fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use libc::{SYS_pidfd_open, SYS_pidfd_send_signal, c_int, syscall};

/// Whether systemd marked a group as handed over to whoever owns it ("Control Group APIs and
/// Delegation" of its documentation): `trusted.delegate` or `user.delegate` is 1.
pub(crate) fn is_delegated(directory: &Path) -> bool {
    let Ok(path) = CString::new(directory.as_os_str().as_bytes()) else { return false };
    [c"trusted.delegate", c"user.delegate"].into_iter().any(|name| is_one(&path, name))
}

fn is_one(path: &CStr, name: &CStr) -> bool {
    let mut value = [0_u8; 8];
    // SAFETY: both strings end in NUL, and the buffer is as long as it is said to be.
    let length = unsafe {
        libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
    };
    usize::try_from(length).is_ok_and(|length| value.get(..length) == Some(b"1"))
}

/// A descriptor that means this process for as long as it is open, even when the number is reused.
pub(crate) fn pidfd_open(process: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes two numbers.
    let result = unsafe { syscall(SYS_pidfd_open, process, 0) };
    let descriptor = c_int::try_from(result).unwrap_or(-1);
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor, close-on-exec, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Kills the process that a descriptor means.
pub(crate) fn pidfd_kill(process: impl AsFd) -> io::Result<()> {
    let descriptor = process.as_fd().as_raw_fd();
    let no_information = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open, and a null pointer is allowed for the information.
    let result =
        unsafe { syscall(SYS_pidfd_send_signal, descriptor, libc::SIGKILL, no_information, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
