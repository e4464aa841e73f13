//! Step output on its way from the job to the run's record and to a person's eyes.
//!
//! Everything here is synchronous and takes bytes in large chunks: the executor calls
//! [`StepLog`](step_log::StepLog) from its read loop. The order is fixed: masking first, on raw
//! bytes ([`Masker`](masker::Masker)); then keeping ([`Recorder`](recorder::Recorder)) and showing
//! ([`Sanitizer`](terminal::Sanitizer)), which see masked bytes only.

mod encodings;
pub(crate) mod file_names;
pub(crate) mod index;
pub(crate) mod masker;
pub(crate) mod needles;
pub(crate) mod reader;
pub(crate) mod recorder;
pub(crate) mod secret;
pub(crate) mod step_log;
mod tail;
pub(crate) mod terminal;
