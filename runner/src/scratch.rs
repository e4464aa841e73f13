//! Where containers keep what they write: the command line's word, or the configuration's.

use clap::ValueEnum;
use cofferdam_jobs::{Configuration, configuration};
use cofferdam_sandbox::ScratchKind;

/// `--scratch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scratch {
    /// On disk where the limit of disk is more than twice that of memory
    Auto,
    /// In memory, as part of the container's
    Memory,
    /// On disk
    Disk,
}

/// What the sandbox is asked for.
pub(crate) fn kind(said: Option<Scratch>, configuration: &Configuration) -> ScratchKind {
    match (said, configuration.scratch.as_ref().map(|scratch| scratch.value)) {
        (Some(Scratch::Memory), _) | (None, Some(configuration::Scratch::Memory)) => {
            ScratchKind::Memory
        }
        (Some(Scratch::Disk), _) | (None, Some(configuration::Scratch::Disk)) => ScratchKind::Disk,
        (Some(Scratch::Auto), _) | (None, Some(configuration::Scratch::Auto) | None) => {
            ScratchKind::Auto
        }
    }
}
