//! Results: the run record, JUnit, the summary and progress.

pub(crate) mod quantity;
