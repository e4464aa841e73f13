//! A file to a pipeline that is known to make sense, or to all of its faults.

use crate::{
    check::check,
    decode::Decoder,
    diagnostic::{Diagnostic, Report, Severity},
    model::Pipeline,
    source::{FileId, Sources},
    yaml,
};

/// What became of a file.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The pipeline, unless there was an error.
    pub pipeline: Option<Pipeline>,
    /// All errors and warnings, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// Whether there is any error.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

/// Reads and checks a file.
///
/// Bounded in time and memory whatever the bytes are.
pub fn parse(sources: &Sources, id: FileId) -> Parsed {
    let mut report = Report::new();
    let pipeline = sources.file(id).and_then(|file| {
        let tree = yaml::scan(file, id, &mut report)?;
        let pipeline = Decoder::new(&tree, file, &mut report).pipeline(tree.root());
        check(&pipeline, &mut report);
        Some(pipeline)
    });
    let pipeline = pipeline.filter(|_| report.errors() == 0);
    Parsed { pipeline, diagnostics: report.finish() }
}
