//! `cofferdam plan`: what would run, before anything does.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use cofferdam_jobs::{Configuration, Inputs, Plan};

use crate::{
    cli,
    execute::{
        forecast::{Forecasts, forecasts},
        inputs,
        pipeline::{self, PipelineFile},
    },
    exit::Exit,
    limits, print,
    problem::Problem,
    report::plan,
};

/// Prints the plan of a pipeline.
pub(super) fn run(
    arguments: &cli::Plan,
    configuration: &Configuration,
    state: &dyn Fn() -> Result<PathBuf, Problem>,
) -> Result<u8, Problem> {
    let Planned { file, plan, workspace } =
        plan_of(&arguments.file, &arguments.chosen, configuration)?;
    let form = arguments.form;
    let forecasts = || forecasts_of(&plan, &workspace, state);
    let text = if form.json {
        let document = plan::json(&plan, &file.sources, &forecasts()?);
        serde_json::to_string_pretty(&document).unwrap_or_default()
    } else if form.dot {
        plan::dot(&plan)
    } else if form.mermaid {
        plan::mermaid(&plan)
    } else if form.tree {
        plan::tree(&plan)
    } else {
        plan::table(&plan, &forecasts()?)
    };
    print::standard_output(text.trim_end())?;
    Ok(Exit::Passed.code())
}

/// A pipeline that can be run.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) file: PipelineFile,
    pub(super) plan: Arc<Plan>,
    /// The project.
    pub(super) workspace: PathBuf,
}

/// What would be done with the steps of its images.
pub(super) fn forecasts_of(
    plan: &Arc<Plan>,
    workspace: &Path,
    state: &dyn Fn() -> Result<PathBuf, Problem>,
) -> Result<Forecasts, Problem> {
    match plan.jobs.iter().any(|job| job.build.is_some()) {
        true => forecasts(plan, workspace, &state()?),
        false => Ok(Forecasts::new()),
    }
}

/// The plan of a pipeline; faults are drawn.
pub(super) fn plan_of(
    path: &Path,
    chosen: &cli::Chosen,
    configuration: &Configuration,
) -> Result<Planned, Problem> {
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
        Ok(plan) => Ok(Planned { file, plan: Arc::new(plan), workspace }),
        Err(faults) => {
            file.draw(&faults);
            Err(file.faults(path, &faults))
        }
    }
}
