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

/// What was said, by the command line before the configuration.
pub(crate) fn said(said: Option<Scratch>, configuration: &Configuration) -> configuration::Scratch {
    match said {
        Some(Scratch::Auto) => configuration::Scratch::Auto,
        Some(Scratch::Memory) => configuration::Scratch::Memory,
        Some(Scratch::Disk) => configuration::Scratch::Disk,
        None => configuration.scratch.as_ref().map(|scratch| scratch.value).unwrap_or_default(),
    }
}

/// What the sandbox is asked for.
pub(crate) fn kind(chosen: Option<Scratch>, configuration: &Configuration) -> ScratchKind {
    match said(chosen, configuration) {
        configuration::Scratch::Auto => ScratchKind::Auto,
        configuration::Scratch::Memory => ScratchKind::Memory,
        configuration::Scratch::Disk => ScratchKind::Disk,
    }
}
