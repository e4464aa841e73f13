//! What is known of one job while the run goes on.

use std::collections::BTreeSet;

use super::{
    Attempt, Cause, Conclusion, Part, Reason, Resource, Retry, StepRef, StopReason, Timer,
};
use crate::{
    expr::{Judged, Value},
    model::{AllowFailure, RetryCause, Step},
    plan::PlannedJob,
};

/// Where a job is in its life; see the table of [`crate::state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Something it needs has not ended.
    Blocked,
    /// It waits for room.
    Ready,
    /// Its container is being put up.
    Starting,
    /// Its steps run.
    Steps,
    /// Its cleanup steps run.
    Cleanup,
    /// Its files are collected and its container is taken down.
    Finishing,
    /// It waits before another try.
    Backoff,
    /// It has ended.
    Ended,
}

/// What a job waits for that has not started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitingFor {
    /// These jobs of the file, by id.
    Needs(Vec<String>),
    /// A place among the jobs that run at the same time.
    Place,
    /// A place among the jobs of its matrix, by `max-parallel`.
    MatrixPlace,
    /// What the other jobs of the run leave too little of.
    Room(Resource),
    /// What other runs of the machine leave too little of.
    Machine {
        /// What.
        resource: Resource,
        /// How much of it the job asks for.
        wanted: u64,
        /// How much of it other runs hold.
        held: u64,
        /// Which runs, by id.
        runs: Vec<String>,
    },
    /// Another run of the machine, by id, whose turn it is.
    Turn(String),
    /// The time before another try.
    Backoff,
}

/// A step as far as it has come.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRecord {
    /// Its id, where the file gives one.
    pub id: Option<String>,
    /// For people.
    pub name: String,
    /// Whether it was started.
    pub started: bool,
    /// How it ended by itself.
    pub outcome: Option<Conclusion>,
    /// How it counts: passed also where `continue-on-error` lets a failure pass.
    pub conclusion: Option<Conclusion>,
    /// Why, where it ended.
    pub reason: Option<Reason>,
    /// What it wrote to `COFFERDAM_OUTPUT`.
    pub outputs: Vec<(String, Value)>,
    /// The `if` by which it was started.
    pub rule: Option<Judged>,
    /// Why it is being stopped.
    pub(super) stop: Option<StopReason>,
}

impl StepRecord {
    fn new(step: &Step, index: usize) -> Self {
        Self {
            id: step.id.as_ref().map(|id| id.value.clone()),
            name: step.label(index),
            started: false,
            outcome: None,
            conclusion: None,
            reason: None,
            outputs: Vec::new(),
            rule: None,
            stop: None,
        }
    }

    /// Whether its processes are there.
    pub fn is_running(&self) -> bool {
        self.started && self.outcome.is_none()
    }

    pub(super) fn end(&mut self, outcome: Conclusion, conclusion: Conclusion, reason: Reason) {
        self.outcome = Some(outcome);
        self.conclusion = Some(conclusion);
        self.reason = Some(reason);
    }
}

/// A job of the plan and how far it has come, for display and reports.
#[derive(Clone, Debug)]
pub struct JobView<'r> {
    /// Index into [`crate::plan::Plan::jobs`].
    pub index: usize,
    /// As planned.
    pub planned: &'r PlannedJob,
    /// Where it is.
    pub phase: Phase,
    /// What it waits for, where it has not started.
    pub waiting: Option<WaitingFor>,
    /// Which try is under way or was the last, from 1; 0 before the first.
    pub attempt: u32,
    /// The tries that have ended.
    pub attempts: &'r [Attempt],
    /// How it ended.
    pub conclusion: Option<Conclusion>,
    /// Why.
    pub reason: Option<&'r Reason>,
    /// The `if` by which it was let go.
    pub rule: Option<&'r Judged>,
    /// Whether it failed and was allowed to.
    pub allowed: bool,
    /// Its steps in the last try.
    pub steps: &'r [StepRecord],
    /// Its cleanup steps in the last try.
    pub cleanup: &'r [StepRecord],
    /// Its outputs.
    pub outputs: &'r [(String, Value)],
}

impl JobView<'_> {
    /// Whether it passed, but not at the first try.
    pub fn is_flaky(&self) -> bool {
        self.conclusion == Some(Conclusion::Passed) && self.attempts.len() > 1
    }
}

/// How the current try will end, as far as that is known.
pub(super) type Verdict = (Conclusion, Reason);

/// The state of one job.
#[derive(Debug)]
pub(super) struct JobState {
    pub(super) phase: Phase,
    pub(super) attempt: u32,
    pub(super) attempts: Vec<Attempt>,
    pub(super) steps: Vec<StepRecord>,
    pub(super) cleanup: Vec<StepRecord>,
    /// The next step of the current part.
    pub(super) next: usize,
    /// The step of the current part that has to end, or get ready, before the next one starts.
    pub(super) waiting: Option<usize>,
    /// What went wrong first in this try.
    pub(super) verdict: Option<Verdict>,
    /// No further step of the current part starts.
    pub(super) halted: bool,
    /// Its file system is being kept for others; nothing of it starts meanwhile.
    pub(super) sealing: bool,
    /// The step whose network its container has, if that is not the job's own.
    pub(super) network: Option<StepRef>,
    pub(super) cancelled: bool,
    /// Environment of its steps: secrets, the pipeline's, its own, then what steps exported.
    pub(super) env: Vec<(String, Value)>,
    pub(super) outputs: Vec<(String, Value)>,
    pub(super) armed: BTreeSet<Timer>,
    pub(super) ended: Option<Verdict>,
    pub(super) allowed: bool,
    /// The `if` by which it was let go.
    pub(super) rule: Option<Judged>,
}

impl JobState {
    pub(super) fn new(job: &PlannedJob) -> Self {
        let mut state = Self {
            phase: Phase::Blocked,
            attempt: 0,
            attempts: Vec::new(),
            steps: Vec::new(),
            cleanup: Vec::new(),
            next: 0,
            waiting: None,
            verdict: None,
            halted: false,
            sealing: false,
            network: None,
            cancelled: false,
            env: Vec::new(),
            outputs: Vec::new(),
            armed: BTreeSet::new(),
            ended: None,
            allowed: false,
            rule: None,
        };
        state.reset(job);
        state
    }

    /// Forgets the try before.
    pub(super) fn reset(&mut self, job: &PlannedJob) {
        let records = |steps: &[Step]| {
            steps.iter().enumerate().map(|(index, step)| StepRecord::new(step, index)).collect()
        };
        self.steps = records(&job.source.steps);
        self.cleanup = records(&job.source.cleanup);
        self.next = 0;
        self.waiting = None;
        self.verdict = None;
        self.halted = false;
        self.sealing = false;
        self.network = None;
        self.env = Vec::new();
        self.outputs = Vec::new();
    }

    pub(super) fn part(&self, part: Part) -> &[StepRecord] {
        match part {
            Part::Steps => &self.steps,
            Part::Cleanup => &self.cleanup,
        }
    }

    pub(super) fn part_mut(&mut self, part: Part) -> &mut [StepRecord] {
        match part {
            Part::Steps => &mut self.steps,
            Part::Cleanup => &mut self.cleanup,
        }
    }

    pub(super) fn step_mut(&mut self, step: StepRef) -> Option<&mut StepRecord> {
        self.part_mut(step.part).get_mut(step.index)
    }

    /// All steps whose processes are there.
    pub(super) fn running(&self) -> Vec<StepRef> {
        let of = |part| {
            let records = self.part(part).iter().enumerate();
            records
                .filter(|(_, record)| record.is_running())
                .map(move |(index, _)| StepRef { part, index })
        };
        of(Part::Steps).chain(of(Part::Cleanup)).collect()
    }

    /// Keeps the first thing that went wrong; a fault of the system counts more than all others.
    pub(super) fn blame(&mut self, conclusion: Conclusion, reason: Reason) {
        let system = conclusion == Conclusion::System;
        if self.verdict.is_none()
            || (system && self.verdict.as_ref().is_some_and(|(c, _)| *c != Conclusion::System))
        {
            self.verdict = Some((conclusion, reason));
        }
    }
}

/// The cause for which a job that ended this way is tried again.
fn wanted_cause(
    causes: &[RetryCause],
    conclusion: Conclusion,
    reason: &Reason,
) -> Option<RetryCause> {
    let cause = reason.cause();
    causes.iter().copied().find(|wanted| match wanted {
        RetryCause::System => conclusion == Conclusion::System,
        RetryCause::Timeout => conclusion == Conclusion::TimedOut,
        RetryCause::Memory => cause == Some(Cause::Limit(super::Limit::Memory)),
        RetryCause::Failure => conclusion == Conclusion::Failed,
        RetryCause::Exit(code) => cause == Some(Cause::Exit(*code)),
    })
}

/// What `retry` makes of how the try of this number ended.
pub(super) fn retry(
    retry: &crate::model::Retry,
    number: u32,
    conclusion: Conclusion,
    reason: &Reason,
) -> Retry {
    match wanted_cause(&retry.on, conclusion, reason) {
        // It would have no value the next time either.
        _ if reason.cause() == Some(Cause::Expression) => Retry::OtherCause,
        None => Retry::OtherCause,
        Some(_) if number > retry.max => Retry::UsedUp(retry.max),
        Some(cause) => Retry::Again(cause),
    }
}

/// Whether a job that ended this way does not fail the run.
pub(super) fn allows(allow: &AllowFailure, conclusion: Conclusion, reason: &Reason) -> bool {
    if !matches!(conclusion, Conclusion::Failed | Conclusion::TimedOut) {
        return false;
    }
    match allow {
        AllowFailure::Never => false,
        AllowFailure::Always => true,
        AllowFailure::Codes(codes) => {
            matches!(reason.cause(), Some(Cause::Exit(code)) if codes.contains(&code))
        }
    }
}
