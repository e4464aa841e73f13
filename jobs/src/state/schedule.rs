//! Which jobs may start, and which never will: what they need, and their `if`.

use super::{Cause, Conclusion, Phase, Reason, resolve::Unresolved, run::Run};
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
    pub(super) active: u32,
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
