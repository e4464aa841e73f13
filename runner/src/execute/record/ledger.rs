//! What is kept of a run while it goes on, for its record at the end.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::SystemTime,
};

use cofferdam_jobs::state::{Part, StepRecord, StepRef};
use cofferdam_sandbox::{export::LeftOut, image::Image};

use crate::execute::{
    job::{Collected, caches::CacheReport, keeping::KeptState, service::ServiceReport, used::Used},
    message::{ClosedLog, CollectedFile, StepId, StepReport},
};

/// Everything known of the jobs of a run that their state does not hold.
#[derive(Debug, Default)]
pub(in crate::execute) struct Ledger {
    /// By job and try.
    pub(in crate::execute) attempts: BTreeMap<(usize, u32), AttemptEntry>,
    /// The images of the jobs that were started: name and digest.
    pub(in crate::execute) images: BTreeMap<usize, (String, String)>,
}

/// One try of a job.
#[derive(Debug)]
pub(in crate::execute) struct AttemptEntry {
    pub(in crate::execute) started: SystemTime,
    pub(in crate::execute) ended: SystemTime,
    pub(in crate::execute) steps: BTreeMap<StepRef, StepReport>,
    pub(in crate::execute) logs: Vec<ClosedLog>,
    pub(in crate::execute) artifacts: Vec<CollectedFile>,
    pub(in crate::execute) left_out: LeftOut,
    pub(in crate::execute) junit: Vec<PathBuf>,
    pub(in crate::execute) used: Used,
    pub(in crate::execute) records: Vec<(StepRef, StepRecord)>,
    pub(in crate::execute) services: Vec<ServiceReport>,
    pub(in crate::execute) caches: Vec<CacheReport>,
    /// What is kept of it, and of its steps.
    pub(in crate::execute) state: Option<KeptState>,
    pub(in crate::execute) step_states: BTreeMap<StepRef, KeptState>,
}

impl AttemptEntry {
    fn new() -> Self {
        let now = SystemTime::now();
        Self {
            started: now,
            ended: now,
            steps: BTreeMap::new(),
            logs: Vec::new(),
            artifacts: Vec::new(),
            left_out: LeftOut::default(),
            junit: Vec::new(),
            used: Used::default(),
            records: Vec::new(),
            services: Vec::new(),
            caches: Vec::new(),
            state: None,
            step_states: BTreeMap::new(),
        }
    }
}

impl Ledger {
    pub(in crate::execute) fn attempt_started(&mut self, job: usize, attempt: u32) {
        self.attempts.insert((job, attempt), AttemptEntry::new());
    }

    pub(in crate::execute) fn image(&mut self, job: usize, image: &Image) {
        self.images.insert(job, crate::execute::job::image_identity(image));
    }

    /// A job has made an image, which its record names in place of the one that it started from; or
    /// it starts from one.
    pub(in crate::execute) fn made(&mut self, job: usize, name: &str, image: &Image) {
        self.images.insert(job, (name.to_owned(), image.digest.to_string()));
    }

    /// Takes in what there is to tell of the services of a try that was not put up.
    pub(in crate::execute) fn start_failed(
        &mut self,
        job: usize,
        attempt: u32,
        services: Vec<ServiceReport>,
    ) {
        if let Some(entry) = self.attempts.get_mut(&(job, attempt)) {
            entry.ended = SystemTime::now();
            // They share the job's network, which ended with the last of them.
            let ends = services.iter().filter_map(|service| service.end.as_ref());
            entry.used.network = ends.filter_map(|end| end.network.clone()).next_back();
            entry.services = services;
        }
    }

    /// The tries of a job, the first one first.
    pub(in crate::execute) fn attempts_of(
        &self,
        job: usize,
    ) -> impl Iterator<Item = &AttemptEntry> {
        self.attempts.range((job, 0)..=(job, u32::MAX)).map(|(_, entry)| entry)
    }

    /// The paths of the artifacts of a job's last try, in the run's directory.
    pub(in crate::execute) fn artifacts(&self, job: usize) -> impl Iterator<Item = &Path> {
        let last = self.attempts.range((job, 0)..=(job, u32::MAX)).next_back();
        let files = last.into_iter().flat_map(|(_, entry)| &entry.artifacts);
        files.map(|file| file.path.as_path())
    }

    pub(in crate::execute) fn step_ended(&mut self, step: StepId, report: StepReport) {
        if let Some(entry) = self.attempts.get_mut(&(step.job, step.attempt)) {
            entry.ended = report.ended;
            entry.steps.insert(step.step, report);
        }
    }

    /// What is kept of a try after a step of it.
    pub(in crate::execute) fn step_kept(
        &mut self,
        job: usize,
        attempt: u32,
        index: usize,
        kept: KeptState,
    ) {
        if let Some(entry) = self.attempts.get_mut(&(job, attempt)) {
            entry.step_states.insert(StepRef { part: Part::Steps, index }, kept);
        }
    }

    /// Takes in what came out of a try, and its steps as the state sees them: the next try starts
    /// these anew.
    pub(in crate::execute) fn job_finished(
        &mut self,
        job: usize,
        attempt: u32,
        collected: Collected,
        records: Vec<(StepRef, StepRecord)>,
    ) {
        let Some(entry) = self.attempts.get_mut(&(job, attempt)) else { return };
        entry.ended = SystemTime::now();
        entry.logs = collected.logs;
        entry.left_out = collected.left_out;
        entry.junit = collected.junit;
        entry.used = collected.used;
        entry.services = collected.services;
        entry.caches = collected.caches;
        entry.state = collected.kept_state;
        entry.artifacts = collected.artifacts;
        entry.records = records;
    }
}
