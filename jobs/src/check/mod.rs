//! What the shape of a file does not show: names, the graph of jobs, what expressions look up.
//!
//! Everything here looks at the model alone and reports, so that the order of the checks does not
//! matter and one fault does not hide another.

mod expressions;
mod graph;
mod images;
mod injection;
mod names;
mod reference;
mod values;

use std::collections::{HashMap, HashSet};

use crate::{diagnostic::Report, model::Pipeline};

pub(crate) use reference::{is_host, is_image_reference};
pub(crate) use values::{climbs, is_user};

/// Reports all that is wrong with a pipeline.
pub(crate) fn check(pipeline: &Pipeline, report: &mut Report) {
    let jobs: HashMap<&str, usize> =
        pipeline.jobs.iter().enumerate().map(|(index, job)| (job.id.as_str(), index)).collect();
    let params = pipeline.params.iter().map(|param| param.name.as_str()).collect();
    let closed_params = pipeline.params.iter().filter(|param| !param.options.is_empty());
    let closed_params = closed_params.map(|param| param.name.as_str()).collect();
    let outputs = pipeline.jobs.iter().map(|job| {
        let names = job.outputs.iter().map(|(name, _)| name.as_str()).collect();
        (job.id.as_str(), names)
    });
    let outputs = outputs.collect();
    let secrets = pipeline.secrets.iter().map(|secret| secret.value.as_str()).collect();
    let mut checker = Checker { pipeline, jobs, params, closed_params, secrets, outputs, report };
    checker.names();
    checker.graph();
    checker.values();
    checker.images();
    checker.expressions();
}

struct Checker<'p> {
    pipeline: &'p Pipeline,
    /// Indexes of jobs by id.
    jobs: HashMap<&'p str, usize>,
    params: HashSet<&'p str>,
    /// Parameters that have `options`.
    closed_params: HashSet<&'p str>,
    secrets: HashSet<&'p str>,
    /// Names of the outputs of each job.
    outputs: HashMap<&'p str, HashSet<&'p str>>,
    report: &'p mut Report,
}
