//! What a run may use, and what it knows beside its plan.

use std::{collections::BTreeMap, fmt};

use crate::{
    configuration::Scratch,
    diagnostic::{Code, Diagnostic},
    model::{Limits, Step, quantity::written_size},
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

/// What is kept of jobs when they have ended, beside what others start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepStates {
    /// Nothing.
    #[default]
    Nothing,
    /// What each job has written.
    Ends,
    /// What was there after each step as well, for which the job goes on in a new container after
    /// each: processes that are still there end.
    Steps,
}

/// What a run knows beside its plan.
#[derive(Clone, Default)]
pub struct Settings {
    /// What all jobs may use together.
    pub capacity: Capacity,
    /// What all runs of the machine may use together. Where it bounds anything, jobs start only
    /// in answer to [`Event::Room`](super::Event::Room).
    pub machine: Capacity,
    /// What a job takes that does not say.
    pub limits: Limits,
    /// Where jobs keep what they write.
    pub scratch: Scratch,
    /// Values of secrets by name.
    pub secrets: BTreeMap<String, String>,
    /// Digests of the project's files by globs, for [`crate::plan::Plan::hashes`].
    pub hashes: BTreeMap<Vec<String>, String>,
    /// What is kept of jobs.
    pub keep_states: KeepStates,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("capacity", &self.capacity)
            .field("machine", &self.machine)
            .field("limits", &self.limits)
            .field("scratch", &self.scratch)
            .field("secrets", &self.secrets.keys())
            .field("hashes", &self.hashes)
            .field("keep_states", &self.keep_states)
            .finish()
    }
}

/// What is taken of a capacity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Jobs at the same time.
    pub jobs: u32,
    /// Thousandths of a processor.
    pub millicpus: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of disk.
    pub disk: u64,
}

/// What a capacity bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Jobs at the same time.
    Jobs,
    /// Processor time.
    Processors,
    /// Memory.
    Memory,
    /// Disk.
    Disk,
}

impl Resource {
    /// All, in the order in which they are told of.
    pub const ALL: [Self; 4] = [Self::Jobs, Self::Processors, Self::Memory, Self::Disk];

    /// That there is not enough of it.
    pub fn too_little(self) -> &'static str {
        match self {
            Self::Jobs => "too few places",
            Self::Processors => "too few processors",
            Self::Memory => "too little memory",
            Self::Disk => "too little disk",
        }
    }

    /// How much of it there is; [`None`] where that is not bounded.
    pub fn most(self, capacity: &Capacity) -> Option<u64> {
        match self {
            Self::Jobs => capacity.jobs.map(u64::from),
            Self::Processors => capacity.millicpus,
            Self::Memory => capacity.memory,
            Self::Disk => capacity.disk,
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jobs => "jobs",
            Self::Processors => "processors",
            Self::Memory => "memory",
            Self::Disk => "disk",
        })
    }
}

impl Capacity {
    /// Whether anything is bounded.
    pub fn is_bounded(&self) -> bool {
        *self != Self::default()
    }
}

impl Demand {
    /// The job and its services, each with the limits of the settings where it says nothing, and
    /// what is kept of it while it runs, which happens `seals` times at most.
    pub(super) fn of(job: &PlannedJob, seals: u64, settings: &Settings) -> Self {
        let defaults = &settings.limits;
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
        let mut demand = Self { jobs: 1, ..Self::default() };
        let beside = services.chain(with_image(true)).chain(with_image(false).take(1));
        for limits in std::iter::once(job.limits.clone()).chain(beside) {
            let limits = limits.or(defaults);
            let get = |limit: Option<crate::Spanned<u64>>| limit.map_or(0, |limit| limit.value);
            demand.millicpus = demand.millicpus.saturating_add(get(limits.millicpus));
            demand.memory = demand.memory.saturating_add(get(limits.memory));
            demand.disk = demand.disk.saturating_add(get(limits.disk));
        }
        demand.memory = demand.memory.saturating_add(kept_in_memory(job, seals, settings));
        demand
    }

    /// What there is too little of, for as much as `used` takes already.
    pub fn lacks(&self, used: &Self, capacity: &Capacity) -> Option<Resource> {
        let over = |resource: Resource| {
            resource.most(capacity).is_some_and(|most| {
                self.amount(resource).saturating_add(used.amount(resource)) > most
            })
        };
        Resource::ALL.into_iter().find(|resource| over(*resource))
    }

    /// How much of one thing.
    pub fn amount(&self, resource: Resource) -> u64 {
        match resource {
            Resource::Jobs => u64::from(self.jobs),
            Resource::Processors => self.millicpus,
            Resource::Memory => self.memory,
            Resource::Disk => self.disk,
        }
    }

    /// The less of each.
    pub(super) fn least(self, other: Self) -> Self {
        Self {
            jobs: self.jobs.min(other.jobs),
            millicpus: self.millicpus.min(other.millicpus),
            memory: self.memory.min(other.memory),
            disk: self.disk.min(other.disk),
        }
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.jobs = self.jobs.saturating_add(other.jobs);
        self.millicpus = self.millicpus.saturating_add(other.millicpus);
        self.memory = self.memory.saturating_add(other.memory);
        self.disk = self.disk.saturating_add(other.disk);
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        self.jobs = self.jobs.saturating_sub(other.jobs);
        self.millicpus = self.millicpus.saturating_sub(other.millicpus);
        self.memory = self.memory.saturating_sub(other.memory);
        self.disk = self.disk.saturating_sub(other.disk);
    }
}

/// The most that is kept in memory of a job while it runs. On disk, all of its containers share its
/// limit. In memory they share that as well, but what is kept is in no limit of memory any more: the
/// next container has all of its own beside it, and may fill it again.
fn kept_in_memory(job: &PlannedJob, seals: u64, settings: &Settings) -> u64 {
    let limits = job.limits.or(&settings.limits);
    let get = |limit: Option<crate::Spanned<u64>>| limit.map_or(0, |limit| limit.value);
    let (memory, disk) = (get(limits.memory), get(limits.disk));
    let in_memory = match settings.scratch {
        Scratch::Memory => true,
        Scratch::Disk => false,
        Scratch::Auto => disk <= memory.saturating_mul(2),
    };
    if in_memory { disk.min(memory.saturating_mul(seals)) } else { 0 }
}

/// A job that could never start.
pub(super) fn exceeds(
    job: &PlannedJob,
    what: Resource,
    seals: u64,
    settings: &Settings,
) -> Diagnostic {
    let kept = kept_in_memory(job, seals, settings);
    let limits = &job.limits;
    let span = match what {
        Resource::Jobs => None,
        Resource::Processors => limits.millicpus.as_ref(),
        Resource::Memory => limits.memory.as_ref(),
        Resource::Disk => limits.disk.as_ref(),
    };
    Diagnostic::error(
        Code::ExceedsCapacity,
        format!("the job `{}` asks for more {what} than the run may use", job.name),
    )
    .at(span.map_or(job.source.id.span, |limit| limit.span), "")
    .help(if what == Resource::Memory && kept > 0 {
        format!(
            "lower its limits of memory or disk, or give the run more: up to {} of what it writes \
             is kept in memory on its way, for its own later steps or for jobs that start from it",
            written_size(kept)
        )
    } else {
        "lower the limit, or give the run more".to_owned()
    })
}
