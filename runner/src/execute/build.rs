//! The making of an image in a run: its steps are a job's, its containers are the build engine's.
//!
//! The state machine says when a step runs and when it has to end, as for any job; here its step
//! becomes one of the engine's, and what that came to a report.

pub(super) mod dockerfile;
pub(crate) mod forecast;

use std::{fs::File, io::Write as _, path::PathBuf, sync::Arc, time::SystemTime};

use cofferdam_jobs::{
    plan::{PlannedConfig, PlannedJob},
    state::{End as StepOutcome, Fault, ResolvedCommand, ResolvedStep, StepEnd, Stop},
};
use cofferdam_sandbox::{End, image::Image, with_causes};
use tokio::sync::{Mutex, mpsc};

use super::{
    job::{self, fault_of, used::Used},
    message::{StepId, StepReport},
    output::Drain,
    step::{
        JobContext, outcome, program,
        running::{self, RunningStep, Written},
    },
};
use crate::{
    build::{
        Change, Engine, Forecast, Instruction, Io, Outcome, Ran, Run, Stage, Step,
        dockerfile::{Built, Failure},
    },
    exit::Exit,
    network,
};
use dockerfile::Dockerfile;

/// The script of a step, always at one path: it is part of the step's key.
const SCRIPT: &str = "/run/cofferdam/script";
/// The most of a step that the history of an image quotes, in bytes.
const QUOTED: usize = 4096;

/// An image that is being made.
#[derive(Clone, Debug)]
pub(super) struct Build {
    stage: Arc<Mutex<Option<Stage>>>,
    /// What the containers of its steps have used.
    used: Arc<Mutex<Vec<End>>>,
    /// What its first step builds, and with what, where it is made from a Dockerfile.
    dockerfile: Option<(Arc<Dockerfile>, Engine)>,
}

/// What a step does.
enum Work {
    /// A step of the engine.
    Step(Step),
    /// All of a Dockerfile.
    Dockerfile(Arc<Dockerfile>, Engine),
}

impl Build {
    /// One that has just begun.
    pub(super) fn new(stage: Stage) -> Self {
        let used = Arc::new(Mutex::new(Vec::new()));
        Self { stage: Arc::new(Mutex::new(Some(stage))), used, dockerfile: None }
    }

    /// One whose first step is a Dockerfile, over which the others go on.
    pub(super) fn of_dockerfile(file: Arc<Dockerfile>, engine: Engine) -> Self {
        Self { stage: Arc::default(), used: Arc::default(), dockerfile: Some((file, engine)) }
    }

    /// Runs a step in a task of its own, which reports its end.
    pub(super) fn start_step(
        &self,
        id: StepId,
        planned: &PlannedJob,
        resolved: &ResolvedStep,
        (log, context): (PathBuf, &Arc<JobContext>),
    ) -> RunningStep {
        let work = match &self.dockerfile {
            Some((file, engine)) if id.step.index == 0 => {
                Work::Dockerfile(Arc::clone(file), engine.clone())
            }
            _ => Work::Step(engine_step(planned, id.step.index, resolved, context.learns)),
        };
        let running = Running { build: self.clone(), work, context: Arc::clone(context) };
        running::spawn(id, log, Arc::clone(context), |written, drain, stopped| {
            running.run(written, drain, stopped)
        })
    }

    /// What its containers have used.
    pub(super) async fn used(&self) -> Vec<End> {
        std::mem::take(&mut *self.used.lock().await)
    }

    /// Puts the image together, with what the pipeline says of its containers.
    pub(super) async fn finish(
        &self,
        config: &PlannedConfig,
    ) -> Result<Arc<Image>, (Fault, String)> {
        let stage = self.stage.lock().await.take();
        let Some(mut stage) = stage else {
            return Err((Fault::System, "the image was lost".to_owned()));
        };
        for (created_by, change) in changes(config) {
            stage.configure(&created_by, &[change]);
        }
        let finished = tokio::task::spawn_blocking(move || stage.finish(&[])).await;
        finished
            .map_err(|error| (Fault::System, error.to_string()))?
            .map_err(|error| (fault_of(&error), with_causes(&error)))
    }
}

/// A step of the engine for one of the pipeline's.
pub(crate) fn engine_step(
    planned: &PlannedJob,
    index: usize,
    resolved: &ResolvedStep,
    learns: bool,
) -> Step {
    let (argv, files) = program::command(&resolved.command, SCRIPT.to_owned());
    let own = planned.source.steps.get(index).and_then(|step| step.network.as_ref());
    let mut env: Vec<(String, String)> = vec![
        ("TMPDIR".to_owned(), "/tmp".to_owned()),
        ("CI".to_owned(), "true".to_owned()),
        ("COFFERDAM".to_owned(), "true".to_owned()),
    ];
    for variable in &resolved.env {
        env.push((variable.name.clone(), variable.value.clone()));
    }
    let run = Run {
        argv,
        files,
        env,
        workdir: resolved.workdir.clone(),
        user: resolved.user.clone(),
        network: network::of_job(own.unwrap_or(&planned.network), learns),
        limits: job::limits(planned),
        shown: Vec::new(),
        aside: Vec::new(),
        secrets: Vec::new(),
        caches: Vec::new(),
    };
    let said = match &resolved.command {
        ResolvedCommand::Script { text, .. } => format!("run: {}", text.trim_end()),
        ResolvedCommand::Exec(argv) => format!("exec: {argv:?}"),
    };
    let end = (0..=QUOTED).rev().find(|end| said.is_char_boundary(*end)).unwrap_or_default();
    let created_by = said.get(..end).map_or_else(|| said.clone(), str::to_owned);
    Step { created_by, instruction: Instruction::Run(Box::new(run)) }
}

/// What `config` says, and what the history says of it.
fn changes(config: &PlannedConfig) -> Vec<(String, Change)> {
    let mut changes = Vec::new();
    let mut add = |said: String, change| changes.push((format!("config: {said}"), change));
    for (name, value) in &config.env {
        add(format!("env {name}={value}"), Change::Env(name.clone(), value.clone()));
    }
    for (name, value) in &config.labels {
        add(format!("label {name}={value}"), Change::Label(name.clone(), value.clone()));
    }
    if let Some(path) = &config.workdir {
        add(format!("workdir {path}"), Change::Workdir(path.clone()));
    }
    if let Some(user) = &config.user {
        add(format!("user {user}"), Change::User(user.clone()));
    }
    if !config.entrypoint.is_empty() {
        let argv = config.entrypoint.clone();
        add(format!("entrypoint {argv:?}"), Change::Entrypoint(argv));
    }
    if !config.cmd.is_empty() {
        add(format!("cmd {:?}", config.cmd), Change::Cmd(config.cmd.clone()));
    }
    changes
}

struct Running {
    build: Build,
    work: Work,
    context: Arc<JobContext>,
}

impl Running {
    async fn run(
        self,
        streams: Written,
        drain: Drain,
        stop: mpsc::UnboundedReceiver<Stop>,
    ) -> StepReport {
        match &self.work {
            Work::Step(step) => self.step(step, streams, drain, stop).await,
            Work::Dockerfile(file, engine) => {
                self.dockerfile((file, engine), streams, drain, stop).await
            }
        }
    }

    /// The image of a Dockerfile is what the next step goes on with.
    async fn dockerfile(
        &self,
        (file, engine): (&Dockerfile, &Engine),
        streams: Written,
        drain: Drain,
        stop: mpsc::UnboundedReceiver<Stop>,
    ) -> StepReport {
        let started = SystemTime::now();
        let Built { image, used } = file.build(engine.clone(), streams, stop).await;
        drain.now().await;
        let ended = SystemTime::now();
        let usage = Used::of(used.clone()).end.map(|end| end.usage);
        self.build.used.lock().await.extend(used);
        let image = match image {
            Ok(image) => image,
            Err(Failure { problem, ran }) => {
                let said = problem.remedy_text().map(|remedy| format!("; {remedy}"));
                let message = format!("{problem}{}", said.unwrap_or_default());
                let message = self.context.needles.mask_text(&message);
                let outcome = match (ran, problem.exit()) {
                    (Some(ran), _) => {
                        let mut report = self.failed(&ran, started, ended);
                        report.end.message = Some(message);
                        return report;
                    }
                    (None, Exit::System) => StepOutcome::System,
                    (None, Exit::Cancelled) => StepOutcome::Signal(15),
                    (None, _) => StepOutcome::NotStarted,
                };
                return StepReport::not_run(outcome, message);
            }
        };
        match engine.begin(&file.name, &image) {
            Ok(stage) => *self.build.stage.lock().await = Some(stage),
            Err(error) => return StepReport::failed_to_start(&error),
        }
        StepReport::passed((started, ended), usage)
    }

    async fn step(
        &self,
        step: &Step,
        streams: Written,
        drain: Drain,
        stop: mpsc::UnboundedReceiver<Stop>,
    ) -> StepReport {
        let started = SystemTime::now();
        let mut stage = self.build.stage.lock().await;
        let Some(stage) = stage.as_mut() else {
            return StepReport::not_run(StepOutcome::System, "the image was lost".to_owned());
        };
        let notes = streams.1.try_clone().map(File::from);
        // What cannot be looked up is no reason not to build.
        let forecast = stage.forecast(step).ok();
        let performed = stage.perform(step, Io { streams, stop }).await;
        if matches!(performed, Ok(Outcome::Kept)) {
            // Who reads it may have gone.
            notes.and_then(|mut notes| notes.write_all(b"kept from an earlier build\n")).ok();
        }
        drain.now().await;
        let ended = SystemTime::now();
        let passed = |usage| StepReport::passed((started, ended), usage);
        match performed {
            // Whoever was waited for may have done it.
            Ok(Outcome::Kept) => StepReport { layer: Some(Forecast::Kept), ..passed(None) },
            Ok(Outcome::Made(None)) => passed(None),
            Ok(Outcome::Made(Some(ran))) => {
                let usage = ran.used.usage.clone();
                self.build.used.lock().await.push(ran.used);
                StepReport { layer: forecast, ..passed(Some(usage)) }
            }
            Ok(Outcome::Failed(ran)) => {
                let report = self.failed(&ran, started, ended);
                self.build.used.lock().await.push(ran.used);
                StepReport { layer: forecast, ..report }
            }
            Ok(Outcome::Stopped) => {
                StepReport::not_run(StepOutcome::Signal(15), "it was stopped".to_owned())
            }
            Err(error) => StepReport::failed_to_start(&error),
        }
    }

    fn failed(&self, ran: &Ran, started: SystemTime, ended: SystemTime) -> StepReport {
        let mut end = StepEnd::new(outcome(ran.ended, ran.verdict.as_ref()));
        let sentence = ran.verdict.as_ref().map(|verdict| verdict.sentence("it"));
        end.message = sentence.map(|sentence| self.context.needles.mask_text(&sentence));
        StepReport::ran(ran.ended, end, (started, ended), Some(ran.used.usage.clone()))
    }
}
