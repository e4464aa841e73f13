//! System calls that `nix` does not wrap: the only unsafe code of the workspace.
//!
//! One file per area; every function here is safe to call, checks its arguments, and returns
//! [`std::io::Error`] with the kernel's errno. Nothing here decides anything.
#![expect(unsafe_code, reason = "the one address of unsafe code")]

pub(crate) mod beneath;
pub(crate) mod bpf;
pub(crate) mod cgroup;
pub(crate) mod loop_device;
pub(crate) mod mount;
pub(crate) mod namespace;
pub(crate) mod network;
pub(crate) mod process;
pub(crate) mod quota;
pub(crate) mod readiness;
pub(crate) mod seccomp;
pub(crate) mod terminal;

use std::io;

/// Turns a raw system call's result into a value or the kernel's errno.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
