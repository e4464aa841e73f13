//! The compiled programs and how one is put in force.

use std::{fmt, io};

use libc::sock_filter;
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
};
use serde::{Deserialize, Serialize};

use crate::sys;

/// The architectures that there is a filter for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

impl Arch {
    /// The architecture that this crate was built for.
    #[cfg(target_arch = "x86_64")]
    pub const HOST: Self = Self::X86_64;
    /// The architecture that this crate was built for.
    #[cfg(target_arch = "aarch64")]
    pub const HOST: Self = Self::Aarch64;
}

/// What becomes of a process that calls the kernel by another ABI than the machine's own.
///
/// The numbers mean other calls there, so a filter that ignores the ABI lets everything through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForeignAbi {
    /// It is killed with SIGSYS at its first such call.
    #[default]
    Kill,
    /// On x86-64, 32-bit x86 programs run under the same policy, but `socketcall` fails with ENOSYS,
    /// because what it does cannot be seen. x32 is killed all the same, and on other architectures
    /// this is [`ForeignAbi::Kill`].
    AllowI386,
}

/// A compiled filter.
#[derive(Clone, Copy)]
pub struct Program {
    instructions: &'static [sock_filter],
}

include!(concat!(env!("OUT_DIR"), "/seccomp_programs.rs"));

/// The filter of an architecture under a policy for foreign ABIs.
pub fn program(arch: Arch, foreign: ForeignAbi) -> Program {
    let instructions: &'static [sock_filter] = match (arch, foreign) {
        (Arch::X86_64, ForeignAbi::Kill) => &X86_64,
        (Arch::X86_64, ForeignAbi::AllowI386) => &X86_64_WITH_I386,
        (Arch::Aarch64, _) => &AARCH64,
    };
    Program { instructions }
}

/// The filter of this machine under the default policy.
pub fn filter() -> Program {
    program(Arch::HOST, ForeignAbi::default())
}

impl Program {
    #[cfg(test)]
    pub(crate) fn of(instructions: &'static [sock_filter]) -> Self {
        Self { instructions }
    }

    /// The instructions, as the kernel takes them.
    pub fn instructions(&self) -> &'static [sock_filter] {
        self.instructions
    }

    /// Puts the filter in force for all threads of the calling process and what they start; there
    /// is no way back. Then tries a call that the policy denies. Allocates nothing.
    ///
    /// # Errors
    /// `EACCES` unless `PR_SET_NO_NEW_PRIVS` was set before, `EINVAL` on a kernel without seccomp
    /// filters, `ESRCH` when another thread runs under a filter that this one cannot follow;
    /// [`io::ErrorKind::Other`] when the denied call went through all the same.
    pub fn install(&self) -> io::Result<()> {
        sys::seccomp::install(self.instructions)?;
        // Without a flag this is a call that changes nothing and always succeeds.
        match unshare(CloneFlags::empty()) {
            Err(Errno::EPERM) => Ok(()),
            _ => Err(io::ErrorKind::Other.into()),
        }
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("instructions", &self.instructions.len()).finish()
    }
}
