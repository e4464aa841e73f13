//! What a run has kept of a job or a step: from the words of a command to an image of the store.
//!
//! The run's record says what is kept and where. The store may have let go of it since, and a job
//! may never have run: each of these is told apart, because what to do next differs.

use std::path::Path;

use cofferdam_sandbox::image::{Digest, KeptState, Store};

use crate::{
    command::logs::{self, LAST},
    exit::Exit,
    problem::Problem,
    report::record::{AttemptRecord, JobRecord, RunRecord, StateRecord},
};

/// What was asked for, and what it is called.
#[derive(Debug)]
pub(super) struct Found {
    /// `job NAME of run ID`, for people.
    pub(super) name: String,
    pub(super) state: KeptState,
}

/// Whether `name` begins with a run, as in `RUN/JOB`: the run and the rest.
pub(super) fn split<'n>(name: &'n str, state: &Path) -> Option<(&'n str, &'n str)> {
    let (run, job) = name.split_once('/')?;
    // An image may be called so, too, and then that is meant unless there is such a run.
    let is_run = run == LAST || state.join("runs").join(run).is_dir();
    (is_run && !run.is_empty()).then_some((run, job))
}

/// Finds what `run` has kept of `JOB` or `JOB@STEP`.
pub(super) fn find(store: &Store, state: &Path, run: &str, job: &str) -> Result<Found, Problem> {
    let directory = logs::find(Some(Path::new(run)), state)?;
    let record = RunRecord::read(&directory).map_err(|error| {
        Problem::new(Exit::NoInput, format!("no run in `{}`", directory.display()))
            .because(error)
            .remedy("name a run's id, its directory, or `last`")
    })?;
    if record.conclusion.is_none() {
        let message = format!("run `{}` has not ended, or was killed", record.id);
        return Err(Problem::new(Exit::NoInput, message).remedy("wait for its end"));
    }
    let (job, step) = chosen(&record, job)?;
    let attempt = job.attempts.last().ok_or_else(|| did_not_run(&record, job))?;
    let (what, kept) = match step {
        None => (format!("job `{}`", job.name), attempt.state.as_ref()),
        Some(step) => {
            let what = format!("step `{step}` of job `{}`", job.name);
            let kept = state_after(&record, job, attempt, step)?;
            (what, kept)
        }
    };
    let name = format!("{what} of run `{}`", record.id);
    let message = || format!("there is no state of {name}");
    let again = |how: &str| {
        format!("run it again: cofferdam run {} {how}", record.pipeline.file.escape_debug())
    };
    let how = if step.is_some() { "--keep-state=steps" } else { "--keep-state" };
    let Some(StateRecord { image, why, .. }) = kept else {
        let makes_image = job.id.strip_prefix("image ");
        let (why, remedy) =
            match (makes_image, job.image.as_ref().and_then(|it| it.digest.as_ref())) {
                (Some(_), Some(digest)) => (
                    "it is the making of an image, which is kept as that",
                    format!("name that: cofferdam image tag {digest} NAME"),
                ),
                _ => ("it was not to be kept", again(how)),
            };
        return Err(Problem::new(Exit::NoInput, message()).because(why).remedy(remedy));
    };
    let digest = image.as_ref().and_then(|image| image.parse::<Digest>().ok());
    let Some(digest) = digest else {
        let why = why.clone().unwrap_or_else(|| "its record is malformed".to_owned());
        return Err(
            Problem::new(Exit::NoInput, message()).because(format!("it could not be kept: {why}"))
        );
    };
    match store.kept_state(&digest)? {
        Some(state) => Ok(Found { name, state }),
        None => Err(Problem::new(Exit::NoInput, message())
            .because("the image store needed the room and has let go of it")
            .remedy(format!(
                "{}; what has a name stays longer, and `images: {{ keep }}` of the configuration is how much may stay",
                again(how)
            ))),
    }
}

/// The job that is meant, and the step. Names may have `@` in them, so the whole is tried first.
fn chosen<'r, 'n>(
    record: &'r RunRecord,
    said: &'n str,
) -> Result<(&'r JobRecord, Option<&'n str>), Problem> {
    let named = |name: &str| -> Vec<&JobRecord> {
        let by_name = record.jobs.iter().find(|job| job.name == name);
        match by_name {
            Some(job) => vec![job],
            None => record.jobs.iter().filter(|job| job.id == name).collect(),
        }
    };
    let (mut found, mut step) = (named(said), None);
    if let (true, Some((job, after))) = (found.is_empty(), said.rsplit_once('@')) {
        (found, step) = (named(job), Some(after));
    }
    match found.as_slice() {
        [job] => Ok((job, step)),
        [] => {
            let message = format!("run `{}` has no job `{}`", record.id, said.escape_debug());
            let names = record.jobs.iter().map(|job| job.name.as_str());
            Err(Problem::new(Exit::NoInput, message).remedy(listed(names)))
        }
        several => {
            let message = format!("`{}` are several jobs", said.escape_debug());
            let names = several.iter().map(|job| job.name.as_str());
            Err(Problem::new(Exit::Usage, message).remedy(listed(names)))
        }
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    format!("there are {}", names.join(", "))
}

fn did_not_run(record: &RunRecord, job: &JobRecord) -> Problem {
    let why = job.why.clone().unwrap_or_else(|| job.conclusion.word().to_owned());
    let message = format!("job `{}` of run `{}` did not run", job.name, record.id);
    Problem::new(Exit::NoInput, message)
        .because(why)
        .remedy(format!("`cofferdam explain --run {}` says which did", record.id))
}

/// What is kept after a step, by its id, its name or its number. After the last one that ran, that
/// is what the job ended with.
fn state_after<'r>(
    record: &RunRecord,
    job: &JobRecord,
    attempt: &'r AttemptRecord,
    said: &str,
) -> Result<Option<&'r StateRecord>, Problem> {
    let number = said.parse::<usize>().ok();
    let steps = &attempt.steps;
    let named = |step: &crate::report::record::StepRecord| {
        step.id.as_deref() == Some(said) || step.name == said
    };
    let index = steps.iter().position(named).or_else(|| {
        let index = number?.checked_sub(1)?;
        (index < steps.len()).then_some(index)
    });
    let Some((index, step)) = index.and_then(|index| Some((index, steps.get(index)?))) else {
        let message = format!("job `{}` has no step `{}`", job.name, said.escape_debug());
        let names = steps.iter().map(|step| step.id.as_deref().unwrap_or(&step.name));
        return Err(Problem::new(Exit::NoInput, message).remedy(listed(names)));
    };
    if step.started.is_none() {
        let message = format!("step `{said}` of job `{}` did not run", job.name);
        let why = step.why.clone().unwrap_or_else(|| step.conclusion.word().to_owned());
        return Err(Problem::new(Exit::NoInput, message)
            .because(why)
            .remedy(format!("`cofferdam explain --run {}` says which did", record.id)));
    }
    let is_last = !steps.iter().skip(index + 1).any(|later| later.started.is_some());
    Ok(step.state.as_ref().or_else(|| attempt.state.as_ref().filter(|_| is_last)))
}
