//! The configuration as it is read from its file.

use super::Allowance;
use crate::{
    decode::Decoder,
    diagnostic::{Diagnostic, Report},
    model::Registries,
    source::{FileId, Sources, Spanned},
    state::Capacity,
    yaml,
};

/// A machine's configuration; what is left out is for the defaults of the command that reads it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configuration {
    /// Where images and runs are kept, as an absolute path.
    pub state: Option<Spanned<String>>,
    /// Where jobs keep what they write.
    pub scratch: Option<Spanned<Scratch>>,
    /// What a job has that does not say.
    pub defaults: Allowance,
    /// The most that a job may ask for.
    pub ceilings: Allowance,
    /// What all running jobs may use together.
    pub capacity: Capacity,
    /// Limits that jobs may go without where the host cannot enforce them.
    pub downgrades: Vec<Spanned<Downgrade>>,
    /// Whether 32-bit x86 programs may run on x86-64.
    pub i386: Option<Spanned<bool>>,
    /// How images are fetched.
    pub registries: Registries,
    /// How many bytes of images are kept, beside those that cannot be fetched again.
    pub keep_images: Option<Spanned<u64>>,
}

/// Where a job keeps what it writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scratch {
    /// In memory, or on disk where the limit of disk is much larger than that of memory.
    #[default]
    Auto,
    /// In memory, as part of the job's.
    Memory,
    /// On disk.
    Disk,
}

/// A limit that some hosts cannot enforce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Downgrade {
    /// Bytes of memory.
    Memory,
    /// That memory is not swapped out.
    Swap,
    /// Processes and threads.
    Pids,
    /// Processor time.
    Cpus,
    /// Which device nodes can be opened.
    Devices,
    /// Bytes per second to and from disks.
    Io,
}

impl Downgrade {
    /// The words for them.
    pub const WORDS: &'static [(&'static str, Self)] = &[
        ("memory", Self::Memory),
        ("swap", Self::Swap),
        ("pids", Self::Pids),
        ("cpus", Self::Cpus),
        ("devices", Self::Devices),
        ("io", Self::Io),
    ];
}

/// Reads a configuration; where there is any fault it is [`None`]. An empty file says nothing, and
/// is none.
///
/// # Errors
/// All faults with their places.
pub fn parse(sources: &Sources, id: FileId) -> Result<Configuration, Vec<Diagnostic>> {
    let mut report = Report::new();
    let Some(file) = sources.file(id) else { return Ok(Configuration::default()) };
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if file.unreadable().is_none() && file.text().lines().all(blank) {
        return Ok(Configuration::default());
    }
    let configuration = yaml::scan(file, id, &mut report)
        .map(|tree| Decoder::new(&tree, file, &mut report).configuration(tree.root()));
    match configuration {
        Some(configuration) if report.errors() == 0 => Ok(configuration),
        _ => Err(report.finish()),
    }
}
