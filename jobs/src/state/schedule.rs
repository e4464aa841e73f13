//! Which job starts when: what it needs, its `if`, and the room there is.

use std::cmp::Reverse;

use super::{
    Action, Cause, Conclusion, Elsewhere, Phase, Reason, Resource, Settings, StartJob, WaitingFor,
    resolve::Unresolved, run::Run,
};
use crate::{
    expr::{Judged, Status},
    plan::{GroupNeed, Plan},
};

/// What is known of a job of the file, as opposed to those it expands to.
#[derive(Debug, Default)]
pub(super) struct GroupState {
    /// How many of the groups it needs have not ended.
    pub(super) blocked_by: usize,
    /// How many of these are jobs of the file, and not images.
    pub(super) undecided_by: usize,
    /// Where it makes an image: whether that is known to be used.
    wanted: bool,
    /// How many of its jobs have not ended.
    open: usize,
    /// How many of its jobs hold a place.
    active: u32,
    dependents: Vec<usize>,
    /// How it ended as a whole.
    pub(super) result: Option<Conclusion>,
    /// One of its jobs failed and was not allowed to.
    failed: bool,
    /// It failed, or did not run because something before it failed.
    failed_above: bool,
    /// It did not run, or not to its end.
    incomplete: bool,
}

impl GroupState {
    pub(super) fn all(plan: &Plan) -> Vec<Self> {
        let mut groups: Vec<Self> = plan
            .groups
            .iter()
            .map(|group| Self {
                blocked_by: group.needs.len(),
                undecided_by: group.needs.iter().filter(|need| !need.image).count(),
                open: group.jobs.len(),
                ..Self::default()
            })
            .collect();
        for (index, group) in plan.groups.iter().enumerate() {
            for need in &group.needs {
                if let Some(needed) = groups.get_mut(need.group) {
                    needed.dependents.push(index);
                }
            }
        }
        groups
    }
}

impl Run {
    /// All that the jobs of a group need has ended: they are skipped, or wait for room.
    pub(super) fn release(&mut self, group: usize) {
        let Some(jobs) = self.plan.group(group).map(|group| group.jobs.clone()) else { return };
        if self.makes_image(group) && !self.groups.get(group).is_some_and(|group| group.wanted) {
            // Until a job is to run that uses it.
            return;
        }
        for job in jobs {
            if self.phase(job) != Some(Phase::Blocked) {
                continue;
            }
            match self.wanted(group, job) {
                Ok(Ok(rule)) => match self.missing_image(group) {
                    None => {
                        if let Some(state) = self.jobs.get_mut(job) {
                            state.rule = rule;
                        }
                        self.queue(job);
                    }
                    Some((conclusion, reason)) => self.end_job(job, conclusion, reason),
                },
                Ok(Err(reason)) => self.end_job(job, Conclusion::Skipped, reason),
                Err(Unresolved { cause, message }) => {
                    let message = format!("`if`: {message}");
                    self.end_job(job, Conclusion::Failed, Reason::Fault { cause, message });
                }
            }
        }
    }

    fn makes_image(&self, group: usize) -> bool {
        let first = self.plan.group(group).and_then(|group| self.plan.jobs.get(group.jobs.start));
        first.is_some_and(|job| job.build.is_some())
    }

    /// Has the images made that the jobs of a group are known to use. Where these run unless what
    /// they need fails, that is from the beginning; where an `if` says whether they do, it is when
    /// that is known, and jobs that do not run end.
    pub(super) fn decide(&mut self, group: usize) {
        let Some(planned) = self.plan.group(group) else { return };
        if self.makes_image(group) || !planned.needs.iter().any(|need| need.image) {
            return;
        }
        let (has_condition, jobs) = (planned.source.condition.is_some(), planned.jobs.clone());
        let undecided = self.groups.get(group).is_some_and(|group| group.undecided_by > 0);
        let mut uses = !has_condition;
        for job in jobs.filter(|_| has_condition && !undecided) {
            if self.phase(job) != Some(Phase::Blocked) {
                continue;
            }
            match self.wanted(group, job) {
                Ok(Err(reason)) => self.end_job(job, Conclusion::Skipped, reason),
                // What is wrong with it is told when its turn comes.
                Ok(Ok(_)) | Err(_) => uses = true,
            }
        }
        if uses {
            self.want_images(group);
        }
    }

    fn want_images(&mut self, group: usize) {
        let mut using = vec![group];
        while let Some(group) = using.pop() {
            let needs = self.plan.group(group).map(|group| group.needs.clone()).unwrap_or_default();
            for image in needs.iter().filter(|need| need.image).map(|need| need.group) {
                let Some(state) = self.groups.get_mut(image) else { continue };
                if std::mem::replace(&mut state.wanted, true) {
                    continue;
                }
                using.push(image);
                if state.blocked_by == 0 {
                    self.release(image);
                }
            }
        }
    }

    /// Ends the making of the images that a group used, where nothing else uses them.
    fn let_go_of_images(&mut self, group: usize) {
        let needs = self.plan.group(group).map(|group| group.needs.clone()).unwrap_or_default();
        for image in needs.iter().filter(|need| need.image).map(|need| need.group) {
            let ended = |user: &usize| self.groups.get(*user).is_some_and(|it| it.result.is_some());
            let unused = self
                .groups
                .get(image)
                .is_some_and(|state| !state.wanted && state.dependents.iter().all(ended));
            let jobs = self.plan.group(image).map(|image| image.jobs.clone());
            for job in jobs.into_iter().flatten().filter(|_| unused) {
                self.end_job(job, Conclusion::Skipped, Reason::Unused);
            }
        }
    }

    /// The `if` by which a job runs, or why it does not.
    fn wanted(
        &self,
        group: usize,
        job: usize,
    ) -> Result<Result<Option<Judged>, Reason>, Unresolved> {
        let Some(planned) = self.plan.jobs.get(job) else { return Ok(Err(Reason::JobEnded)) };
        let condition = planned.source.condition.as_ref();
        let status = self.needs_status(group);
        if !condition.is_some_and(|condition| condition.asks_status()) && !status.success() {
            return Ok(Err(self.blocking_need(group)));
        }
        let Some(condition) = condition else { return Ok(Ok(None)) };
        let mut scope = self.scope(job, status);
        scope.env = Vec::new();
        let judged = condition.judged(&scope)?;
        Ok(if judged.holds { Ok(Some(judged)) } else { Err(Reason::Condition(judged)) })
    }

    /// The needs of a group that are jobs of the file.
    fn needed_jobs(&self, group: usize) -> impl Iterator<Item = &GroupNeed> {
        let needs = self.plan.group(group).into_iter().flat_map(|group| &group.needs);
        needs.filter(|need| !need.image)
    }

    /// An image that a group uses and that could not be made: its jobs fail as that did.
    fn missing_image(&self, group: usize) -> Option<(Conclusion, Reason)> {
        let needs = self.plan.group(group).into_iter().flat_map(|group| &group.needs);
        for need in needs.filter(|need| need.image) {
            let Some(image) = self.plan.group(need.group) else { continue };
            let ended = self.jobs.get(image.jobs.start).and_then(|job| job.ended.as_ref());
            let Some((conclusion, reason)) = ended else { continue };
            if *conclusion != Conclusion::Passed {
                let (name, cause) = (image.id.clone(), reason.cause());
                let why = match reason {
                    // Where images are made from each other, the first one's reason is enough.
                    Reason::Image { why, .. } => why.clone(),
                    other => other.to_string(),
                };
                return Some((*conclusion, Reason::Image { name, cause, why }));
            }
        }
        None
    }

    fn needs_status(&self, group: usize) -> Status {
        let mut status = Status { cancelled: self.cancelled, ..Status::default() };
        for need in self.needed_jobs(group) {
            if let Some(state) = self.groups.get(need.group) {
                status.failed |= state.failed_above;
                status.incomplete |= state.incomplete;
            }
        }
        status
    }

    fn blocking_need(&self, group: usize) -> Reason {
        for need in self.needed_jobs(group) {
            if let (Some(state), Some(needed)) =
                (self.groups.get(need.group), self.plan.group(need.group))
                && (state.failed || state.incomplete)
                && let Some(conclusion) = state.result
            {
                return Reason::Need { name: needed.id.clone(), conclusion };
            }
        }
        Reason::RunCancelled
    }

    fn queue(&mut self, job: usize) {
        let weight = self.weight(job);
        if let Some(state) = self.jobs.get_mut(job) {
            state.phase = Phase::Ready;
            self.ready.insert((Reverse(weight), job));
            self.queued.push(job);
        }
    }

    pub(super) fn leave_queue(&mut self, job: usize) {
        let weight = self.weight(job);
        self.ready.remove(&(Reverse(weight), job));
    }

    fn weight(&self, job: usize) -> std::time::Duration {
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
        let plan = std::sync::Arc::clone(&self.plan);
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

    /// A job of a group has ended for good.
    pub(super) fn job_left_group(&mut self, job: usize) {
        let Some(index) = self.plan.jobs.get(job).map(|job| job.group) else { return };
        let Some(group) = self.groups.get_mut(index) else { return };
        group.open = group.open.saturating_sub(1);
        if group.open == 0 {
            self.settled.push_back(index);
        }
    }

    pub(super) fn settle_groups(&mut self) {
        while let Some(index) = self.settled.pop_front() {
            self.end_group(index);
            self.let_go_of_images(index);
            let is_image = self.makes_image(index);
            let dependents = self.groups.get(index).map(|group| group.dependents.clone());
            for dependent in dependents.into_iter().flatten() {
                let Some(group) = self.groups.get_mut(dependent) else { continue };
                group.blocked_by = group.blocked_by.saturating_sub(1);
                if !is_image {
                    group.undecided_by = group.undecided_by.saturating_sub(1);
                    self.decide(dependent);
                }
                if self.groups.get(dependent).is_some_and(|group| group.blocked_by == 0) {
                    self.release(dependent);
                }
            }
        }
    }

    /// What the jobs of a group come to together: the worst of them.
    fn end_group(&mut self, index: usize) {
        const WORST_FIRST: [Conclusion; 4] =
            [Conclusion::System, Conclusion::Failed, Conclusion::TimedOut, Conclusion::Cancelled];
        let above = self.needs_status(index).failed;
        let Some(planned) = self.plan.group(index) else { return };
        let jobs = self.jobs.get(planned.jobs.clone()).unwrap_or_default();
        let has = |wanted: Conclusion, allowed: bool| {
            jobs.iter().any(|job| {
                job.ended.as_ref().is_some_and(|(conclusion, _)| *conclusion == wanted)
                    && (allowed || !job.allowed)
            })
        };
        let failed = [Conclusion::System, Conclusion::Failed, Conclusion::TimedOut]
            .into_iter()
            .any(|conclusion| has(conclusion, false));
        let skipped = !has(Conclusion::Passed, true) && has(Conclusion::Skipped, true);
        let worst = WORST_FIRST.into_iter().find(|conclusion| has(*conclusion, true));
        let result =
            worst.unwrap_or(if skipped { Conclusion::Skipped } else { Conclusion::Passed });
        let incomplete = matches!(result, Conclusion::Skipped | Conclusion::Cancelled);
        if let Some(group) = self.groups.get_mut(index) {
            group.result = Some(result);
            group.failed = failed;
            group.incomplete = incomplete;
            group.failed_above = failed || (incomplete && above);
        }
    }
}

impl From<Cause> for Conclusion {
    /// How something ends that ended for this cause.
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Timeout => Self::TimedOut,
            Cause::System => Self::System,
            Cause::Cancel => Self::Cancelled,
            _ => Self::Failed,
        }
    }
}
