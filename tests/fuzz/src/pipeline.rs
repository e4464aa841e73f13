//! A file through reader, checks and plan: any fault has its place, and a plan keeps its promises.

use cofferdam_jobs::{Inputs, Pipeline, Sources, parse, plan};

use crate::{diagnostics, graph};

pub(crate) fn run(input: &[u8]) {
    let mut sources = Sources::new();
    let file = sources.add("cofferdam.yml", input);
    let parsed = parse(&sources, file);
    diagnostics::check(&parsed.diagnostics, &sources);
    assert_eq!(parsed.pipeline.is_some(), !parsed.has_errors());
    if let Some(pipeline) = parsed.pipeline {
        planned(&pipeline, &sources);
    }
}

/// Plans all of a pipeline, and then each of its first jobs by itself with what it needs.
fn planned(pipeline: &Pipeline, sources: &Sources) {
    match plan(pipeline, &Inputs::default()) {
        Ok(plan) => {
            graph::ordered(&plan);
            plan.features();
            plan.hashes();
        }
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without a reason");
            diagnostics::check(&faults, sources);
        }
    }
    for job in pipeline.jobs.iter().take(3) {
        let jobs = vec![job.id.value.clone()];
        match plan(pipeline, &Inputs { jobs, ..Inputs::default() }) {
            Ok(plan) => {
                graph::ordered(&plan);
                assert_eq!(plan.groups.last().map(|group| &group.id), Some(&job.id.value));
            }
            Err(faults) => diagnostics::check(&faults, sources),
        }
    }
}
