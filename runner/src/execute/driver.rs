//! The loop of a run: performs the actions of the state machine, and feeds back what happened.
//!
//! Everything that takes time is a task of its own that reports with a [`Message`]; this loop only
//! starts tasks, keeps what they report and shows it, so nothing here waits for a job.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use cofferdam_jobs::{
    model::Workspace,
    state::{
        Action, Collect, Conclusion, Event, Fault, Part, ResolvedStep, Run, StartJob, StepRecord,
        StepRef, Stop, WaitingFor,
    },
};
use cofferdam_sandbox::{Container, Mount, Sandbox, ScratchKind, image::Image};
use tokio::sync::mpsc;

use super::{
    job::{self, Collected, Finish},
    ledger::Ledger,
    message::{Message, StepId, StepOutput, StepReport},
    output::Output,
    screen::Screen,
    step::{JobContext, RunningStep, StepRun},
    timers::Timers,
};
use crate::{
    exit::Exit,
    log::{file_names::FileNames, needles::Needles, recorder::LogBudget},
    problem::Problem,
    report::display::{self, Display},
    supervise::Interrupts,
};

/// Messages that may wait for the driver; a talkative job waits when it is further ahead.
const QUEUE: usize = 256;

/// What a run consists of beside its state.
#[derive(Debug)]
pub(super) struct Surroundings {
    /// The run's id.
    pub(super) run: String,
    pub(super) sandbox: Sandbox,
    /// The images of all jobs by name; their layers stay in the store while this lives.
    pub(super) images: HashMap<String, Arc<Image>>,
    /// The project that jobs see.
    pub(super) workspace: PathBuf,
    /// What the operator shows in every job.
    pub(super) mounts: Vec<Mount>,
    /// Where jobs keep what they write.
    pub(super) scratch: ScratchKind,
    /// Where the results go.
    pub(super) directory: PathBuf,
    pub(super) needles: Arc<Needles>,
}

/// Drives one run.
#[derive(Debug)]
pub(super) struct Driver {
    surroundings: Surroundings,
    state: Run,
    screen: Screen,
    outputs: mpsc::Sender<StepOutput>,
    written: mpsc::Receiver<StepOutput>,
    timers: Timers,
    messages: mpsc::Sender<Message>,
    received: mpsc::Receiver<Message>,
    live: HashMap<usize, Live>,
    /// The directory names of jobs, once they have one.
    names: HashMap<usize, String>,
    file_names: FileNames,
    started: HashMap<usize, Instant>,
    /// Whether whoever read the progress has gone.
    unread: bool,
    pub(super) ledger: Ledger,
}

/// A job whose container stands.
#[derive(Debug)]
struct Live {
    container: Arc<Container>,
    context: Arc<JobContext>,
    logs: PathBuf,
    log_names: FileNames,
    steps: HashMap<StepRef, RunningStep>,
    ended: Vec<(StepRef, Output)>,
    next: usize,
}

impl Driver {
    pub(super) fn new(surroundings: Surroundings, state: Run, display: Display) -> Self {
        let (messages, received) = mpsc::channel(QUEUE);
        let (outputs, written) = mpsc::channel(QUEUE);
        Self {
            surroundings,
            state,
            screen: Screen::start(display),
            outputs,
            written,
            timers: Timers::new(messages.clone()),
            messages,
            received,
            live: HashMap::new(),
            names: HashMap::new(),
            file_names: FileNames::default(),
            started: HashMap::new(),
            unread: false,
            ledger: Ledger::default(),
        }
    }

    /// Runs to the end; returns how it ended.
    pub(super) async fn run(&mut self, interrupts: &mut Interrupts) -> Result<Conclusion, Problem> {
        let plan = Arc::clone(self.state.plan());
        let run = self.surroundings.run.clone();
        self.screen.act(0, move |display| {
            let names: Vec<&str> = plan.jobs.iter().map(|job| job.name.as_str()).collect();
            display.show(display::Event::RunStarted { run: &run, jobs: &names })
        });
        let mut cancelled = false;
        let actions = self.state.start();
        self.perform(actions)?;
        let mut killed = false;
        while self.state.conclusion().is_none() {
            // As with any filter, that is the end; jobs are left in order, and the record is kept.
            if self.unread && !cancelled {
                cancelled = true;
                self.feed(Event::CancelRequested)?;
                continue;
            }
            tokio::select! {
                () = interrupts.next() => {
                    killed = cancelled;
                    cancelled = true;
                    self.feed(if killed { Event::KillRequested } else { Event::CancelRequested })?;
                }
                Some(message) = self.received.recv() => self.take(message)?,
                // Whoever wants the end now does not wait for a display that is stopped.
                Some(output) = self.written.recv(), if killed || self.screen.has_room() => {
                    self.show_output(output);
                }
                failed = self.screen.changed() => self.take_failure(failed)?,
            }
        }
        self.screen.act(0, |display| display.show(display::Event::RunEnded));
        Ok(self.state.conclusion().unwrap_or(Conclusion::System))
    }

    /// The state, for the record.
    pub(super) fn state(&self) -> &Run {
        &self.state
    }

    /// Whether the run was ended because nobody reads its progress any more.
    pub(super) fn is_unread(&self) -> bool {
        self.unread
    }

    fn feed(&mut self, event: Event) -> Result<(), Problem> {
        let actions = self.state.handle(event);
        self.perform(actions)
    }

    /// Tells of jobs that wait for the machine; that others have the places shows by itself.
    fn tell_waiting(&mut self) {
        for (job, waiting) in self.state.newly_waiting() {
            if let WaitingFor::Room(what) = waiting {
                let reason = format!("waits: the running jobs leave too little {what}");
                self.screen.act(0, move |display| {
                    display.show(display::Event::JobQueued { job, reason: &reason })
                });
            }
        }
    }

    fn take(&mut self, message: Message) -> Result<(), Problem> {
        match message {
            Message::Started { job, container } => {
                self.container_stands(job, *container)?;
                self.feed(Event::JobStarted { job })
            }
            Message::StepEnded { step, report } => self.step_ended(step, *report),
            Message::JobFinished { job, attempt, mut collected } => {
                let fault = collected.fault.take();
                let records = self.step_records(job);
                self.ledger.job_finished(job, attempt, *collected, records);
                self.feed(Event::JobFinished { job, fault })
            }
            Message::Event(event) => self.feed(event),
        }
    }

    /// The steps of a job as they are now.
    fn step_records(&self, job: usize) -> Vec<(StepRef, StepRecord)> {
        let Some(view) = self.state.job(job) else { return Vec::new() };
        let of = |part, records: &[StepRecord]| -> Vec<(StepRef, StepRecord)> {
            let reference = |index| StepRef { part, index };
            records.iter().cloned().enumerate().map(|(index, it)| (reference(index), it)).collect()
        };
        let mut records = of(Part::Steps, view.steps);
        records.extend(of(Part::Cleanup, view.cleanup));
        records
    }

    fn perform(&mut self, actions: Vec<Action>) -> Result<(), Problem> {
        for action in actions {
            match action {
                Action::StartJob(start) => self.start_job(&start)?,
                Action::StartStep { job, step, resolved } => {
                    self.start_step(job, step, resolved)?;
                }
                Action::StopStep { job, step, stop, .. } => self.stop_step(job, step, stop),
                Action::ArmTimer { timer, after } => self.timers.arm(timer, after),
                Action::DisarmTimer(timer) => self.timers.disarm(timer),
                Action::FinishJob { job, attempt, collect } => {
                    self.finish_job(job, attempt, collect);
                }
                Action::JobEnded { job, conclusion } => self.job_ended(job, conclusion),
                Action::RunEnded { .. } => {}
            }
        }
        self.tell_waiting();
        Ok(())
    }

    fn start_job(&mut self, start: &StartJob) -> Result<(), Problem> {
        let Some(planned) = self.state.plan().jobs.get(start.job).cloned() else { return Ok(()) };
        let image = self.surroundings.images.get(job::image_name(&planned)).cloned();
        let image = image.ok_or_else(|| {
            Problem::new(Exit::System, format!("the image of job `{}` was lost", planned.name))
        })?;
        let steps = planned.source.steps.len() + planned.source.cleanup.len();
        let job = start.job;
        self.screen.act(0, move |display| display.show(display::Event::JobStarted { job, steps }));
        self.started.entry(start.job).or_insert_with(Instant::now);
        if !self.names.contains_key(&start.job) {
            self.names.insert(start.job, self.file_names.assign(&planned.id));
        }
        self.ledger.attempt_started(start.job, start.attempt);
        let workspace =
            (planned.workspace == Workspace::Cow).then(|| self.surroundings.workspace.clone());
        let sandbox = self.surroundings.sandbox.clone();
        let mounts = self.surroundings.mounts.clone();
        let place = job::Place { workspace, mounts, scratch: self.surroundings.scratch };
        let started = job::start(sandbox, image, start.job, planned, place);
        let messages = self.messages.clone();
        let started = tokio::spawn(started);
        tokio::spawn(async move {
            // A fault of ours must not leave the run waiting for ever.
            let message = started.await.unwrap_or_else(|error| {
                let (fault, message) = (Fault::System, format!("failed to start: {error}"));
                Message::Event(Event::JobStartFailed { job, fault, message })
            });
            // When the driver has gone, the run is over; dropping the container ends it.
            messages.send(message).await.ok();
        });
        Ok(())
    }

    fn container_stands(&mut self, job: usize, container: Container) -> Result<(), Problem> {
        let Some(view) = self.state.job(job) else { return Ok(()) };
        let attempt = view.attempt;
        let planned = view.planned;
        let name = self.names.get(&job).cloned().unwrap_or_default();
        let mut logs = self.surroundings.directory.join("logs").join(&name);
        if attempt > 1 {
            logs.push(format!("attempt-{attempt}"));
        }
        std::fs::create_dir_all(&logs).map_err(|error| {
            Problem::new(Exit::System, format!("failed to make `{}`", logs.display()))
                .because(error)
        })?;
        self.ledger.image(job, &container.spec().image);
        let context = JobContext {
            run: self.surroundings.run.clone(),
            job_id: planned.source.id.value.clone(),
            attempt,
            index: (planned.index, planned.total),
            workdir: planned.workdir.clone(),
            user: planned.user.clone(),
            needles: Arc::clone(&self.surroundings.needles),
            budget: LogBudget::new(container.spec().limits.logs),
            outputs: self.outputs.clone(),
            messages: self.messages.clone(),
        };
        let live = Live {
            container: Arc::new(container),
            context: Arc::new(context),
            logs,
            log_names: FileNames::default(),
            steps: HashMap::new(),
            ended: Vec::new(),
            next: 0,
        };
        self.live.insert(job, live);
        Ok(())
    }

    fn start_step(
        &mut self,
        job: usize,
        step: StepRef,
        resolved: Box<ResolvedStep>,
    ) -> Result<(), Problem> {
        let number = self.step_number(job, step);
        let name = self.surroundings.needles.mask_text(&resolved.name);
        let shown = name.clone();
        self.screen.act(0, move |display| {
            display.show(display::Event::StepStarted { job, number, name: &shown })
        });
        let Some(live) = self.live.get_mut(&job) else { return Ok(()) };
        let attempt = live.context.attempt;
        let file = live.log_names.assign(&format!("{number:02}-{name}"));
        live.next += 1;
        let run = StepRun {
            id: StepId { job, attempt, step },
            number: live.next,
            resolved,
            log: live.logs.join(format!("{file}.log")),
            container: Arc::clone(&live.container),
            context: Arc::clone(&live.context),
        };
        live.steps.insert(step, run.spawn());
        Ok(())
    }

    /// Number for people, from 1; cleanup steps come after the others.
    fn step_number(&self, job: usize, step: StepRef) -> usize {
        let before = match (step.part, self.state.plan().jobs.get(job)) {
            (Part::Cleanup, Some(planned)) => planned.source.steps.len(),
            _ => 0,
        };
        before + step.index + 1
    }

    fn stop_step(&mut self, job: usize, step: StepRef, stop: Stop) {
        if let Some(running) = self.live.get(&job).and_then(|live| live.steps.get(&step)) {
            // A step that has just ended needs no stopping.
            running.stop.send(stop).ok();
        }
    }

    fn step_ended(&mut self, step: StepId, report: StepReport) -> Result<(), Problem> {
        if let Some(live) = self.live.get_mut(&step.job)
            && let Some(running) = live.steps.remove(&step.step)
        {
            live.ended.extend(running.output.map(|output| (step.step, output)));
        }
        let end = report.end.clone();
        self.ledger.step_ended(step, report);
        let actions = self.state.handle(Event::StepEnded { job: step.job, step: step.step, end });
        let told = self.state.job(step.job).and_then(|view| {
            let records = match step.step.part {
                Part::Steps => view.steps,
                Part::Cleanup => view.cleanup,
            };
            let record = records.get(step.step.index)?;
            let tolerated = record.outcome != record.conclusion;
            let why = record.reason.as_ref().map(|reason| match tolerated {
                true => format!("{reason}; `continue-on-error` lets the job go on"),
                false => reason.to_string(),
            });
            Some((record.outcome?, why))
        });
        if let Some((conclusion, why)) = told {
            let conclusion = super::record::conclusion(conclusion);
            let why = why.map(|why| self.surroundings.needles.mask_text(&why));
            // What it wrote before comes first, as far as the display can take it.
            while self.screen.has_room()
                && let Ok(output) = self.written.try_recv()
            {
                self.show_output(output);
            }
            self.screen.act(0, move |display| {
                let why = why.as_deref();
                display.show(display::Event::StepEnded { job: step.job, conclusion, why })
            });
        }
        self.perform(actions)
    }

    fn finish_job(&mut self, job: usize, attempt: u32, collect: Collect) {
        let messages = self.messages.clone();
        let Some(mut live) = self.live.remove(&job) else {
            let message = Message::Event(Event::JobFinished { job, fault: None });
            tokio::spawn(async move { messages.send(message).await.ok() });
            return;
        };
        for (step, running) in live.steps.drain() {
            live.ended.extend(running.output.map(|output| (step, output)));
        }
        let finish = Finish {
            container: live.container,
            outputs: live.ended,
            collect,
            directory: self.surroundings.directory.clone(),
            name: self.names.get(&job).cloned().unwrap_or_default(),
            workdir: live.context.workdir.clone(),
        };
        let finished = tokio::spawn(finish.run());
        tokio::spawn(async move {
            let collected = finished.await.unwrap_or_else(|error| {
                let fault = (Fault::System, format!("failed to take the container down: {error}"));
                Collected { fault: Some(fault), ..Collected::default() }
            });
            let collected = Box::new(collected);
            let message = Message::JobFinished { job, attempt, collected };
            messages.send(message).await.ok();
        });
    }

    fn job_ended(&mut self, job: usize, conclusion: Conclusion) {
        let elapsed = self.started.get(&job).map_or(Duration::ZERO, Instant::elapsed);
        let why = self.state.job(job).and_then(|view| {
            let reason = view.reason?.to_string();
            (conclusion != Conclusion::Passed).then(|| self.surroundings.needles.mask_text(&reason))
        });
        let conclusion = super::record::conclusion(conclusion);
        self.screen.act(0, move |display| {
            let why = why.as_deref();
            display.show(display::Event::JobEnded { job, conclusion, elapsed, why })
        });
    }

    fn show_output(&self, output: StepOutput) {
        let StepOutput { step, stream, bytes } = output;
        self.screen.act(bytes.len(), move |display| {
            display.show(display::Event::Output { job: step.job, stream, bytes: &bytes })
        });
    }

    fn take_failure(&mut self, failed: Option<io::Error>) -> Result<(), Problem> {
        match failed {
            None => Ok(()),
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.unread = true;
                self.screen.act(0, |display| {
                    *display = Display::plain(Box::new(io::sink()), false);
                    Ok(())
                });
                Ok(())
            }
            Some(error) => {
                Err(Problem::new(Exit::System, "failed to show the progress of the run")
                    .because(error))
            }
        }
    }

    /// Takes the display, for the end.
    pub(super) fn into_screen(self) -> Screen {
        self.screen
    }
}
