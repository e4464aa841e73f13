//! Results: the run record, JUnit, the summary and progress.
//!
//! `run.json`, `junit.xml` and the summary are made from one [`RunRecord`](record::RunRecord), so
//! they cannot tell different stories.

pub(crate) mod display;
pub(crate) mod explain;
pub(crate) mod forecast;
pub(crate) mod junit;
pub(crate) mod layers;
pub(crate) mod learned;
pub(crate) mod plan;
pub(crate) mod quantity;
pub(crate) mod record;
pub(crate) mod style;
pub(crate) mod summary;
pub(crate) mod verdict;
