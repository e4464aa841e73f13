//! `run --keep-state`: what jobs have written stays when they, and the run, have ended.
//!
//! A state lies on the file system of its container, which goes with the runner. So what is to stay
//! becomes an image of the store: no mount is left behind, layers that jobs share are there once,
//! and the store's bound holds for it.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use cofferdam_jobs::plan::{Plan, PlannedJob};
use cofferdam_sandbox::State;

use super::in_words;
use crate::{
    build::kept,
    cli,
    exit::Exit,
    print,
    problem::Problem,
    report::{
        quantity::{Bytes, count},
        record::RunRecord,
    },
};

/// The most of a job's steps that the history of an image names, in bytes.
const NAMED: usize = 4096;

/// Keeps states of one run. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::execute) struct Keeping {
    /// The state directory.
    state: PathBuf,
    /// The run's id.
    run: String,
    stopped: Arc<AtomicBool>,
}

/// What became of a state that was to be kept.
#[derive(Clone, Debug)]
pub(in crate::execute) struct KeptState {
    /// The id of its image, and the bytes that the job wrote; or why there is none.
    pub(in crate::execute) image: Result<(String, u64), String>,
}

impl Keeping {
    pub(in crate::execute) fn new(state: PathBuf, run: String) -> Self {
        Self { state, run, stopped: Arc::default() }
    }

    /// Gives up what is under way.
    pub(in crate::execute) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Keeps `state`; blocks as long as it takes to read and write it.
    pub(in crate::execute) fn keep(&self, state: &Arc<State>) -> KeptState {
        let comment = format!("cofferdam, run {}", self.run);
        let kept = kept::keep(&self.state, state, &comment, &self.stopped);
        let image = kept.map(|kept| (kept.image.to_string(), kept.bytes));
        KeptState { image: image.map_err(|error| in_words(&error)) }
    }
}

/// What the history of an image says of a layer: the job, and the steps that wrote it.
pub(in crate::execute) fn made_by(job: &str, steps: &[String]) -> String {
    let mut said = format!("job `{job}`");
    if !steps.is_empty() {
        said = format!("{said}: {}", steps.join(", "));
    }
    let end = (0..=NAMED).rev().find(|end| said.is_char_boundary(*end)).unwrap_or_default();
    said.get(..end).map_or_else(|| said.clone(), str::to_owned)
}

/// After each step whose state is kept, the container ends with all that runs in it.
pub(in crate::execute) fn refuse_steps_in_background(
    plan: &Plan,
    asked: Option<cli::KeepState>,
) -> Result<(), Problem> {
    let stays_up = |job: &&PlannedJob| {
        job.source.steps.iter().any(|step| step.background.as_ref().is_some_and(|it| it.value))
    };
    match plan.jobs.iter().find(stays_up) {
        Some(job) if asked == Some(cli::KeepState::Steps) => {
            let message = "failed to keep the state after each step";
            let why = format!("the job `{}` has steps in the background", job.name);
            Err(Problem::new(Exit::Usage, message).because(why).remedy(
                "keep the states of whole jobs, with `--keep-state`, or choose jobs with `--job`",
            ))
        }
        _ => Ok(()),
    }
}

/// Says what is kept of a run, and what can be done with it.
pub(in crate::execute) fn tell(record: &RunRecord) {
    let (mut states, mut bytes, mut job) = (0, 0, None);
    for ended in &record.jobs {
        for attempt in &ended.attempts {
            let steps = attempt.steps.iter().map(|step| (Some(&step.name), step.state.as_ref()));
            for (step, state) in steps.chain([(None, attempt.state.as_ref())]) {
                let Some(state) = state else { continue };
                if let Some(why) = &state.why {
                    let name = &ended.name;
                    let what = step.map(|step| format!(" after the step `{step}`"));
                    let what = what.unwrap_or_default();
                    print::standard_error(format_args!(
                        "the state of job `{name}`{what} was not kept: {why}"
                    ));
                    continue;
                }
                states += 1;
                bytes += state.bytes.unwrap_or_default();
                job.get_or_insert(ended);
            }
        }
    }
    if let Some(job) = job {
        let name = &job.name;
        let quote = if name.contains(' ') { "'" } else { "" };
        print::standard_error(format_args!(
            "kept {} ({}); look at one: cofferdam image diff {quote}{}/{name}{quote}",
            count(states, "state"),
            Bytes(bytes),
            record.id
        ));
    }
}
