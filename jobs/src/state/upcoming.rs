//! Which jobs start next, for whoever makes ahead of need what they will ask for.
//!
//! This decides nothing: a job that is told of starts when there is room for it, and perhaps never.

use super::{job::Phase, run::Run};

/// A job that only waits for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upcoming {
    /// Which job.
    pub job: usize,
    /// As it will be in [`super::StartJob`].
    pub keep: bool,
}

impl Run {
    /// The jobs that only wait for room and whose container is made from what the plan says alone:
    /// from nothing of other jobs, no cache, and without others beside it. In the order in which they
    /// start while there is room for each.
    pub fn upcoming(&self) -> impl Iterator<Item = Upcoming> {
        let jobs = self.by_plan.iter().map(|(_, job)| *job);
        let jobs = jobs.filter(|job| self.phase(*job) == Some(Phase::Ready));
        jobs.map(|job| Upcoming { job, keep: self.is_kept(job) })
    }

    pub(super) fn starts_by_plan(&self, job: usize) -> bool {
        let Some(planned) = self.plan.jobs.get(job) else { return false };
        let group = self.plan.group(planned.group);
        let brings = group.is_none_or(|group| group.needs.iter().any(|need| need.artifacts));
        planned.build.is_none()
            && planned.from.is_none()
            && planned.services.is_empty()
            && planned.step_images.iter().all(Option::is_none)
            && planned.source.cache.is_empty()
            && !brings
    }
}
