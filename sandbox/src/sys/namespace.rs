//! Who owns a namespace (`ioctl_nsfs(2)`).

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// The user namespace that owns `namespace`.
pub(crate) fn owner(namespace: impl AsFd) -> io::Result<OwnedFd> {
    const NS_GET_USERNS: libc::Ioctl = 0xb701;
    let raw = namespace.as_fd().as_raw_fd();
    // SAFETY: NS_GET_USERNS takes no argument.
    let owner = super::check(unsafe { libc::ioctl(raw, NS_GET_USERNS) }.into())?;
    let owner = i32::try_from(owner).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the kernel has just returned this descriptor to us and nobody else holds it.
    Ok(unsafe { OwnedFd::from_raw_fd(owner) })
}
