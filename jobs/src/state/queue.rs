//! The jobs that may start, and the room that there is for them: who of them goes first.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use super::{
    Action, Conclusion, Elsewhere, Phase, Reason, Resource, Settings, StartJob, WaitingFor,
    resolve::Unresolved, run::Run,
};

impl Run {
    pub(super) fn queue(&mut self, job: usize) {
        let place = (Reverse(self.weight(job)), job);
        let by_plan = self.starts_by_plan(job);
        if let Some(state) = self.jobs.get_mut(job) {
            state.phase = Phase::Ready;
            self.ready.insert(place);
            if by_plan {
                self.by_plan.insert(place);
            }
            self.queued.push(job);
        }
    }

    pub(super) fn leave_queue(&mut self, job: usize) {
        let place = (Reverse(self.weight(job)), job);
        self.ready.remove(&place);
        self.by_plan.remove(&place);
    }

    fn weight(&self, job: usize) -> Duration {
        let group = self.plan.jobs.get(job).and_then(|job| self.plan.group(job.group));
        group.map(|group| group.weight).unwrap_or_default()
    }

    /// The wait before another try is over.
    pub(super) fn retry(&mut self, job: usize) {
        if self.phase(job) == Some(Phase::Backoff) {
            self.queue(job);
        }
    }

    /// Starts what there is room for. A job that cannot be started at all leaves its place again
    /// and may release others, so this goes on until there is no such job.
    ///
    /// Where other runs share the machine, only while what they hold is known for certain.
    pub(super) fn start_ready(&mut self) {
        if self.settings.machine.is_bounded() && !self.asked {
            return;
        }
        loop {
            let mut gave_up = false;
            let taken = self.take_places();
            if taken.is_empty() && self.give_up_for_room() {
                self.settle_groups();
                continue;
            }
            for job in taken {
                gave_up |= !self.start_job(job);
            }
            if !gave_up {
                return;
            }
            self.settle_groups();
        }
    }

    /// Moves jobs from the queue to places, as far as there are any.
    fn take_places(&mut self) -> Vec<usize> {
        let mut taken = Vec::new();
        self.crowded = false;
        for (_, job) in &self.ready {
            if self.least.lacks(&self.used, &self.settings.capacity).is_some() {
                break;
            }
            match self.room(*job) {
                None => {}
                Some(waiting) => {
                    self.crowded |=
                        matches!(waiting, WaitingFor::Machine { .. } | WaitingFor::Turn(_));
                    if self.crowded && self.beside().is_some() {
                        // There is no room for any job.
                        break;
                    }
                    continue;
                }
            }
            taken.push(*job);
            let demand = self.demands.get(*job).copied().unwrap_or_default();
            self.used.add(&demand);
            let group = self.plan.jobs.get(*job).map(|job| job.group);
            if let Some(group) = group.and_then(|group| self.groups.get_mut(group)) {
                group.active += 1;
            }
        }
        for job in &taken {
            self.leave_queue(*job);
        }
        taken
    }

    /// What even the smallest job lacks, beside what other runs hold.
    fn beside(&self) -> Option<Resource> {
        let mut all = self.used;
        all.add(&self.elsewhere.used);
        self.least.lacks(&all, &self.settings.machine)
    }

    /// What a job that is ready waits for.
    fn room(&self, job: usize) -> Option<WaitingFor> {
        let Settings { capacity, machine, .. } = &self.settings;
        if capacity.jobs.is_some_and(|most| self.used.jobs >= most) {
            return Some(WaitingFor::Place);
        }
        let planned = self.plan.jobs.get(job)?;
        let most = planned.source.max_parallel.as_ref().map(|most| most.value);
        if most.is_some_and(|most| self.groups.get(planned.group).is_some_and(|g| g.active >= most))
        {
            return Some(WaitingFor::MatrixPlace);
        }
        let demand = self.demands.get(job)?;
        let alone =
            demand.lacks(&self.used, capacity).or_else(|| demand.lacks(&self.used, machine));
        if let Some(resource) = alone {
            return Some(match resource {
                Resource::Jobs => WaitingFor::Place,
                other => WaitingFor::Room(other),
            });
        }
        let Elsewhere { used, runs, first, .. } = &self.elsewhere;
        let mut all = self.used;
        all.add(used);
        if let Some(resource) = demand.lacks(&all, machine) {
            let (wanted, held) = (demand.amount(resource), used.amount(resource));
            return Some(WaitingFor::Machine { resource, wanted, held, runs: runs.clone() });
        }
        first.clone().map(WaitingFor::Turn)
    }

    /// What a job waits for that has not started.
    pub(super) fn waiting_for(&self, job: usize) -> Option<WaitingFor> {
        match self.phase(job)? {
            Phase::Ready => self.room(job),
            Phase::Backoff => Some(WaitingFor::Backoff),
            Phase::Blocked => {
                let group = self.plan.group(self.plan.jobs.get(job)?.group)?;
                let open = group.needs.iter().filter(|need| {
                    self.groups.get(need.group).is_some_and(|needed| needed.result.is_none())
                });
                let names = open.filter_map(|need| Some(self.plan.group(need.group)?.id.clone()));
                Some(WaitingFor::Needs(names.collect()))
            }
            _ => None,
        }
    }

    /// Begins a try; false when it ended the job at once.
    fn start_job(&mut self, job: usize) -> bool {
        let plan = Arc::clone(&self.plan);
        let (Some(planned), Some(state)) = (plan.jobs.get(job), self.jobs.get_mut(job)) else {
            return true;
        };
        if state.phase != Phase::Ready {
            // One that was started just before it failed at once, and `fail-fast` ended this one.
            self.leave_place(job);
            return false;
        }
        state.phase = Phase::Starting;
        state.attempt += 1;
        state.reset(planned);
        let attempt = state.attempt;
        self.forget_kept(job);
        let resolved = self.job_env(job).and_then(|env| {
            if let Some(state) = self.jobs.get_mut(job) {
                state.env = env;
            }
            Ok((self.caches(job)?, self.services(job)?, self.start_from(job)?))
        });
        let (caches, services, from) = match resolved {
            Ok(resolved) => resolved,
            Err(Unresolved { cause, message }) => {
                self.verdict(job, Conclusion::Failed, Reason::Fault { cause, message });
                self.end_attempt(job);
                return false;
            }
        };
        let needs = plan.group(planned.group).into_iter().flat_map(|group| &group.needs);
        let artifacts_of = needs
            .filter(|need| need.artifacts)
            .filter_map(|need| plan.group(need.group))
            .flat_map(|group| group.jobs.clone())
            .collect();
        let keep = self.is_kept(job);
        let start = StartJob { job, attempt, caches, artifacts_of, services, from, keep };
        self.actions.push(Action::StartJob(start));
        true
    }

    /// A job gives back what it took of the capacity.
    pub(super) fn leave_place(&mut self, job: usize) {
        let demand = self.demands.get(job).copied().unwrap_or_default();
        self.used.subtract(&demand);
        if let Some(group) = self.plan.jobs.get(job).and_then(|job| self.groups.get_mut(job.group))
        {
            group.active = group.active.saturating_sub(1);
        }
    }
}
