//! What the shape of a file does not show: names, the graph of jobs, what expressions look up.
//!
//! Everything here looks at the model alone and reports, so that the order of the checks does not
//! matter and one fault does not hide another.

mod expressions;
mod graph;
mod injection;
mod names;
mod reference;
mod values;

use std::collections::HashMap;

use crate::{diagnostic::Report, model::Pipeline};

pub(crate) use reference::is_image_reference;

/// Reports all that is wrong with a pipeline.
pub(crate) fn check(pipeline: &Pipeline, report: &mut Report) {
    let jobs: HashMap<&str, usize> =
        pipeline.jobs.iter().enumerate().map(|(index, job)| (job.id.as_str(), index)).collect();
    let mut checker = Checker { pipeline, jobs, report };
    checker.names();
    checker.graph();
    checker.values();
    checker.expressions();
}

struct Checker<'p> {
    pipeline: &'p Pipeline,
    /// Indexes of jobs by id.
    jobs: HashMap<&'p str, usize>,
    report: &'p mut Report,
}
