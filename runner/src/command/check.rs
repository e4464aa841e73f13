//! `cofferdam check`: all faults of a pipeline, before anything runs.

use std::path::Path;

use cofferdam_jobs::{Diagnostic, Severity, diagnostic::Label};
use serde_json::{Value, json};

use crate::{
    command::sarif,
    execute::pipeline::{self, PipelineFile},
    exit::Exit,
    print,
    problem::Problem,
    report::quantity::count,
};

/// Checks `path`; faults end with [`Exit::Data`].
pub(super) fn run(path: &Path, json: bool, sarif: bool) -> Result<u8, Problem> {
    let file = pipeline::read(path, &pipeline::project(path, None))?;
    if json || sarif {
        let faults = || file.diagnostics.iter().map(|diagnostic| to_json(diagnostic, &file));
        let text = match sarif {
            true => sarif::log(&file.diagnostics, &file.sources),
            false => Value::from(faults().collect::<Vec<_>>()),
        };
        print::standard_output(text)?;
        return Ok(if file.pipeline.is_some() { Exit::Passed } else { Exit::Data }.code());
    }
    file.draw(&file.diagnostics);
    let Some(pipeline) = &file.pipeline else {
        return Err(file.faults(path, &file.diagnostics));
    };
    let jobs = count(pipeline.jobs.len() as u64, "job");
    print::standard_error(format_args!("`{}` is well-formed: {jobs}", path.display()));
    Ok(Exit::Passed.code())
}

fn to_json(diagnostic: &Diagnostic, file: &PipelineFile) -> Value {
    let place = |label: &Label| {
        let source = file.sources.file(label.span.file);
        let start = source.map(|source| source.position(label.span.start));
        let end = source.map(|source| source.position(label.span.end));
        json!({
            "file": source.map(|source| source.name()),
            "line": start.map(|it| it.line),
            "column": start.map(|it| it.column),
            "end_line": end.map(|it| it.line),
            "end_column": end.map(|it| it.column),
            "text": label.text,
        })
    };
    json!({
        "code": diagnostic.code.to_string(),
        "severity": if diagnostic.severity == Severity::Error { "error" } else { "warning" },
        "message": diagnostic.message,
        "places": diagnostic.labels.iter().map(place).collect::<Vec<_>>(),
        "help": diagnostic.help,
    })
}
