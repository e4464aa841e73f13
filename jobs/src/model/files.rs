//! Files that are kept: caches, artifacts, results.

use crate::{
    expr::Template,
    source::{Span, Spanned},
};

/// Paths kept between runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Cache {
    /// What the content depends on.
    pub key: Template,
    /// Beginnings of keys that will do as well.
    pub restore: Vec<Template>,
    /// What is kept.
    pub paths: Vec<Template>,
    /// Where it is written.
    pub span: Span,
}

/// Files that come out of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Artifacts {
    /// Globs relative to the working directory.
    pub paths: Vec<Template>,
    /// After which end of the job.
    pub when: When,
    /// Whether it is no fault that a glob matches nothing.
    pub optional: bool,
    /// Where it is written.
    pub span: Span,
}

/// After which end of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// All went well.
    #[default]
    Success,
    /// Something failed.
    Failure,
    /// Any.
    Always,
}

/// Test results that are read into the run's report, however the job ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Results {
    /// Globs of JUnit files.
    pub junit: Vec<Spanned<String>>,
    /// Where it is written.
    pub span: Span,
}
