//! The seccomp filter: a default-deny allow list, compiled to BPF when the crate is built.
//!
//! `policy.txt` says what is allowed and why, `syscalls.txt` has the numbers, `compile/` turns both
//! into one program per architecture, and [`program`] hands them out.

#[cfg(test)]
mod compile;
#[cfg(test)]
mod interpreter;
mod program;
#[cfg(test)]
mod tests;

pub use program::{Arch, ForeignAbi, Program, filter, program};
