//! The steps of a job, one after the other, and the ways in which they are cut short.

use std::time::Duration;

use super::{
    Action, Cause, Collect, Conclusion, End, Part, Phase, Reason, ResolvedStep, StepEnd, StepRef,
    Stop, StopReason, Timer, resolve::Unresolved, run::Run, scope::set,
};
use crate::{expr::Judged, model::Step};

/// The wall time of all cleanup steps of a job together.
pub const CLEANUP_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// What becomes of a step whose turn it is.
enum Turn {
    Start(Box<ResolvedStep>, Option<Judged>),
    Skip(Reason),
    Fail(Unresolved),
}

impl Run {
    pub(super) fn job_started(&mut self, job: usize) {
        let Some(timeout) = self.plan.jobs.get(job).map(|job| job.timeout) else { return };
        let Some(state) = self.jobs.get_mut(job) else { return };
        if state.phase != Phase::Starting {
            return;
        }
        state.phase = Phase::Steps;
        let attempt = state.attempt;
        if !state.halted {
            self.arm(job, Timer::Job { job, attempt }, timeout);
        }
        self.advance(job);
    }

    /// Goes on with a job as far as it can without waiting.
    pub(super) fn advance(&mut self, job: usize) {
        let sealing = |run: &Self| run.jobs.get(job).is_some_and(|state| state.sealing);
        if sealing(self) {
            return;
        }
        if self.phase(job) == Some(Phase::Steps) {
            self.advance_part(job, Part::Steps);
            if !self.at_end_of(job, Part::Steps) || sealing(self) {
                return;
            }
            self.stop_background(job);
            if self.jobs.get(job).is_some_and(|state| !state.running().is_empty()) {
                return;
            }
            self.begin_cleanup(job);
        }
        if self.phase(job) == Some(Phase::Cleanup) {
            self.advance_part(job, Part::Cleanup);
            let running =
                |run: &Self| run.jobs.get(job).is_some_and(|job| !job.running().is_empty());
            if self.at_end_of(job, Part::Cleanup) && !running(self) && !sealing(self) {
                self.begin_finish(job);
            }
        }
    }

    fn at_end_of(&self, job: usize, part: Part) -> bool {
        self.jobs.get(job).is_some_and(|state| {
            state.halted || (state.waiting.is_none() && state.next >= state.part(part).len())
        })
    }

    fn advance_part(&mut self, job: usize, part: Part) {
        while let Some(state) = self.jobs.get_mut(job) {
            let index = state.next;
            if state.halted || state.waiting.is_some() || index >= state.part(part).len() {
                return;
            }
            state.next += 1;
            let step = StepRef { part, index };
            match self.turn(job, step) {
                Turn::Skip(reason) => {
                    if let Some(record) = self.record(job, step) {
                        record.end(Conclusion::Skipped, Conclusion::Skipped, reason);
                    }
                }
                Turn::Fail(Unresolved { cause, message }) => {
                    self.conclude_step(job, step, cause, Some(message));
                }
                Turn::Start(resolved, rule) => {
                    if !self.has_network_of(job, step) {
                        // Its turn comes again.
                        if let Some(state) = self.jobs.get_mut(job) {
                            state.next = index;
                        }
                        return;
                    }
                    if let Some(record) = self.record(job, step) {
                        record.rule = rule;
                    }
                    self.start_step(job, step, resolved);
                }
            }
        }
    }

    fn turn(&mut self, job: usize, at: StepRef) -> Turn {
        let Some(step) = self.source(job, at) else { return Turn::Skip(Reason::JobEnded) };
        let status = self.step_status(job);
        let condition = step.condition.as_ref();
        // Cleanup steps run however the job ended, unless their own condition says otherwise.
        let always = at.part == Part::Cleanup || condition.is_some_and(|c| c.asks_status());
        if !always && !status.success() {
            return Turn::Skip(self.blocking_step(job));
        }
        let mut rule = None;
        if let Some(condition) = condition {
            match condition.judged(&self.scope(job, status)) {
                Ok(judged) if judged.holds => rule = Some(judged),
                Ok(judged) => return Turn::Skip(Reason::Condition(judged)),
                Err(error) => {
                    let mut unresolved = Unresolved::from(error);
                    unresolved.message = format!("`if`: {}", unresolved.message);
                    return Turn::Fail(unresolved);
                }
            }
        }
        match self.resolve_step(job, at) {
            Ok(resolved) => Turn::Start(Box::new(resolved), rule),
            Err(unresolved) => Turn::Fail(unresolved),
        }
    }

    fn blocking_step(&self, job: usize) -> Reason {
        let state = self.jobs.get(job);
        match state.and_then(|state| state.verdict.as_ref()) {
            Some((conclusion, Reason::Step { name, .. } | Reason::Timeout { name, .. })) => {
                Reason::Before { name: name.clone(), conclusion: *conclusion }
            }
            _ => Reason::JobEnded,
        }
    }

    fn start_step(&mut self, job: usize, step: StepRef, resolved: Box<ResolvedStep>) {
        let waits = !resolved.background || resolved.ready.is_some();
        let timeout = self.source(job, step).and_then(|step| step.timeout.as_ref());
        let timeout = timeout.map(|timeout| timeout.value);
        let Some(state) = self.jobs.get_mut(job) else { return };
        let attempt = state.attempt;
        if waits {
            state.waiting = Some(step.index);
        }
        if let Some(record) = state.step_mut(step) {
            record.started = true;
            record.name.clone_from(&resolved.name);
        }
        self.actions.push(Action::StartStep { job, step, resolved });
        if let Some(after) = timeout {
            self.arm(job, Timer::Step { job, attempt, step }, after);
        }
    }

    pub(super) fn step_ready(&mut self, job: usize, step: StepRef, ready: Result<(), String>) {
        let running = self.record(job, step).is_some_and(|record| record.is_running());
        let background = self
            .source(job, step)
            .is_some_and(|source| source.background.as_ref().is_some_and(|b| b.value));
        if !running || !background || step.part != Part::Steps {
            return;
        }
        match ready {
            Ok(()) => {
                if let Some(state) = self.jobs.get_mut(job)
                    && state.waiting == Some(step.index)
                    && !state.halted
                {
                    state.waiting = None;
                }
            }
            Err(message) => {
                let name = self.record(job, step).map(|record| record.name.clone());
                let reason = Reason::Step {
                    name: name.unwrap_or_default(),
                    cause: Cause::NotReady,
                    message: Some(message),
                };
                self.verdict(job, Conclusion::Failed, reason);
                self.stop_step(job, step, Stop::Gently, StopReason::NotReady);
            }
        }
        self.advance(job);
    }

    pub(super) fn step_ended(&mut self, job: usize, step: StepRef, end: StepEnd) {
        let Some(record) = self.record(job, step).filter(|record| record.is_running()) else {
            return;
        };
        let stop = record.stop;
        let waited_for = self.jobs.get(job).is_some_and(|state| state.waiting == Some(step.index));
        let never_ready = waited_for
            && step.part == Part::Steps
            && self.source(job, step).is_some_and(|source| {
                source.ready.is_some() && source.background.as_ref().is_some_and(|b| b.value)
            });
        let outputs: Vec<_> =
            end.outputs.into_iter().map(|(name, text)| (name, self.outside_text(text))).collect();
        let env: Vec<_> =
            end.env.into_iter().map(|(name, text)| (name, self.outside_text(text))).collect();
        if let Some(state) = self.jobs.get_mut(job) {
            for (name, value) in env {
                set(&mut state.env, &name, value);
            }
            if state.waiting == Some(step.index) {
                state.waiting = None;
            }
            if let Some(record) = state.step_mut(step) {
                record.outputs = outputs;
            }
            let attempt = state.attempt;
            self.disarm(job, Timer::Step { job, attempt, step });
        }
        let cause = match stop {
            Some(StopReason::Done) => None,
            Some(StopReason::Cancelled | StopReason::ServiceEnded) => Some(Cause::Cancel),
            Some(StopReason::NotReady) => Some(Cause::NotReady),
            Some(StopReason::StepTimeout | StopReason::JobTimeout | StopReason::CleanupTimeout) => {
                Some(Cause::Timeout)
            }
            None => match end.end {
                End::Exit(0) if never_ready => Some(Cause::NotReady),
                End::Exit(0) => None,
                End::Exit(code) => Some(Cause::Exit(code)),
                End::Signal(signal) => Some(Cause::Signal(signal)),
                End::Limit(limit) => Some(Cause::Limit(limit)),
                End::NotStarted => Some(Cause::NotStarted),
                End::System => Some(Cause::System),
            },
        };
        match cause {
            None => {
                if let Some(record) = self.record(job, step) {
                    record.end(Conclusion::Passed, Conclusion::Passed, Reason::Done);
                }
            }
            Some(cause) => {
                let message = match (never_ready, stop, end.message) {
                    (true, None, Some(message)) => {
                        Some(format!("ended before it was ready: {message}"))
                    }
                    (true, None, None) => Some("ended before it was ready".to_owned()),
                    (_, _, message) => message,
                };
                self.conclude_step(job, step, cause, message);
            }
        }
        self.seal_after(job, step);
        self.advance(job);
    }

    /// Records that a step ended badly, and what that means for its job.
    fn conclude_step(&mut self, job: usize, step: StepRef, cause: Cause, message: Option<String>) {
        let outcome = Conclusion::from(cause);
        let source = self.source(job, step);
        let tolerated =
            source.is_some_and(|s| s.continue_on_error.as_ref().is_some_and(|c| c.value));
        let step_timeout = source.and_then(|s| s.timeout.as_ref()).map(|timeout| timeout.value);
        let job_timeout = self.plan.jobs.get(job).map(|job| job.timeout);
        let cancel = self.jobs.get(job).and_then(|state| state.verdict.clone());
        let Some(record) = self.record(job, step) else { return };
        let name = record.name.clone();
        let reason = match (cause, record.stop) {
            (Cause::Timeout, Some(of)) => {
                let limit = match of {
                    StopReason::StepTimeout => step_timeout,
                    StopReason::CleanupTimeout => Some(CLEANUP_TIMEOUT),
                    _ => job_timeout,
                };
                Reason::Timeout { of, limit: limit.unwrap_or_default(), name }
            }
            (Cause::Cancel, _) => cancel.map_or(Reason::RunCancelled, |(_, reason)| reason),
            _ => Reason::Step { name, cause, message },
        };
        let stopped_by_job = matches!(record.stop, Some(StopReason::JobTimeout));
        let tolerated = tolerated
            && !stopped_by_job
            && matches!(outcome, Conclusion::Failed | Conclusion::TimedOut);
        let conclusion = if tolerated { Conclusion::Passed } else { outcome };
        record.end(outcome, conclusion, reason.clone());
        if tolerated {
            return;
        }
        self.verdict(job, outcome, reason);
        // The host is at fault: further steps would only fail as well.
        if outcome == Conclusion::System
            && let Some(state) = self.jobs.get_mut(job)
        {
            state.halted = true;
        }
    }

    /// Tells all running steps to end that were not told before, or not as firmly.
    pub(super) fn stop_running(&mut self, job: usize, stop: Stop, reason: StopReason) {
        let running = self.jobs.get(job).map(super::job::JobState::running).unwrap_or_default();
        for step in running {
            self.stop_step(job, step, stop, reason);
        }
    }

    /// The steps of a job are over: those in the background go, the last one first.
    fn stop_background(&mut self, job: usize) {
        let Some(state) = self.jobs.get(job) else { return };
        let running = state.running();
        let halted = state.halted;
        let last = running.last().copied();
        for step in running {
            if halted || Some(step) == last {
                self.stop_step(job, step, Stop::Gently, StopReason::Done);
            }
        }
    }

    fn stop_step(&mut self, job: usize, step: StepRef, stop: Stop, reason: StopReason) {
        let Some(record) = self.record(job, step) else { return };
        if record.stop.is_some() && stop == Stop::Gently {
            return;
        }
        record.stop.get_or_insert(reason);
        self.actions.push(Action::StopStep { job, step, stop, reason });
    }

    pub(super) fn timer_fired(&mut self, timer: Timer) {
        match timer {
            Timer::Step { job, step, .. } => {
                if self.fired(job, timer) {
                    self.stop_step(job, step, Stop::Gently, StopReason::StepTimeout);
                }
            }
            Timer::Job { job, .. } => self.time_is_up(job, timer, StopReason::JobTimeout),
            Timer::Cleanup { job, .. } => self.time_is_up(job, timer, StopReason::CleanupTimeout),
            Timer::Retry { job, .. } => {
                if self.fired(job, timer) {
                    self.retry(job);
                }
            }
        }
    }

    fn time_is_up(&mut self, job: usize, timer: Timer, reason: StopReason) {
        if !self.fired(job, timer) {
            return;
        }
        if let Some(state) = self.jobs.get_mut(job) {
            state.halted = true;
        }
        self.stop_running(job, Stop::Gently, reason);
        self.advance(job);
    }

    /// The steps have ended and none is left running.
    fn begin_cleanup(&mut self, job: usize) {
        self.skip_rest(job, Part::Steps);
        match self.job_outputs(job) {
            Ok(outputs) => {
                if let Some(state) = self.jobs.get_mut(job) {
                    state.outputs = outputs;
                }
            }
            Err(Unresolved { cause, message }) => {
                let message = format!("`outputs`: {message}");
                self.verdict(job, Conclusion::Failed, Reason::Fault { cause, message });
            }
        }
        let killed = self.killed;
        let Some(state) = self.jobs.get_mut(job) else { return };
        let attempt = state.attempt;
        // Without a step that ran there is nothing to clean up.
        let needed = !killed && state.steps.iter().any(|step| step.started);
        state.phase = Phase::Cleanup;
        state.next = 0;
        state.waiting = None;
        state.halted = !needed;
        let any = needed && !state.cleanup.is_empty();
        self.disarm(job, Timer::Job { job, attempt });
        if any {
            self.arm(job, Timer::Cleanup { job, attempt }, CLEANUP_TIMEOUT);
        }
    }

    fn begin_finish(&mut self, job: usize) {
        self.skip_rest(job, Part::Cleanup);
        let killed = self.killed;
        let Some(state) = self.jobs.get_mut(job) else { return };
        let attempt = state.attempt;
        state.phase = Phase::Finishing;
        self.disarm(job, Timer::Cleanup { job, attempt });
        let collect = if killed { Ok(Collect::default()) } else { self.collect(job) };
        let collect = collect.unwrap_or_else(|Unresolved { cause, message }| {
            self.verdict(job, Conclusion::Failed, Reason::Fault { cause, message });
            Collect::default()
        });
        self.actions.push(Action::FinishJob { job, attempt, collect });
    }

    /// Records the steps that did not get their turn.
    fn skip_rest(&mut self, job: usize, part: Part) {
        let Some(state) = self.jobs.get_mut(job) else { return };
        let cancelled = state.cancelled;
        for record in state.part_mut(part) {
            if record.outcome.is_none() && !record.started {
                let (conclusion, reason) = if cancelled {
                    (Conclusion::Cancelled, Reason::RunCancelled)
                } else {
                    (Conclusion::Skipped, Reason::JobEnded)
                };
                record.end(conclusion, conclusion, reason);
            }
        }
    }

    pub(super) fn source(&self, job: usize, at: StepRef) -> Option<&Step> {
        let source = &self.plan.jobs.get(job)?.source;
        match at.part {
            Part::Steps => source.steps.get(at.index),
            Part::Cleanup => source.cleanup.get(at.index),
        }
    }

    fn record(&mut self, job: usize, step: StepRef) -> Option<&mut super::StepRecord> {
        self.jobs.get_mut(job)?.step_mut(step)
    }
}
