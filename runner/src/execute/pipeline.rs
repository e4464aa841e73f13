//! Reads a pipeline file, and shows what is wrong with it.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use cofferdam_jobs::{Diagnostic, Pipeline, Severity, Sources, diagnostic::render};

use crate::{exit::Exit, print, problem::Problem, report::style::wants_colour};

/// Bytes that are read: one more than may be, so that a file that is too long is seen to be.
const BYTES_MAX: u64 = 1024 * 1024 + 1;

/// A pipeline file that was read.
#[derive(Debug)]
pub(crate) struct PipelineFile {
    pub(crate) sources: Sources,
    /// Absent where there is an error.
    pub(crate) pipeline: Option<Pipeline>,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// `sha256:` and the digest of its bytes.
    pub(crate) digest: String,
}

/// Reads and checks `path`.
pub(crate) fn read(path: &Path) -> Result<PipelineFile, Problem> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes)).map_err(
        |error| {
            let problem =
                Problem::new(Exit::NoInput, format!("failed to read `{}`", path.display()));
            let another =
                matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory);
            let problem = problem.because(error);
            if another {
                problem.remedy("name the file of a pipeline, which is written in YAML")
            } else {
                problem
            }
        },
    )?;
    let mut sources = Sources::new();
    let id = sources.add(path.display().to_string(), &bytes);
    let parsed = cofferdam_jobs::parse(&sources, id);
    let digest = super::digest::of_bytes(&bytes);
    Ok(PipelineFile { sources, pipeline: parsed.pipeline, diagnostics: parsed.diagnostics, digest })
}

impl PipelineFile {
    /// Draws `diagnostics` on standard error.
    pub(crate) fn draw(&self, diagnostics: &[Diagnostic]) {
        if !diagnostics.is_empty() {
            let colour = wants_colour(&io::stderr());
            let text = render::render_all(diagnostics, &self.sources, colour);
            print::standard_error(format_args!("{text}\n"));
        }
    }

    /// Says how many faults there are.
    pub(crate) fn faults(&self, path: &Path, diagnostics: &[Diagnostic]) -> Problem {
        let errors = diagnostics.iter().filter(|it| it.severity == Severity::Error).count();
        let faults = crate::report::quantity::count(errors as u64, "fault");
        Problem::new(Exit::Data, format!("`{}` has {faults}; nothing was run", path.display()))
    }
}
