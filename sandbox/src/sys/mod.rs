//! System calls that `nix` does not wrap: the only unsafe code of the workspace.
//!
//! One file per area; every function here is safe to call, checks its arguments, and returns
//! [`std::io::Error`] with the kernel's errno. Nothing here decides anything.
#![expect(unsafe_code, reason = "the one address of unsafe code")]

pub(crate) mod beneath;
pub(crate) mod bpf;
pub(crate) mod cgroup;
pub(crate) mod seccomp;
