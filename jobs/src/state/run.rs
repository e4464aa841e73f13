//! The run: takes events, keeps all jobs, gives actions.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    Action, Attempt, Cause, Conclusion, Elsewhere, Event, Fault, KeepStates, Kept, Phase, Reason,
    Retry, Settings, Stop, StopReason, Timer, WaitingFor,
    fork::{Fork, taken},
    job::{JobState, JobView, allows, retry},
    schedule::GroupState,
    settings::{Demand, exceeds},
};
use crate::{diagnostic::Diagnostic, plan::Plan};

/// The longest wait before another try.
const MAX_BACKOFF: Duration = Duration::from_secs(60 * 60);

/// A run of a plan.
#[derive(Debug)]
pub struct Run {
    pub(super) plan: Arc<Plan>,
    pub(super) settings: Settings,
    pub(super) jobs: Vec<JobState>,
    pub(super) groups: Vec<GroupState>,
    pub(super) forks: Vec<Fork>,
    pub(super) demands: Vec<Demand>,
    /// Jobs that wait for room, the longest way to the end first.
    pub(super) ready: BTreeSet<(Reverse<Duration>, usize)>,
    /// Those of them whose containers are made from what the plan says alone, in the same order.
    pub(super) by_plan: BTreeSet<(Reverse<Duration>, usize)>,
    /// Jobs that have begun to wait since [`Run::newly_waiting`] was asked.
    pub(super) queued: Vec<usize>,
    /// What the jobs that hold a place take together, and what is kept of others.
    pub(super) used: Demand,
    /// The least that any job takes, of each resource.
    pub(super) least: Demand,
    /// What other runs hold, as far as is known.
    pub(super) elsewhere: Elsewhere,
    /// Whether that is known for certain just now.
    pub(super) asked: bool,
    /// Whether a job could start but for other runs.
    pub(super) crowded: bool,
    /// Groups that have ended and whose dependents do not know.
    pub(super) settled: VecDeque<usize>,
    pub(super) actions: Vec<Action>,
    pub(super) cancelled: bool,
    pub(super) killed: bool,
    open: usize,
    conclusion: Option<Conclusion>,
}

impl Run {
    /// A run that has not begun.
    ///
    /// # Errors
    /// A job asks for more than the capacity as a whole, so that it would wait for ever.
    pub fn new(plan: Arc<Plan>, settings: Settings) -> Result<Self, Vec<Diagnostic>> {
        let forks = Fork::all(&plan, settings.keep_states);
        let jobs = plan.jobs.iter().zip(&forks);
        let demands: Vec<Demand> =
            jobs.map(|(job, fork)| Demand::of(job, fork.seals(job), &settings)).collect();
        let least = demands.iter().copied().reduce(Demand::least).unwrap_or_default();
        let jobs: Vec<JobState> = plan.jobs.iter().map(JobState::new).collect();
        let groups = GroupState::all(&plan);
        let run = Self {
            open: jobs.len(),
            jobs,
            groups,
            forks,
            demands,
            ready: BTreeSet::new(),
            by_plan: BTreeSet::new(),
            queued: Vec::new(),
            used: Demand::default(),
            least,
            elsewhere: Elsewhere::default(),
            asked: false,
            crowded: false,
            settled: VecDeque::new(),
            actions: Vec::new(),
            cancelled: false,
            killed: false,
            conclusion: None,
            plan,
            settings,
        };
        run.fits()?;
        Ok(run)
    }

    /// Counts what is kept for the jobs from before the first to after the last.
    ///
    /// # Errors
    /// It leaves too little for a job, so that this would wait for ever.
    pub fn hold(&mut self, kept: Kept) -> Result<(), Vec<Diagnostic>> {
        self.used.add(&taken(kept));
        self.fits()
    }

    /// Whether each job could start by itself.
    fn fits(&self) -> Result<(), Vec<Diagnostic>> {
        let Settings { capacity, machine, .. } = &self.settings;
        let jobs = self.plan.jobs.iter().zip(&self.demands).zip(&self.forks);
        let too_large = jobs.filter_map(|((job, demand), fork)| {
            let lacks = |capacity| demand.lacks(&self.used, capacity);
            let what = lacks(capacity).or_else(|| lacks(machine))?;
            Some(exceeds(job, what, fork.seals(job), &self.settings))
        });
        let too_large: Vec<Diagnostic> = too_large.collect();
        if too_large.is_empty() { Ok(()) } else { Err(too_large) }
    }

    /// The first actions.
    pub fn start(&mut self) -> Vec<Action> {
        for group in 0..self.groups.len() {
            self.decide(group);
        }
        for group in 0..self.groups.len() {
            if self.groups.get(group).is_some_and(|group| group.blocked_by == 0) {
                self.release(group);
            }
        }
        self.settle()
    }

    /// Takes in what happened and says what is to be done about it, in this order.
    pub fn handle(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::JobStarted { job } => self.job_started(job),
            Event::JobStartFailed { job, fault, message } => {
                if self.phase(job) == Some(Phase::Starting) {
                    let (conclusion, cause) = blame(fault, Cause::NotStarted);
                    self.verdict(job, conclusion, Reason::Fault { cause, message });
                    self.end_attempt(job);
                }
            }
            Event::ServiceEnded { job, message } => self.service_ended(job, message),
            Event::JobSealed { job, sealed } => self.job_sealed(job, sealed),
            Event::StepReady { job, step, ready } => self.step_ready(job, step, ready),
            Event::StepEnded { job, step, end } => self.step_ended(job, step, end),
            Event::TimerFired(timer) => self.timer_fired(timer),
            Event::JobFinished { job, fault, kept } => {
                if self.phase(job) == Some(Phase::Finishing) {
                    self.keep(job, kept);
                    if let Some((fault, message)) = fault {
                        let (conclusion, cause) = blame(fault, Cause::Files);
                        self.verdict(job, conclusion, Reason::Fault { cause, message });
                    }
                    self.end_attempt(job);
                }
            }
            Event::Room(elsewhere) => {
                self.elsewhere = elsewhere;
                self.asked = true;
            }
            Event::CancelRequested => self.cancel(),
            Event::KillRequested => self.kill(),
        }
        self.settle()
    }

    /// All jobs, in the order of the plan.
    pub fn jobs(&self) -> impl Iterator<Item = JobView<'_>> {
        (0..self.jobs.len()).filter_map(|index| self.job(index))
    }

    /// One job.
    pub fn job(&self, index: usize) -> Option<JobView<'_>> {
        let state = self.jobs.get(index)?;
        Some(JobView {
            index,
            planned: self.plan.jobs.get(index)?,
            phase: state.phase,
            waiting: self.waiting_for(index),
            attempt: state.attempt,
            attempts: &state.attempts,
            conclusion: state.ended.as_ref().map(|(conclusion, _)| *conclusion),
            reason: state.ended.as_ref().map(|(_, reason)| reason),
            rule: state.rule.as_ref(),
            allowed: state.allowed,
            steps: &state.steps,
            cleanup: &state.cleanup,
            outputs: &state.outputs,
        })
    }

    /// The jobs that have begun to wait for room or a place since the last call, and for what.
    pub fn newly_waiting(&mut self) -> Vec<(usize, WaitingFor)> {
        let queued = std::mem::take(&mut self.queued);
        let waiting = |job| Some((job, self.waiting_for(job)?));
        queued
            .into_iter()
            .filter(|job| self.phase(*job) == Some(Phase::Ready))
            .filter_map(waiting)
            .collect()
    }

    /// What the run holds just now.
    pub fn used(&self) -> &Demand {
        &self.used
    }

    /// Whether there are jobs that only lack room.
    pub fn wants_room(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether a job would have started at the last [`Event::Room`] but for other runs.
    pub fn is_crowded(&self) -> bool {
        self.crowded && self.wants_room()
    }

    /// Whether what jobs have written is kept after each of their steps.
    pub fn keeps_steps(&self) -> bool {
        self.settings.keep_states == KeepStates::Steps
    }

    /// The plan that is run.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// How the run ended, once it has.
    pub fn conclusion(&self) -> Option<Conclusion> {
        self.conclusion
    }

    pub(super) fn phase(&self, job: usize) -> Option<Phase> {
        self.jobs.get(job).map(|state| state.phase)
    }

    pub(super) fn verdict(&mut self, job: usize, conclusion: Conclusion, reason: Reason) {
        if let Some(state) = self.jobs.get_mut(job) {
            state.blame(conclusion, reason);
        }
    }

    pub(super) fn arm(&mut self, job: usize, timer: Timer, after: Duration) {
        if let Some(state) = self.jobs.get_mut(job) {
            state.armed.insert(timer);
            self.actions.push(Action::ArmTimer { timer, after });
        }
    }

    pub(super) fn disarm(&mut self, job: usize, timer: Timer) {
        if self.jobs.get_mut(job).is_some_and(|state| state.armed.remove(&timer)) {
            self.actions.push(Action::DisarmTimer(timer));
        }
    }

    /// Whether a timer that fired was still wanted.
    pub(super) fn fired(&mut self, job: usize, timer: Timer) -> bool {
        self.jobs.get_mut(job).is_some_and(|state| state.armed.remove(&timer))
    }

    /// The container of a try is gone, or never was: try again, or end the job.
    pub(super) fn end_attempt(&mut self, job: usize) {
        self.leave_place(job);
        self.count_kept(job);
        let (Some(state), Some(planned)) = (self.jobs.get_mut(job), self.plan.jobs.get(job)) else {
            return;
        };
        let number = state.attempt;
        let (conclusion, reason) =
            state.verdict.take().unwrap_or((Conclusion::Passed, Reason::Done));
        let after = match &planned.source.retry {
            _ if conclusion == Conclusion::Passed => None,
            Some(_) if state.cancelled || self.cancelled => Some(Retry::Cancelled),
            Some(source) => Some(retry(source, number, conclusion, &reason)),
            None => None,
        };
        state.attempts.push(Attempt { number, conclusion, reason: reason.clone(), retry: after });
        if !matches!(after, Some(Retry::Again(_))) {
            self.end_job(job, conclusion, reason);
            return;
        }
        let first = planned.source.retry.as_ref().map_or(Duration::ZERO, |retry| retry.backoff);
        let factor = 2_u32.saturating_pow(number.saturating_sub(1));
        state.phase = Phase::Backoff;
        let after = first.saturating_mul(factor).min(MAX_BACKOFF);
        self.arm(job, Timer::Retry { job, attempt: number }, after);
    }

    /// Ends a job for good. It holds no place and has no container.
    pub(super) fn end_job(&mut self, job: usize, conclusion: Conclusion, reason: Reason) {
        let (Some(state), Some(planned)) = (self.jobs.get_mut(job), self.plan.jobs.get(job)) else {
            return;
        };
        if state.phase == Phase::Ended {
            return;
        }
        state.phase = Phase::Ended;
        state.allowed = allows(&planned.source.allow_failure, conclusion, &reason);
        let failed = !state.allowed
            && matches!(conclusion, Conclusion::Failed | Conclusion::TimedOut | Conclusion::System);
        state.ended = Some((conclusion, reason));
        let timers = std::mem::take(&mut state.armed);
        self.actions.extend(timers.into_iter().map(Action::DisarmTimer));
        self.open = self.open.saturating_sub(1);
        self.actions.push(Action::JobEnded { job, conclusion });
        if failed && planned.source.fail_fast.as_ref().is_some_and(|fail_fast| fail_fast.value) {
            let siblings = self.plan.group(planned.group).map(|group| group.jobs.clone());
            let reason = Reason::FailFast { name: planned.name.clone() };
            for sibling in siblings.into_iter().flatten() {
                self.cancel_job(sibling, &reason);
            }
        }
        self.job_let_go(job);
        self.job_left_group(job);
    }

    fn cancel(&mut self) {
        if self.cancelled {
            return;
        }
        self.cancelled = true;
        for job in 0..self.jobs.len() {
            self.cancel_job(job, &Reason::RunCancelled);
        }
    }

    fn kill(&mut self) {
        if self.killed {
            return;
        }
        // Before the cancel, so that it begins no cleanup.
        self.killed = true;
        self.cancel();
        for job in 0..self.jobs.len() {
            if matches!(self.phase(job), Some(Phase::Steps | Phase::Cleanup)) {
                self.verdict(job, Conclusion::Cancelled, Reason::RunCancelled);
                if let Some(state) = self.jobs.get_mut(job) {
                    state.cancelled = true;
                    state.halted = true;
                }
                self.stop_running(job, Stop::Now, StopReason::Cancelled);
                self.advance(job);
            }
        }
    }

    /// Stops a job, in order, wherever it is; one that is already at its end goes on to it.
    fn cancel_job(&mut self, job: usize, reason: &Reason) {
        let Some(state) = self.jobs.get_mut(job) else { return };
        match state.phase {
            Phase::Blocked | Phase::Ready | Phase::Backoff => {
                self.leave_queue(job);
                self.end_job(job, Conclusion::Cancelled, reason.clone());
            }
            Phase::Starting | Phase::Steps => {
                state.cancelled = true;
                state.halted = true;
                state.blame(Conclusion::Cancelled, reason.clone());
                if state.phase == Phase::Starting {
                    self.actions.push(Action::AbortStart { job });
                } else {
                    self.stop_running(job, Stop::Gently, StopReason::Cancelled);
                    self.advance(job);
                }
            }
            Phase::Cleanup | Phase::Finishing | Phase::Ended => {}
        }
    }

    /// Follows what has ended to what it released, starts what there is room for, and ends the run
    /// when nothing is left.
    fn settle(&mut self) -> Vec<Action> {
        self.settle_groups();
        self.start_ready();
        self.asked = false;
        if self.open == 0 && self.conclusion.is_none() {
            let conclusion = self.run_conclusion();
            self.conclusion = Some(conclusion);
            self.actions.push(Action::RunEnded { conclusion });
        }
        std::mem::take(&mut self.actions)
    }

    fn run_conclusion(&self) -> Conclusion {
        let any = |wanted: Conclusion| {
            self.jobs.iter().any(|job| {
                !job.allowed
                    && job.ended.as_ref().is_some_and(|(conclusion, _)| *conclusion == wanted)
            })
        };
        if self.cancelled && any(Conclusion::Cancelled) {
            return Conclusion::Cancelled;
        }
        [Conclusion::System, Conclusion::Failed, Conclusion::TimedOut]
            .into_iter()
            .find(|conclusion| any(*conclusion))
            .unwrap_or(Conclusion::Passed)
    }
}

fn blame(fault: Fault, cause: Cause) -> (Conclusion, Cause) {
    match fault {
        Fault::Pipeline => (Conclusion::Failed, cause),
        Fault::System => (Conclusion::System, Cause::System),
    }
}
