//! One step: start its program, watch it, say how it ended.

pub(super) mod environment;
pub(super) mod files;
pub(super) mod program;
pub(super) mod running;

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use cofferdam_jobs::state::{End as StepOutcome, Event, Limit, ResolvedStep, StepEnd, Stop};
use cofferdam_sandbox::{
    Container, ContainerSpec, End, Error, Fault, Limits, Process, Program, Sandbox, Streams,
    cgroup::{Group, StepLimits, Usage},
};
use nix::sys::signal::Signal;
use tokio::sync::mpsc;

use super::{
    job::in_words,
    message::{Message, StepId, StepReport},
    output::{Drain, queue::Outputs},
};
use crate::{
    limits::processors,
    log::{needles::Needles, recorder::LogBudget},
    report::verdict::Verdict,
    supervise::{Ended, GRACE, judge},
};
use files::StepFiles;
use program::Template;
use running::{RunningStep, Written};

/// What all steps of a try of a job share.
#[derive(Debug)]
pub(super) struct JobContext {
    /// The run's id.
    pub(super) run: String,
    /// The job's id in the file.
    pub(super) job_id: String,
    /// Which try, from 1.
    pub(super) attempt: u32,
    /// Which of its group, from 1, and how many there are.
    pub(super) index: (u32, u32),
    /// Where the job's steps start, when they do not say.
    pub(super) workdir: Option<String>,
    /// Who the job's processes are, when the steps do not say.
    pub(super) user: Option<String>,
    /// What is masked.
    pub(super) needles: Arc<Needles>,
    /// Bytes of output that are kept.
    pub(super) budget: Arc<LogBudget>,
    /// Where the output of its steps goes.
    pub(super) outputs: Outputs,
    /// Where its tasks report.
    pub(super) messages: mpsc::Sender<Message>,
    /// Whether it is recorded what its steps reach.
    pub(super) learns: bool,
}

/// A step to be run.
#[derive(Debug)]
pub(super) struct StepRun {
    pub(super) id: StepId,
    /// The number of the step in its container, for paths and control groups.
    pub(super) number: usize,
    pub(super) resolved: Box<ResolvedStep>,
    /// What the step itself may use.
    pub(super) limits: cofferdam_jobs::model::Limits,
    pub(super) log: PathBuf,
    /// Where it runs.
    pub(super) container: Arc<Container>,
    /// The container of its own that it runs in instead, where it has an image.
    pub(super) beside: Option<Beside>,
    pub(super) context: Arc<JobContext>,
}

/// A container that is put up beside a job's, for one step.
#[derive(Debug)]
pub(super) struct Beside {
    pub(super) sandbox: Sandbox,
    pub(super) spec: ContainerSpec,
}

impl StepRun {
    /// Starts the step in a task of its own, which reports its end.
    pub(super) fn spawn(self) -> RunningStep {
        let (log, context) = (self.log.clone(), Arc::clone(&self.context));
        running::spawn(self.id, log, context, |written, drain, stopped| {
            self.run(written, drain, stopped)
        })
    }

    async fn run(
        mut self,
        written: Written,
        drain: Drain,
        stopped: mpsc::UnboundedReceiver<Stop>,
    ) -> StepReport {
        let Some(Beside { sandbox, spec }) = self.beside.take() else {
            return self.run_in(written, drain, stopped).await;
        };
        match sandbox.create(spec).await {
            Ok(container) => self.container = Arc::new(container),
            Err(error) => return StepReport::failed_to_start(&error),
        }
        let own = Arc::clone(&self.container);
        let report = self.run_in(written, drain, stopped).await;
        match own.end().await {
            Ok(_) => report,
            Err(error) => StepReport::failed_to_start(&error),
        }
    }

    async fn run_in(
        self,
        (stdout, stderr): Written,
        drain: Drain,
        mut stopped: mpsc::UnboundedReceiver<Stop>,
    ) -> StepReport {
        let before = self.container.used().unwrap_or_default();
        let files = StepFiles::new(self.number);
        let template = Template {
            context: &self.context,
            step: &self.resolved,
            image: &self.container.spec().image.config,
            files: &files,
        };
        let (program, command_line) = template.step();
        let probe = template.probe();
        let started = SystemTime::now();
        let limits = StepLimits {
            cpus: self.limits.millicpus.as_ref().map(|cpus| processors(cpus.value)),
            memory: self.limits.memory.as_ref().map(|memory| memory.value),
            pids: self.limits.pids.as_ref().map(|pids| pids.value),
        };
        let group = match self.container.step_group(&self.number.to_string(), &limits) {
            Ok(group) => group,
            Err(error) => return StepReport::failed_to_start(&error),
        };
        let streams = Streams::output(stdout, stderr);
        let mut process = match self.start(program, streams, &group, &mut stopped).await {
            Ok(process) => process,
            Err(error) => return StepReport::failed_to_start(&error),
        };
        let probing = async {
            match probe {
                Some(probe) => probe.until_ready(&self.container, &group).await,
                None => std::future::pending().await,
            }
        };
        let ended = self.wait(&mut process, &group, stopped, probing).await;
        for secret in &self.resolved.secret_files {
            // Where the job has put something in its place, it is gone already.
            self.container.remove_secret(&secret.name).ok();
        }
        let finished = SystemTime::now();
        drain.now().await;
        let used = self.container.used().unwrap_or_default();
        let usage = group.usage().ok();
        group.remove_empty();
        let since = since(&before, &used);
        let all = &self.container.spec().limits;
        let all = Limits {
            memory: limits.memory.map_or(all.memory, |memory| memory.min(all.memory)),
            pids: limits.pids.map_or(all.pids, |pids| pids.min(all.pids)),
            ..all.clone()
        };
        let verdict = judge(ended, &since, &all, &command_line);
        let mut end = StepEnd::new(outcome(ended, verdict.as_ref()));
        end.message = verdict.map(|it| self.context.needles.mask_text(&it.sentence("it")));
        let summary = self.take_in(&files, &mut end);
        StepReport { summary, ..StepReport::ran(ended, end, (started, finished), usage) }
    }

    /// Reads what the step has said by its files; where its summary is kept. What cannot be read
    /// fails a step that had passed.
    fn take_in(&self, files: &StepFiles, end: &mut StepEnd) -> Option<PathBuf> {
        let mut wrong = None;
        for (target, read) in [
            (&mut end.outputs, files.outputs(&self.container)),
            (&mut end.env, files.env(&self.container)),
        ] {
            match read {
                Ok(pairs) => *target = pairs,
                Err(message) => wrong = wrong.or(Some((StepOutcome::Exit(1), message))),
            }
        }
        let mut summary = None;
        match files.summary(&self.container) {
            Ok(text) if text.is_empty() => {}
            Ok(text) => {
                let path = self.log.with_extension("md");
                match std::fs::write(&path, self.context.needles.mask_text(&text)) {
                    Ok(()) => summary = Some(path),
                    Err(error) => {
                        let message = format!("failed to write `{}`: {error}", path.display());
                        wrong = wrong.or(Some((StepOutcome::System, message)));
                    }
                }
            }
            Err(message) => wrong = wrong.or(Some((StepOutcome::Exit(1), message))),
        }
        if let (StepOutcome::Exit(0), Some((outcome, message))) = (&end.end, wrong) {
            end.end = outcome;
            end.message = Some(self.context.needles.mask_text(&message));
        }
        summary
    }

    /// Starts the program. What an earlier step left running can hold that up, so the driver may
    /// stop it even now: there is nothing yet that could end gently.
    async fn start(
        &self,
        program: Program,
        streams: Streams,
        group: &Group,
        stopped: &mut mpsc::UnboundedReceiver<Stop>,
    ) -> Result<Process, Error> {
        let starting = self.container.start(program, streams, Some(group));
        tokio::pin!(starting);
        loop {
            tokio::select! {
                started = &mut starting => return started,
                Some(_) = stopped.recv() => kill(group).await,
            }
        }
    }

    /// Waits for the end, passing on what the driver wants, and whether the step is ready.
    async fn wait(
        &self,
        process: &mut Process,
        group: &Group,
        mut stopped: mpsc::UnboundedReceiver<Stop>,
        probing: impl Future<Output = Result<(), String>>,
    ) -> Ended {
        tokio::pin!(probing);
        let (mut probed, mut was_stopped) = (false, false);
        let mut patience: Option<tokio::time::Instant> = None;
        loop {
            let out_of_patience = async {
                match patience {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                exit = process.wait() => {
                    if was_stopped {
                        // What it started does not outlive it, and no later step meets it.
                        end(group).await;
                    }
                    return exit.map_or(Ended::Killed, Ended::Exited);
                }
                Some(stop) = stopped.recv() => {
                    was_stopped = true;
                    match stop {
                        Stop::Gently => {
                            // It may have ended just now.
                            self.container.signal(process, Signal::SIGTERM).ok();
                            patience.get_or_insert_with(|| tokio::time::Instant::now() + GRACE);
                        }
                        Stop::Now => kill(group).await,
                    }
                }
                ready = &mut probing, if !probed => {
                    probed = true;
                    let ready = ready.map_err(|why| self.context.needles.mask_text(&why));
                    let StepId { job, step, .. } = self.id;
                    let event = Message::Event(Event::StepReady { job, step, ready });
                    // When the driver has gone, the run is over and nobody asks.
                    self.context.messages.send(event).await.ok();
                }
                () = out_of_patience => {
                    kill(group).await;
                    patience = None;
                }
            }
        }
    }
}

async fn kill(group: &Group) {
    let group = group.clone();
    // If it fails, the end of the job kills what is left.
    tokio::task::spawn_blocking(move || group.kill()).await.ok();
}

async fn end(group: &Group) {
    let group = group.clone();
    // If it fails, the end of the job kills what is left.
    tokio::task::spawn_blocking(move || group.end()).await.ok();
}

/// What was used and refused since `before`; peaks and what is on disk stay as they are.
fn since(before: &End, now: &End) -> End {
    let mut since = now.clone();
    since.usage.oom_kills = now.usage.oom_kills.saturating_sub(before.usage.oom_kills);
    since.usage.pids_refused = now.usage.pids_refused.saturating_sub(before.usage.pids_refused);
    since
}

pub(super) fn outcome(ended: Ended, verdict: Option<&Verdict>) -> StepOutcome {
    match (verdict, ended) {
        (None, _) => StepOutcome::Exit(0),
        (Some(Verdict::Memory { .. }), _) => StepOutcome::Limit(Limit::Memory),
        (Some(Verdict::Disk { .. } | Verdict::Inodes { .. } | Verdict::SharedMemory { .. }), _) => {
            StepOutcome::Limit(Limit::Disk)
        }
        (Some(Verdict::Pids { .. }), _) => StepOutcome::Limit(Limit::Pids),
        // Whole containers are killed by the kernel, for memory, and by the run, which knows why.
        (Some(_), Ended::Killed) => StepOutcome::System,
        (Some(_), Ended::Exited(exit)) => match (exit.code(), exit.signal()) {
            (Some(code), _) => StepOutcome::Exit(code),
            (None, signal) => StepOutcome::Signal(signal.map_or(9, |signal| signal as i32)),
        },
        (Some(_), _) => StepOutcome::Signal(9),
    }
}

impl StepReport {
    pub(super) fn not_run(outcome: StepOutcome, message: String) -> Self {
        let now = SystemTime::now();
        let mut end = StepEnd::new(outcome);
        end.message = Some(message);
        Self {
            end,
            started: now,
            ended: now,
            exit_code: None,
            signal: None,
            usage: None,
            summary: None,
            layer: None,
        }
    }

    /// How a program of it ended, between these times.
    pub(super) fn ran(
        how: Ended,
        end: StepEnd,
        (started, ended): (SystemTime, SystemTime),
        usage: Option<Usage>,
    ) -> Self {
        let (exit_code, signal) = match how {
            Ended::Exited(exit) => (exit.code(), exit.signal().map(|signal| signal as i32)),
            _ => (None, None),
        };
        Self { end, started, ended, exit_code, signal, usage, summary: None, layer: None }
    }

    /// All of it went well, between these times.
    pub(super) fn passed((started, ended): (SystemTime, SystemTime), usage: Option<Usage>) -> Self {
        let end = StepEnd::new(StepOutcome::Exit(0));
        Self {
            end,
            started,
            ended,
            exit_code: Some(0),
            signal: None,
            usage,
            summary: None,
            layer: None,
        }
    }

    pub(super) fn failed_to_start(error: &Error) -> Self {
        let outcome = match error.fault() {
            Fault::Pipeline => StepOutcome::NotStarted,
            Fault::System => StepOutcome::System,
        };
        Self::not_run(outcome, in_words(error))
    }
}
