//! The loop of a run: performs the actions of the state machine, and feeds back what happened.
//!
//! Everything that takes time is a task of its own that reports with a [`Message`]; this loop only
//! starts tasks, keeps what they report and shows it, so nothing here waits for a job.

pub(super) mod room;
mod sealing;
mod starting;
mod telling;
pub(super) mod timers;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use cofferdam_jobs::state::{
    Action, Collect, Conclusion, Event, Fault, Kept, Part, ResolvedStep, Run, StepRecord, StepRef,
    Stop,
};
use cofferdam_sandbox::{Mount, Sandbox, ScratchKind, State, image::Image};
use nix::time::ClockId;
use tokio::sync::mpsc;

use super::{
    build::dockerfile::Dockerfile,
    job::{Collected, caches::CacheStore, keeping::Keeping, live::Live},
    message::{Message, StepId, StepOutput, StepReport},
    output::{
        queue::{self, Outputs, Written},
        screen::Screen,
    },
    record::ledger::Ledger,
};
use crate::{
    build::Engine,
    exit::Exit,
    log::{file_names::FileNames, needles::Needles},
    problem::Problem,
    report::display::{self, Display},
    supervise::Interrupts,
};
use room::Room;
use timers::Timers;

/// Messages that may wait for the driver.
const QUEUE: usize = 256;

/// What a run consists of beside its state.
#[derive(Debug)]
pub(super) struct Surroundings {
    /// The run's id.
    pub(super) run: String,
    pub(super) sandbox: Sandbox,
    /// Makes images.
    pub(super) engine: Engine,
    /// Keeps what jobs have written, where that was asked for.
    pub(super) keeping: Option<Keeping>,
    /// The images of all jobs by name, those that the run makes when they are made; their layers
    /// stay in the store while this lives.
    pub(super) images: HashMap<String, Arc<Image>>,
    /// The Dockerfiles of images, by the job that builds them.
    pub(super) dockerfiles: HashMap<usize, Arc<Dockerfile>>,
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
    /// Whether it is recorded what jobs reach, in place of refusing anything that is public.
    pub(super) learns: bool,
}

/// Drives one run.
#[derive(Debug)]
pub(super) struct Driver {
    surroundings: Surroundings,
    state: Run,
    screen: Screen,
    outputs: Outputs,
    written: Written,
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
    /// Jobs whose containers are made, or will be, before they start.
    expected: HashSet<usize>,
    /// Whether whoever read the progress has gone.
    unread: bool,
    /// What is shared with other runs.
    room: Option<Room>,
    /// What this loop has had of a processor.
    busy: Duration,
    pub(super) ledger: Ledger,
}

/// What the loop was waiting for.
enum Woken {
    Interrupt,
    Message(Message),
    Output(StepOutput),
    Screen(Option<io::Error>),
    Room,
}

/// What is kept of one job.
#[derive(Debug, Default)]
struct States {
    /// After these steps.
    after: BTreeMap<usize, Arc<State>>,
    end: Option<Arc<State>>,
}

impl Driver {
    pub(super) fn new(
        surroundings: Surroundings,
        (state, room): (Run, Option<Room>),
        display: Display,
    ) -> Self {
        let (messages, received) = mpsc::channel(QUEUE);
        let (outputs, written) = queue::way();
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
            expected: HashSet::new(),
            unread: false,
            room,
            busy: Duration::ZERO,
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
        let woke = processor_time();
        let actions = self.state.start();
        self.perform(actions)?;
        self.screen.flush();
        self.busy += processor_time().saturating_sub(woke);
        let mut killed = false;
        while self.state.conclusion().is_none() {
            // As with any filter, that is the end; jobs are left in order, and the record is kept.
            if self.unread && !cancelled {
                cancelled = true;
                self.feed(Event::CancelRequested)?;
                self.screen.flush();
                continue;
            }
            let woken = tokio::select! {
                () = interrupts.next() => Woken::Interrupt,
                Some(message) = self.received.recv() => Woken::Message(message),
                // Whoever wants the end now does not wait for a display that is stopped.
                Some(output) = self.written.next(), if killed || self.screen.has_room() => {
                    Woken::Output(output)
                }
                failed = self.screen.changed() => Woken::Screen(failed),
                () = room_changed(&mut self.room) => Woken::Room,
            };
            let woke = processor_time();
            match woken {
                Woken::Interrupt => {
                    killed = cancelled;
                    cancelled = true;
                    if let Some(keeping) = self.surroundings.keeping.as_ref().filter(|_| killed) {
                        keeping.stop();
                    }
                    if !killed {
                        self.screen.act(0, |display| display.show(display::Event::Stopping));
                    }
                    self.feed(if killed { Event::KillRequested } else { Event::CancelRequested })?;
                }
                Woken::Message(message) => self.take(message)?,
                Woken::Output(output) => self.show_output(output),
                Woken::Screen(failed) => self.take_failure(failed)?,
                Woken::Room => self.perform(Vec::new())?,
            }
            self.screen.flush();
            self.busy += processor_time().saturating_sub(woke);
        }
        self.screen.act(0, |display| display.show(display::Event::RunEnded));
        Ok(self.state.conclusion().unwrap_or(Conclusion::System))
    }

    /// The state, for the record.
    pub(super) fn state(&self) -> &Run {
        &self.state
    }

    /// The processor time of the loop itself; the tasks that it starts have their own.
    pub(super) fn busy(&self) -> Duration {
        self.busy
    }

    /// Whether the run was ended because nobody reads its progress any more.
    pub(super) fn is_unread(&self) -> bool {
        self.unread
    }

    fn feed(&mut self, event: Event) -> Result<(), Problem> {
        let actions = self.state.handle(event);
        self.perform(actions)
    }

    fn take(&mut self, message: Message) -> Result<(), Problem> {
        match message {
            Message::Started { job, up } => {
                let image = &up.container.spec().image;
                let planned = self.state.plan().jobs.get(job);
                match planned.and_then(|planned| planned.image.as_deref()) {
                    // One that this run has made has no name of its own.
                    Some(name) if image.reference.is_none() => self.ledger.made(job, name, image),
                    _ => self.ledger.image(job, image),
                }
                if let Some(live) = self.live.get_mut(&job) {
                    live.stands(*up);
                }
                self.feed(Event::JobStarted { job })
            }
            Message::Building { job, build, base } => {
                if let Some(base) = base {
                    self.ledger.image(job, &base);
                }
                if let Some(live) = self.live.get_mut(&job) {
                    live.builds(build);
                }
                self.feed(Event::JobStarted { job })
            }
            Message::StartFailed { job, fault, message, services } => {
                if let Some(live) = self.live.remove(&job) {
                    self.ledger.start_failed(job, live.context.attempt, services);
                }
                self.feed(Event::JobStartFailed { job, fault, message })
            }
            Message::Sealed { job, step, network, sealed } => {
                let sealed = match sealed {
                    Ok(sealed) => Ok(self.take_sealed(job, (step, network), *sealed)),
                    Err(unsealed) => Err(self.take_unsealed(job, unsealed)),
                };
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
                if let (Some(image), Some(name)) = (collected.image.take(), self.image_made_by(job))
                {
                    self.ledger.made(job, &name, &image);
                    self.surroundings.images.insert(name, image);
                }
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

    fn perform(&mut self, mut actions: Vec<Action>) -> Result<(), Problem> {
        if let Some(room) = &mut self.room {
            let decided = room.decide(&mut self.state).map_err(|error| {
                Problem::new(Exit::System, "failed to share the machine with other runs")
                    .because(error)
            })?;
            actions.extend(decided);
        }
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
        self.expect_next();
        if self.room.as_ref().is_none_or(Room::has_decided) {
            self.tell_waiting();
        }
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
        self.tell_step_ended(step);
        self.perform(actions)
    }

    fn finish_job(&mut self, job: usize, attempt: u32, collect: Collect) {
        let messages = self.messages.clone();
        let made_by = self.made_by(job);
        let Some(live) = self.live.remove(&job) else {
            let event = Event::JobFinished { job, fault: None, kept: Kept::default() };
            tokio::spawn(async move { messages.send(Message::Event(event)).await.ok() });
            return;
        };
        let name = self.names.get(&job).cloned().unwrap_or_default();
        let (store, directory) =
            (self.surroundings.caches.clone(), self.surroundings.directory.clone());
        let keeping = self.surroundings.keeping.clone();
        let mut finish = live.finish(collect, store, (directory, name), (made_by, keeping));
        let passed = |record: &StepRecord| record.conclusion == Some(Conclusion::Passed);
        if !self.state.job(job).is_some_and(|view| view.steps.iter().all(passed)) {
            finish.config = None;
        }
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

    /// Takes the display, for the end.
    pub(super) fn into_screen(self) -> Screen {
        self.screen
    }
}

async fn room_changed(room: &mut Option<Room>) {
    match room {
        Some(room) => room.changed().await,
        None => std::future::pending().await,
    }
}

/// What this thread has had of a processor so far (clock_gettime(2)); between two calls without a
/// wait for anything it is what was done there, however busy the jobs keep the machine.
fn processor_time() -> Duration {
    ClockId::CLOCK_THREAD_CPUTIME_ID.now().map_or(Duration::ZERO, Duration::from)
}
