//! A file to a pipeline that is known to make sense, or to all of its faults.

use crate::{
    check::check,
    decode::Decoder,
    diagnostic::{Code, Diagnostic, Report, Severity},
    include::{Find, Reader},
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

/// Reads and checks a file, with all files that it includes, which are added to `sources`.
///
/// Bounded in time and memory whatever the bytes are.
pub fn parse_with(sources: &mut Sources, id: FileId, find: Find<'_>) -> Parsed {
    let mut report = Report::new();
    let pipeline = Reader::new(find).read(sources, id, &mut report).inspect(|pipeline| {
        if pipeline.jobs.is_empty() && report.errors() == 0 {
            report.push(
                Diagnostic::error(Code::MissingKey, "there are no jobs in any of the files")
                    .help("add `jobs: { NAME: { steps: […] } }`"),
            );
        }
        check(pipeline, &mut report);
    });
    let pipeline = pipeline.filter(|_| report.errors() == 0);
    Parsed { pipeline, diagnostics: report.finish() }
}

/// Reads and checks a file by itself: what it includes is not looked at.
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
