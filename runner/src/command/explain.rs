//! `cofferdam explain`: which rule and which values make a job and its steps run or not.

use std::path::Path;

use cofferdam_jobs::{Configuration, plan::PlannedJob};

use super::{
    logs,
    plan::{Planned, forecasts_of, plan_of},
};
use crate::{
    cli::{Chosen, Explain},
    exit::Exit,
    print,
    problem::Problem,
    report::{
        explain,
        record::{JobRecord, RunRecord},
    },
};

/// Explains a pipeline, or a run of one.
pub(super) fn run(
    arguments: &Explain,
    configuration: &Configuration,
    state: &dyn Fn() -> Result<std::path::PathBuf, Problem>,
) -> Result<u8, Problem> {
    let text = match &arguments.run {
        Some(run) => after(arguments, &logs::find(Some(run), &state()?)?)?,
        None => before(arguments, configuration, state)?,
    };
    print::standard_output(text.trim_end())?;
    Ok(Exit::Passed.code())
}

fn before(
    arguments: &Explain,
    configuration: &Configuration,
    state: &dyn Fn() -> Result<std::path::PathBuf, Problem>,
) -> Result<String, Problem> {
    let chosen = Chosen { job: Vec::new(), param: arguments.param.clone(), workspace: None };
    let Planned { file, plan, workspace } = plan_of(&arguments.file, &chosen, configuration)?;
    let wanted = |job: &&PlannedJob| is_wanted(arguments, &[&job.name, &job.id, &job.source.id]);
    let jobs: Vec<&PlannedJob> = plan.jobs.iter().filter(wanted).collect();
    if jobs.is_empty() {
        return Err(no_such_job(arguments, plan.jobs.iter().map(|job| job.name.as_str())));
    }
    let forecasts = forecasts_of(&plan, &workspace, state)?;
    Ok(explain::before(&plan, &file.sources, &jobs, &forecasts))
}

fn after(arguments: &Explain, directory: &Path) -> Result<String, Problem> {
    let record = RunRecord::read(directory).map_err(|error| {
        Problem::new(Exit::NoInput, format!("no run in `{}`", directory.display())).because(error)
    })?;
    let wanted = |job: &&JobRecord| is_wanted(arguments, &[&job.name, &job.id]);
    let jobs: Vec<&JobRecord> = record.jobs.iter().filter(wanted).collect();
    if jobs.is_empty() {
        return Err(no_such_job(arguments, record.jobs.iter().map(|job| job.name.as_str())));
    }
    Ok(explain::after(&record, &jobs))
}

fn is_wanted(arguments: &Explain, names: &[&str]) -> bool {
    arguments.job.as_ref().is_none_or(|wanted| names.contains(&wanted.as_str()))
}

fn no_such_job<'a>(arguments: &Explain, names: impl Iterator<Item = &'a str>) -> Problem {
    let wanted = arguments.job.as_deref().unwrap_or_default();
    let names: Vec<&str> = names.collect();
    Problem::new(Exit::Usage, format!("there is no job `{wanted}`"))
        .remedy(format!("there are `{}`", names.join("`, `")))
}
