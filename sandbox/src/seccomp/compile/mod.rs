//! From the policy text to BPF instructions.
//!
//! Part of the build script, and of the tests; the library holds only what comes out of it. It
//! depends on nothing but the standard library.

mod assemble;
mod numbers;
mod policy;
mod rust;

#[cfg(test)]
pub(crate) use numbers::{Abi, Numbers};
#[cfg(test)]
pub(crate) use policy::{Policy, Verdict};
pub(crate) use rust::rust_source;

/// A mistake in one of the two source files.
#[derive(Debug)]
pub(crate) struct Mistake {
    /// Line of the file, from 1; 0 where the whole file is meant.
    pub(crate) line: usize,
    /// What is wrong there.
    pub(crate) what: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for Mistake {}
