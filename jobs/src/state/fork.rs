//! Jobs that start in the file systems of others, and how long these are kept.
//!
//! A file system is kept as long as a job that starts in it has not ended, or is itself kept for
//! others: their layers lie over it. What it takes counts against the capacity all that time: by
//! what it is when the job has ended, and before that as a part of what the job was given, which has
//! room for it ([`Demand`]).

use std::collections::BTreeSet;

use super::{
    Action, Cause, Conclusion, Fault, KeepStates, Kept, Part, Phase, Reason, Settings, StartFrom,
    StepRef, Stop, StopReason, resolve::Unresolved, run::Run, settings::Demand,
};
use crate::{
    diagnostic::quoted,
    plan::{Plan, PlannedJob},
};

/// What is known of a job as the start of others.
#[derive(Clone, Debug, Default)]
pub(super) struct Fork {
    /// Steps after which others start, or which the run keeps.
    seals: BTreeSet<usize>,
    /// Steps after which its file system was kept in this try.
    sealed: BTreeSet<usize>,
    /// How many jobs that start from it are not yet done with it.
    holders: usize,
    /// The job that it starts from, until it is done with that.
    parent: Option<usize>,
    /// What is kept of it.
    kept: Kept,
    /// Whether that counts by itself: its last try is over.
    counted: bool,
    /// Whether anybody starts from it.
    wanted: bool,
    /// Whether its container stood in its last try.
    stood: bool,
}

impl Fork {
    pub(super) fn all(plan: &Plan, keep: KeepStates) -> Vec<Self> {
        let mut forks = vec![Self::default(); plan.jobs.len()];
        for (index, job) in plan.jobs.iter().enumerate() {
            if let Some(fork) = forks.get_mut(index)
                && keep == KeepStates::Steps
                && job.build.is_none()
            {
                // What is there after the last one is what the job ends with.
                let last = usize::from(job.source.cleanup.is_empty());
                fork.seals.extend(0..job.source.steps.len().saturating_sub(last));
            }
            let Some(from) = &job.from else { continue };
            let step = from.step.as_ref().and_then(|id| step_index(plan, from.job, id));
            if let Some(parent) = forks.get_mut(from.job) {
                parent.wanted = true;
                parent.holders += 1;
                parent.seals.extend(step);
            }
            if let Some(fork) = forks.get_mut(index) {
                fork.parent = Some(from.job);
            }
        }
        forks
    }

    /// How often at most the file system of `job`, whose this is, is kept while it runs.
    pub(super) fn seals(&self, job: &PlannedJob) -> u64 {
        if job.build.is_some() {
            return 0;
        }
        // Each change of networks; where a step is skipped there are not more of them.
        let steps = job.source.steps.iter().chain(&job.source.cleanup).enumerate();
        let mut network = None;
        let mut changes = 0;
        for (index, step) in steps {
            let own = step.network.is_some().then_some(index);
            changes += u64::from(own != network);
            network = own;
        }
        changes + self.seals.len() as u64
    }
}

fn step_index(plan: &Plan, job: usize, id: &str) -> Option<usize> {
    let steps = &plan.jobs.get(job)?.source.steps;
    steps.iter().position(|step| step.id.as_ref().is_some_and(|own| own.value == id))
}

impl Run {
    /// Whether what a job writes is kept: because the run keeps it, for others, or for its own steps
    /// with another network.
    pub(super) fn is_kept(&self, job: usize) -> bool {
        let switches = self.plan.jobs.get(job).is_some_and(|job| {
            job.source.steps.iter().chain(&job.source.cleanup).any(|step| step.network.is_some())
        });
        let builds = self.plan.jobs.get(job).is_some_and(|job| job.build.is_some());
        let asked = self.settings.keep_states != KeepStates::Nothing && !builds;
        asked || switches || self.forks.get(job).is_some_and(|fork| fork.wanted)
    }

    /// The file system that a job starts in, where it is another's.
    pub(super) fn start_from(&self, job: usize) -> Result<Option<StartFrom>, Unresolved> {
        let Some(from) = self.plan.jobs.get(job).and_then(|job| job.from.as_ref()) else {
            return Ok(None);
        };
        let missing = |message: String| Unresolved { cause: Cause::NotStarted, message };
        let name = self.plan.jobs.get(from.job).map(|job| quoted(&job.name)).unwrap_or_default();
        let fork = self.forks.get(from.job);
        let step = match &from.step {
            None if fork.is_some_and(|fork| fork.stood) => None,
            None => {
                let why = "did not run, so there is no file system to start from";
                return Err(missing(format!("{name} {why}")));
            }
            Some(id) => {
                let index = step_index(&self.plan, from.job, id);
                let sealed = |index: &usize| fork.is_some_and(|fork| fork.sealed.contains(index));
                let none = || {
                    let why = "did not run, so there is no state after it to start from";
                    missing(format!("step {} of {name} {why}", quoted(id)))
                };
                Some(index.filter(sealed).ok_or_else(none)?)
            }
        };
        Ok(Some(StartFrom { job: from.job, step }))
    }

    /// Keeps the file system of a job after this step, where others start from that or the run keeps
    /// it.
    pub(super) fn seal_after(&mut self, job: usize, step: StepRef) {
        let Some(state) = self.jobs.get_mut(job) else { return };
        let wanted = step.part == Part::Steps
            && self.forks.get(job).is_some_and(|fork| fork.seals.contains(&step.index));
        if !wanted || state.phase != Phase::Steps || state.halted || state.cancelled {
            return;
        }
        state.sealing = true;
        let network = state.network;
        self.actions.push(Action::SealJob { job, step: Some(step.index), network });
        if let Some(fork) = self.forks.get_mut(job) {
            fork.sealed.insert(step.index);
        }
    }

    /// Whether the container of a job has the network that this step wants; if not, one is put up
    /// that has, and starts in what the job has written.
    pub(super) fn has_network_of(&mut self, job: usize, step: StepRef) -> bool {
        if self.plan.jobs.get(job).is_some_and(|job| job.build.is_some()) {
            // Each of its steps has a container of its own.
            return true;
        }
        let own = self.source(job, step).is_some_and(|source| source.network.is_some());
        let wanted = own.then_some(step);
        let Some(state) = self.jobs.get_mut(job) else { return true };
        if state.network == wanted {
            return true;
        }
        state.sealing = true;
        state.network = wanted;
        self.actions.push(Action::SealJob { job, step: None, network: wanted });
        false
    }

    pub(super) fn job_sealed(&mut self, job: usize, sealed: Result<Kept, (Fault, String)>) {
        let Some(state) = self.jobs.get_mut(job).filter(|state| state.sealing) else { return };
        state.sealing = false;
        match sealed {
            Ok(kept) => self.keep(job, kept),
            Err((fault, message)) => {
                state.halted = true;
                if let Some(fork) = self.forks.get_mut(job) {
                    fork.sealed.clear();
                }
                let (conclusion, cause) = match fault {
                    Fault::Pipeline => (Conclusion::Failed, Cause::NotStarted),
                    Fault::System => (Conclusion::System, Cause::System),
                };
                self.verdict(job, conclusion, Reason::Fault { cause, message });
            }
        }
        self.advance(job);
    }

    /// Notes what is kept of a job; nothing where nobody starts from it.
    pub(super) fn keep(&mut self, job: usize, kept: Kept) {
        let Some(fork) = self.forks.get_mut(job) else { return };
        if !fork.wanted && kept == Kept::default() {
            return;
        }
        fork.stood = true;
        fork.kept.memory = fork.kept.memory.saturating_add(kept.memory);
        fork.kept.disk = fork.kept.disk.saturating_add(kept.disk);
    }

    /// A try is over and has given back what it was given: what is kept of it counts by itself.
    pub(super) fn count_kept(&mut self, job: usize) {
        if let Some(fork) = self.forks.get_mut(job).filter(|fork| !fork.counted) {
            fork.counted = true;
            self.used.add(&taken(fork.kept));
        }
    }

    /// A new try begins: what was kept of the one before is of no use.
    pub(super) fn forget_kept(&mut self, job: usize) {
        let Some(fork) = self.forks.get_mut(job) else { return };
        let kept = std::mem::take(&mut fork.kept);
        fork.sealed.clear();
        if std::mem::take(&mut fork.counted) {
            self.used.subtract(&taken(kept));
        }
        if std::mem::take(&mut fork.stood) {
            self.actions.push(Action::DropStates { job });
        }
    }

    /// A job has ended: what it started from may be of no use any more, and what is kept of itself.
    pub(super) fn job_let_go(&mut self, job: usize) {
        let mut next = Some(job);
        while let Some(job) = next.take() {
            let ended = self.phase(job) == Some(Phase::Ended);
            let Some(fork) = self.forks.get_mut(job) else { return };
            if !ended || fork.holders > 0 {
                return;
            }
            let parent = fork.parent.take();
            self.forget_kept(job);
            if let Some(fork) = parent.and_then(|parent| self.forks.get_mut(parent)) {
                fork.holders = fork.holders.saturating_sub(1);
                next = parent;
            }
        }
    }

    /// A service of a job has ended: its steps end as well.
    pub(super) fn service_ended(&mut self, job: usize, message: String) {
        let Some(state) = self.jobs.get_mut(job).filter(|state| state.phase == Phase::Steps) else {
            return;
        };
        state.halted = true;
        let reason = Reason::Fault { cause: Cause::Service, message };
        self.verdict(job, Conclusion::Failed, reason);
        self.stop_running(job, Stop::Gently, StopReason::ServiceEnded);
        self.advance(job);
    }

    /// Where nothing runs and still nothing has room, what is kept is in the way of those that need
    /// it, and waiting would not end: the first of them fails. False when that is not so.
    pub(super) fn give_up_for_room(&mut self) -> bool {
        let busy = |phase: Phase| !matches!(phase, Phase::Blocked | Phase::Ready | Phase::Ended);
        if self.used.jobs > 0 || self.jobs.iter().any(|job| busy(job.phase)) {
            return false;
        }
        let Some(job) = self.ready.first().map(|(_, job)| *job) else { return false };
        let demand = self.demands.get(job).copied().unwrap_or_default();
        let Settings { capacity, machine, .. } = &self.settings;
        let lacks = |capacity| demand.lacks(&self.used, capacity);
        let alone = lacks(capacity).or_else(|| lacks(machine));
        let mut all = self.used;
        all.add(&self.elsewhere.used);
        let message = match (alone, demand.lacks(&all, machine)) {
            (Some(what), _) => format!(
                "what is kept of the jobs before it leaves {}, and nothing else runs",
                what.too_little()
            ),
            (None, Some(what)) if self.elsewhere.stuck => format!(
                "what this run and others keep leaves {}, and none of them goes on",
                what.too_little()
            ),
            _ => return false,
        };
        self.leave_queue(job);
        self.end_job(job, Conclusion::Failed, Reason::Fault { cause: Cause::NoRoom, message });
        true
    }
}

/// What is kept as a part of the capacity.
pub(super) fn taken(kept: Kept) -> Demand {
    Demand { memory: kept.memory, disk: kept.disk, ..Demand::default() }
}
