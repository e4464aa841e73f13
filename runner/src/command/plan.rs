//! `cofferdam plan`: what would run, before anything does.

use std::{fs, path::Path};

use cofferdam_jobs::{Configuration, Inputs, Plan};

use crate::{
    cli,
    execute::{
        inputs,
        pipeline::{self, PipelineFile},
    },
    exit::Exit,
    limits, print,
    problem::Problem,
    report::plan,
};

/// Prints the plan of a pipeline.
pub(super) fn run(arguments: &cli::Plan, configuration: &Configuration) -> Result<u8, Problem> {
    let (file, plan) = plan_of(&arguments.file, &arguments.chosen, configuration)?;
    let form = arguments.form;
    let text = if form.json {
        serde_json::to_string_pretty(&plan::json(&plan, &file.sources)).unwrap_or_default()
    } else if form.dot {
        plan::dot(&plan)
    } else if form.mermaid {
        plan::mermaid(&plan)
    } else if form.tree {
        plan::tree(&plan)
    } else {
        plan::table(&plan)
    };
    print::standard_output(text.trim_end())?;
    Ok(Exit::Passed.code())
}

/// The plan of a pipeline; faults are drawn.
pub(super) fn plan_of(
    path: &Path,
    chosen: &cli::Chosen,
    configuration: &Configuration,
) -> Result<(PipelineFile, Plan), Problem> {
    let project = pipeline::project(path, chosen.workspace.as_deref());
    let file = pipeline::read(path, &project)?;
    file.draw(&file.diagnostics);
    let Some(pipeline) = &file.pipeline else {
        return Err(file.faults(path, &file.diagnostics));
    };
    let workspace = fs::canonicalize(&project).unwrap_or(project);
    let inputs = Inputs {
        defaults: limits::defaults(configuration),
        ceilings: configuration.ceilings.clone(),
        ..inputs::inputs(&chosen.param, &chosen.job, "none", &workspace)?
    };
    match cofferdam_jobs::plan(pipeline, &inputs) {
        Ok(plan) => Ok((file, plan)),
        Err(faults) => {
            file.draw(&faults);
            Err(file.faults(path, &faults))
        }
    }
}
