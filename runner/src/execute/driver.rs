//! The loop of a run: performs the actions of the state machine, and feeds back what happened.
//!
//! Everything that takes time is a task of its own that reports with a [`Message`]; this loop only
//! starts tasks, keeps what they report and shows it, so nothing here waits for a job.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use cofferdam_jobs::{
    model::Workspace,
    plan::PlannedJob,
    state::{
        Action, Collect, Conclusion, Event, Fault, Kept, Part, ResolvedStep, Run, StartJob,
        StepRecord, StepRef, Stop, WaitingFor,
    },
};
use cofferdam_sandbox::{Layer, Mount, Sandbox, ScratchKind, State, image::Image};
use tokio::sync::{mpsc, oneshot};

use super::{
    brought::Brings,
    caches::CacheStore,
    job::{self, Collected},
    ledger::Ledger,
    live::Live,
    message::{Message, StepId, StepOutput, StepReport},
    screen::Screen,
    seal::{self, Sealed},
    start::{Base, Start},
    step::JobContext,
    timers::Timers,
};
use crate::{
    exit::Exit,
    log::{file_names::FileNames, needles::Needles, recorder::LogBudget},
    network,
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
    /// What is committed of it, where jobs see that.
    pub(super) committed: Option<Arc<State>>,
    /// What the operator shows in every job.
    pub(super) mounts: Vec<Mount>,
    /// Where jobs keep what they write.
    pub(super) scratch: ScratchKind,
    pub(super) caches: CacheStore,
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
    /// What is kept of jobs for others to start from.
    states: HashMap<usize, States>,
    /// The directory names of jobs, once they have one.
    names: HashMap<usize, String>,
    file_names: FileNames,
    started: HashMap<usize, Instant>,
    /// Whether whoever read the progress has gone.
    unread: bool,
    pub(super) ledger: Ledger,
}

/// What is kept of one job.
#[derive(Debug, Default)]
struct States {
    /// After these steps.
    after: BTreeMap<usize, Arc<State>>,
    end: Option<Arc<State>>,
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
            states: HashMap::new(),
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
            Message::Started { job, up } => {
                let image = &up.container.spec().image;
                self.ledger.image(job, image);
                if let Some(live) = self.live.get_mut(&job) {
                    live.stands(*up);
                }
                self.feed(Event::JobStarted { job })
            }
            Message::StartFailed { job, fault, message, services } => {
                if let Some(live) = self.live.remove(&job) {
                    self.ledger.start_failed(job, live.context.attempt, services);
                }
                self.feed(Event::JobStartFailed { job, fault, message })
            }
            Message::Sealed { job, step, sealed } => {
                let sealed = sealed.map(|sealed| self.take_sealed(job, step, *sealed));
                self.feed(Event::JobSealed { job, sealed })
            }
            Message::StepEnded { step, report } => self.step_ended(step, *report),
            Message::JobFinished { job, attempt, mut collected } => {
                let fault = collected.fault.take();
                let records = self.step_records(job);
                let kept = match collected.state.take() {
                    Some((state, kept)) => {
                        self.states.entry(job).or_default().end = Some(state);
                        kept
                    }
                    None => Kept::default(),
                };
                self.ledger.job_finished(job, attempt, *collected, records);
                self.feed(Event::JobFinished { job, fault, kept })
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
                Action::StartJob(start) => self.start_job(start)?,
                Action::StartStep { job, step, resolved } => {
                    self.start_step(job, step, resolved)?;
                }
                Action::StopStep { job, step, stop, .. } => self.stop_step(job, step, stop),
                Action::AbortStart { job } => {
                    let abort = self.live.get_mut(&job).and_then(|live| live.abort.take());
                    // It may stand already.
                    abort.map(|abort| abort.send(()).ok());
                }
                Action::SealJob { job, step, network } => self.seal_job(job, step, network),
                Action::DropStates { job } => {
                    let states = self.states.remove(&job);
                    // What they hold may be a million files.
                    tokio::task::spawn_blocking(move || drop(states));
                }
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

    fn start_job(&mut self, start: StartJob) -> Result<(), Problem> {
        let Some(planned) = self.state.plan().jobs.get(start.job).cloned() else { return Ok(()) };
        let (job, attempt) = (start.job, start.attempt);
        let steps = planned.source.steps.len() + planned.source.cleanup.len();
        self.screen.act(0, move |display| display.show(display::Event::JobStarted { job, steps }));
        self.started.entry(job).or_insert_with(Instant::now);
        if !self.names.contains_key(&job) {
            self.names.insert(job, self.file_names.assign(&planned.id));
        }
        self.ledger.attempt_started(job, attempt);
        let mut base = self.base(&start, &planned)?;
        base.keep = start.keep;
        base.scratch = self.surroundings.scratch;
        base.mounts.clone_from(&self.surroundings.mounts);
        base.workspace =
            (planned.workspace == Workspace::Cow).then(|| self.surroundings.workspace.clone());
        let logs = self.log_directory(job, attempt)?;
        let context = Arc::new(JobContext {
            run: self.surroundings.run.clone(),
            job_id: planned.source.id.value.clone(),
            attempt,
            index: (planned.index, planned.total),
            workdir: planned.workdir.clone(),
            user: planned.user.clone(),
            needles: Arc::clone(&self.surroundings.needles),
            budget: LogBudget::new(base.limits.logs),
            outputs: self.outputs.clone(),
            messages: self.messages.clone(),
        });
        let (abort, aborted) = oneshot::channel();
        let mut live = Live::new(Arc::clone(&context), planned.clone(), logs, abort);
        let mut services = Vec::with_capacity(start.services.len());
        for service in start.services {
            let Some(as_planned) = planned.services.get(service.index) else { continue };
            let image = self.image(&as_planned.image)?;
            let limits = job::enforced(&as_planned.limits, planned.timeout);
            let file = live.log_names.assign(&format!("service-{}", service.name));
            services.push((service, image, limits, live.logs.join(format!("{file}.log"))));
        }
        let start = Start {
            sandbox: self.surroundings.sandbox.clone(),
            job,
            base,
            network: network::of_job(&planned.network),
            services,
            brings: self.brings(&start.artifacts_of),
            caches: (self.surroundings.caches.clone(), start.caches),
            directory: self.surroundings.directory.clone(),
            context,
        };
        self.live.insert(job, live);
        let messages = self.messages.clone();
        let started = tokio::spawn(start.run(aborted));
        tokio::spawn(async move {
            // A fault of ours must not leave the run waiting for ever.
            let message = started.await.unwrap_or_else(|error| {
                let (fault, message) = (Fault::System, format!("failed to start: {error}"));
                Message::StartFailed { job, fault, message, services: Vec::new() }
            });
            // When the driver has gone, the run is over; dropping the container ends it.
            messages.send(message).await.ok();
        });
        Ok(())
    }

    /// What the first container of a try is made from.
    fn base(&self, start: &StartJob, planned: &PlannedJob) -> Result<Base, Problem> {
        let Some(from) = start.from else {
            let committed = self.surroundings.committed.as_ref();
            let committed = committed.filter(|_| planned.workspace == Workspace::Git);
            let layers = committed.map(|state| Layer::State(Arc::clone(state)));
            let image = self.image(job::image_name(planned))?;
            return Ok(Base::new(planned, image, layers.into_iter().collect()));
        };
        let states = self.states.get(&from.job);
        let state = states.and_then(|states| match from.step {
            Some(step) => states.after.get(&step),
            None => states.end.as_ref(),
        });
        let state = state.ok_or_else(|| {
            let name = &planned.name;
            Problem::new(Exit::System, format!("what job `{name}` starts from was lost"))
        })?;
        Ok(Base::new(planned, Arc::clone(state.image()), state.layers()))
    }

    fn image(&self, name: &str) -> Result<Arc<Image>, Problem> {
        let image = self.surroundings.images.get(name).cloned();
        image.ok_or_else(|| Problem::new(Exit::System, format!("the image `{name}` was lost")))
    }

    /// The artifacts of other jobs.
    fn brings(&self, jobs: &[usize]) -> Vec<Brings> {
        let of = |job: &usize| {
            let name = self.names.get(job)?;
            let below = Path::new("artifacts").join(name);
            let files = self.ledger.artifacts(*job);
            let files = files.filter_map(|path| path.strip_prefix(&below).ok());
            Some(Brings {
                job: self.state.plan().jobs.get(*job)?.name.clone(),
                directory: self.surroundings.directory.join(&below),
                files: files.map(Path::to_owned).collect(),
            })
        };
        jobs.iter().filter_map(of).filter(|brings| !brings.files.is_empty()).collect()
    }

    fn log_directory(&self, job: usize, attempt: u32) -> Result<PathBuf, Problem> {
        let name = self.names.get(&job).cloned().unwrap_or_default();
        let mut logs = self.surroundings.directory.join("logs").join(&name);
        if attempt > 1 {
            logs.push(format!("attempt-{attempt}"));
        }
        std::fs::create_dir_all(&logs).map_err(|error| {
            Problem::new(Exit::System, format!("failed to make `{}`", logs.display()))
                .because(error)
        })?;
        Ok(logs)
    }

    fn seal_job(&mut self, job: usize, step: Option<usize>, network: Option<StepRef>) {
        let taken = self.live.get_mut(&job).and_then(|live| live.take_container(network));
        let sandbox = self.surroundings.sandbox.clone();
        let messages = self.messages.clone();
        tokio::spawn(async move {
            let lost = || (Fault::System, "the container was lost".to_owned());
            let sealed = match taken {
                Some((container, base)) => {
                    let sealed = tokio::spawn(seal::seal(sandbox, container, base)).await;
                    sealed.unwrap_or_else(|error| Err((Fault::System, error.to_string())))
                }
                None => Err(lost()),
            };
            messages.send(Message::Sealed { job, step, sealed }).await.ok();
        });
    }

    fn take_sealed(&mut self, job: usize, step: Option<usize>, sealed: Sealed) -> Kept {
        if let Some(step) = step {
            let states = self.states.entry(job).or_default();
            states.after.insert(step, Arc::clone(&sealed.state));
        }
        let kept = sealed.kept;
        if let Some(live) = self.live.get_mut(&job) {
            live.goes_on(sealed);
        }
        kept
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
        let image = resolved.image.as_deref().map(|image| self.image(image)).transpose()?;
        let Some(live) = self.live.get_mut(&job) else { return Ok(()) };
        let file = live.log_names.assign(&format!("{number:02}-{name}"));
        let log = live.logs.join(format!("{file}.log"));
        live.start_step(&self.surroundings.sandbox, image, (step, resolved), (job, log));
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
        if let Some(running) = self.live.get(&job).and_then(|live| live.step(step)) {
            // A step that has just ended needs no stopping.
            running.stop.send(stop).ok();
        }
    }

    fn step_ended(&mut self, step: StepId, report: StepReport) -> Result<(), Problem> {
        if let Some(live) = self.live.get_mut(&step.job) {
            live.step_ended(step.step);
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
        let Some(live) = self.live.remove(&job) else {
            let event = Event::JobFinished { job, fault: None, kept: Kept::default() };
            tokio::spawn(async move { messages.send(Message::Event(event)).await.ok() });
            return;
        };
        let name = self.names.get(&job).cloned().unwrap_or_default();
        let (store, directory) =
            (self.surroundings.caches.clone(), self.surroundings.directory.clone());
        let finish = live.finish(collect, store, (directory, name));
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
