//! What a run may use, and what it knows beside its plan.

use std::{collections::BTreeMap, fmt};

use crate::{
    diagnostic::{Code, Diagnostic},
    model::{Limits, Step},
    plan::PlannedJob,
};

/// What all jobs of a run may use together; [`None`] where there is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Jobs at the same time.
    pub jobs: Option<u32>,
    /// Thousandths of a processor.
    pub millicpus: Option<u64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of disk.
    pub disk: Option<u64>,
}

/// What a run knows beside its plan.
#[derive(Clone, Default)]
pub struct Settings {
    /// What all jobs may use together.
    pub capacity: Capacity,
    /// What a job takes that does not say.
    pub limits: Limits,
    /// Values of secrets by name.
    pub secrets: BTreeMap<String, String>,
    /// Digests of the project's files by globs, for [`crate::plan::Plan::hashes`].
    pub hashes: BTreeMap<Vec<String>, String>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("capacity", &self.capacity)
            .field("limits", &self.limits)
            .field("secrets", &self.secrets.keys())
            .field("hashes", &self.hashes)
            .finish()
    }
}

/// What one job takes of the capacity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) millicpus: u64,
    pub(super) memory: u64,
    pub(super) disk: u64,
}

impl Demand {
    /// The job and its services, each with the limits of `defaults` where it says nothing.
    pub(super) fn of(job: &PlannedJob, defaults: &Limits) -> Self {
        let services = job.services.iter().map(|service| service.limits.clone());
        // A step with an image of its own has a container of its own beside the job's: those in the
        // background stay, of the others there is one at a time.
        let with_image = |background: bool| {
            let steps = job.source.steps.iter().chain(&job.source.cleanup).zip(&job.step_images);
            let stays = move |step: &Step| step.background.as_ref().is_some_and(|b| b.value);
            steps
                .filter(move |(step, image)| image.is_some() && stays(step) == background)
                .map(|(step, _)| step.limits.or(&job.limits))
        };
        let mut demand = Self::default();
        let beside = services.chain(with_image(true)).chain(with_image(false).take(1));
        for limits in std::iter::once(job.limits.clone()).chain(beside) {
            let limits = limits.or(defaults);
            let get = |limit: Option<crate::Spanned<u64>>| limit.map_or(0, |limit| limit.value);
            demand.millicpus = demand.millicpus.saturating_add(get(limits.millicpus));
            demand.memory = demand.memory.saturating_add(get(limits.memory));
            demand.disk = demand.disk.saturating_add(get(limits.disk));
        }
        demand
    }

    /// What there is too little of, for as much as `used` takes already.
    pub(super) fn lacks(&self, used: &Self, capacity: &Capacity) -> Option<&'static str> {
        let over = |wanted: u64, used: u64, most: Option<u64>| {
            most.is_some_and(|most| wanted.saturating_add(used) > most)
        };
        if over(self.millicpus, used.millicpus, capacity.millicpus) {
            Some("processors")
        } else if over(self.memory, used.memory, capacity.memory) {
            Some("memory")
        } else if over(self.disk, used.disk, capacity.disk) {
            Some("disk")
        } else {
            None
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.millicpus = self.millicpus.saturating_add(other.millicpus);
        self.memory = self.memory.saturating_add(other.memory);
        self.disk = self.disk.saturating_add(other.disk);
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        self.millicpus = self.millicpus.saturating_sub(other.millicpus);
        self.memory = self.memory.saturating_sub(other.memory);
        self.disk = self.disk.saturating_sub(other.disk);
    }
}

/// A job that could never start.
pub(super) fn exceeds(job: &PlannedJob, what: &str) -> Diagnostic {
    let limits = &job.limits;
    let span = match what {
        "processors" => limits.millicpus.as_ref(),
        "memory" => limits.memory.as_ref(),
        _ => limits.disk.as_ref(),
    };
    Diagnostic::error(
        Code::ExceedsCapacity,
        format!("the job `{}` asks for more {what} than there is for the run", job.name),
    )
    .at(span.map_or(job.source.id.span, |limit| limit.span), "")
    .help("lower the limit, or give the run more")
}
