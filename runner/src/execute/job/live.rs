//! A try of a job from when it is put up to when it is taken down, as the driver holds it.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use cofferdam_jobs::{
    plan::PlannedJob,
    state::{Collect, Part, ResolvedStep, StepRef},
};
use cofferdam_sandbox::{Container, ContainerSpec, End, Sandbox, image::Image};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::{
    Finish,
    caches::{CacheStore, Restored},
    enforced,
    keeping::Keeping,
    seal::Sealed,
    service::Service,
    start::{Base, Up},
    used::Used,
};
use crate::{
    execute::{
        build::Build,
        message::StepId,
        output::Output,
        step::{Beside, JobContext, StepRun, running::RunningStep},
    },
    log::file_names::FileNames,
    network,
};

/// A try of a job.
#[derive(Debug)]
pub(in crate::execute) struct Live {
    pub(in crate::execute) context: Arc<JobContext>,
    pub(in crate::execute) planned: PlannedJob,
    /// Where the logs of its steps and services go.
    pub(in crate::execute) logs: PathBuf,
    pub(in crate::execute) log_names: FileNames,
    /// Gives up putting it up.
    pub(in crate::execute) abort: Option<oneshot::Sender<()>>,
    /// Absent before it stands, and while the next one is put up.
    container: Option<Arc<Container>>,
    base: Option<Base>,
    /// In place of a container, where it makes an image.
    build: Option<Build>,
    services: Vec<Service>,
    brought: Option<TempDir>,
    caches: Vec<Restored>,
    steps: HashMap<StepRef, RunningStep>,
    ended: Vec<(StepRef, oneshot::Receiver<Output>)>,
    used: Used,
    /// The step whose network the container is in.
    network_of: Option<StepRef>,
    next: usize,
    /// How many of its steps are named in what was kept of it so far.
    told: usize,
}

impl Live {
    pub(in crate::execute) fn new(
        context: Arc<JobContext>,
        planned: PlannedJob,
        logs: PathBuf,
        abort: oneshot::Sender<()>,
    ) -> Self {
        Self {
            context,
            planned,
            logs,
            log_names: FileNames::default(),
            abort: Some(abort),
            container: None,
            base: None,
            build: None,
            services: Vec::new(),
            brought: None,
            caches: Vec::new(),
            steps: HashMap::new(),
            ended: Vec::new(),
            used: Used::default(),
            network_of: None,
            next: 0,
            told: 0,
        }
    }

    /// It stands.
    pub(in crate::execute) fn stands(&mut self, up: Up) {
        self.abort = None;
        self.container = Some(Arc::new(up.container));
        self.base = Some(up.base);
        self.services = up.services;
        self.brought = up.brought;
        self.caches = up.caches;
    }

    /// It makes an image.
    pub(in crate::execute) fn builds(&mut self, build: Build) {
        self.abort = None;
        self.build = Some(build);
    }

    /// Its container and what the next one is made from, to put that up; `network` is the step
    /// whose network it has.
    pub(in crate::execute) fn take_container(
        &mut self,
        network: Option<StepRef>,
    ) -> Option<(Arc<Container>, Base)> {
        let mut base = self.base.clone()?;
        let step = network.and_then(|step| self.source(step)?.network.clone());
        if let Some(step) = step {
            base.network = network::of_job(&step, self.context.learns).into();
        }
        Some((self.container.take()?, base))
    }

    /// Of the steps that ran, those that this was not asked for before.
    pub(in crate::execute) fn news(&mut self, mut ran: Vec<String>) -> Vec<String> {
        let told = std::mem::replace(&mut self.told, ran.len());
        ran.split_off(told.min(ran.len()))
    }

    /// The next container stands, in the network of a step, where it is not the job's.
    pub(in crate::execute) fn goes_on(&mut self, sealed: Sealed, network_of: Option<StepRef>) {
        let Sealed { container, base, used, is_shared, .. } = sealed;
        self.container = Some(Arc::new(container));
        if let Some(own) = &mut self.base {
            // The job's network comes back with the next step that has none of its own.
            own.layers = base.layers;
            own.limits = base.limits;
        }
        self.has_used(used, is_shared);
        self.network_of = network_of;
    }

    /// Its container has ended.
    pub(in crate::execute) fn has_used(&mut self, used: End, is_shared: bool) {
        self.used.add(used, self.network_of, is_shared);
    }

    /// Starts a step, unless its container has gone.
    pub(in crate::execute) fn start_step(
        &mut self,
        sandbox: &Sandbox,
        image: Option<Arc<Image>>,
        (step, resolved): (StepRef, Box<ResolvedStep>),
        (job, log): (usize, PathBuf),
    ) {
        self.next += 1;
        if let Some(build) = &self.build {
            let id = StepId { job, attempt: self.context.attempt, step };
            let running = build.start_step(id, &self.planned, &resolved, (log, &self.context));
            self.steps.insert(step, running);
            return;
        }
        let Some(container) = self.container.clone() else { return };
        let limits = self.source(step).map(|source| source.limits.clone()).unwrap_or_default();
        let beside = image.and_then(|image| {
            let base = self.base.as_ref()?;
            let limits = limits.or(&self.planned.limits);
            let spec = ContainerSpec {
                limits: enforced(&limits, base.limits.timeout),
                hostname: base.hostname.clone(),
                mounts: base.mounts.clone(),
                scratch: base.scratch,
                network: base.network.clone(),
                beside: Some(Arc::clone(&container)),
                ..ContainerSpec::new(image)
            };
            Some(Beside { sandbox: sandbox.clone(), spec })
        });
        let run = StepRun {
            id: StepId { job, attempt: self.context.attempt, step },
            number: self.next,
            resolved,
            limits,
            log,
            container,
            beside,
            context: Arc::clone(&self.context),
        };
        self.steps.insert(step, run.spawn());
    }

    fn source(&self, step: StepRef) -> Option<&cofferdam_jobs::model::Step> {
        match step.part {
            Part::Steps => self.planned.source.steps.get(step.index),
            Part::Cleanup => self.planned.source.cleanup.get(step.index),
        }
    }

    /// A step that runs.
    pub(in crate::execute) fn step(&self, step: StepRef) -> Option<&RunningStep> {
        self.steps.get(&step)
    }

    /// A step has ended; its output goes on to be read.
    pub(in crate::execute) fn step_ended(&mut self, step: StepRef) {
        if let Some(running) = self.steps.remove(&step) {
            self.ended.push((step, running.output));
        }
    }

    /// Takes it down.
    pub(in crate::execute) fn finish(
        mut self,
        collect: Collect,
        store: CacheStore,
        (directory, name): (PathBuf, String),
        (made_by, keeping): (String, Option<Keeping>),
    ) -> Finish {
        for (step, running) in self.steps.drain() {
            self.ended.push((step, running.output));
        }
        Finish {
            config: self.planned.build.as_ref().map(|build| build.config.clone()),
            build: self.build,
            keep: self.base.as_ref().is_some_and(|base| base.keep),
            made_by,
            keeping,
            container: self.container,
            services: self.services,
            used: self.used,
            network_of: self.network_of,
            brought: self.brought,
            caches: (store, self.caches),
            user: self.context.user.clone(),
            outputs: self.ended,
            collect,
            directory,
            name,
            workdir: self.context.workdir.clone(),
        }
    }
}
