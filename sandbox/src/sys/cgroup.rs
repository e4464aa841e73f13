//! The mark of a delegated control group.

use std::{
    ffi::{CStr, CString},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

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
