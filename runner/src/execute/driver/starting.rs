//! What a job is started with: what its first container is made from, its services, its caches, what
//! other jobs have left for it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use cofferdam_jobs::{
    model::Workspace,
    plan::PlannedJob,
    state::{Fault, StartFrom, StartJob, Upcoming},
};
use cofferdam_sandbox::{Layer, image::Image, with_causes};
use tokio::sync::oneshot;

use super::Driver;
use crate::{
    execute::{
        build::Build,
        job::{
            self,
            brought::Brings,
            live::Live,
            start::{Base, Start},
        },
        message::Message,
        step::JobContext,
    },
    exit::Exit,
    log::recorder::LogBudget,
    network,
    problem::Problem,
    report::display,
};

/// The next jobs whose containers are made ahead of need: more would not stand at once.
const EXPECTED_MAX: usize = 4;

impl Driver {
    pub(super) fn start_job(&mut self, start: StartJob) -> Result<(), Problem> {
        let plan = Arc::clone(self.state.plan());
        let Some(planned) = plan.jobs.get(start.job) else { return Ok(()) };
        let (job, attempt) = (start.job, start.attempt);
        let steps = planned.source.steps.len() + planned.source.cleanup.len();
        self.screen.act(0, move |display| display.show(display::Event::JobStarted { job, steps }));
        self.started.entry(job).or_insert_with(Instant::now);
        if !self.names.contains_key(&job) {
            self.names.insert(job, self.file_names.assign(&planned.id));
        }
        self.ledger.attempt_started(job, attempt);
        if planned.build.is_some() {
            return self.start_build(job, attempt, planned.clone());
        }
        self.expected.remove(&job);
        let base = self.base(planned, start.from, start.keep)?;
        let logs = self.log_directory(job, attempt);
        let context = self.context(attempt, planned);
        let (abort, aborted) = oneshot::channel();
        let mut live = Live::new(Arc::clone(&context), planned.clone(), logs, abort);
        let mut services = Vec::with_capacity(start.services.len());
        for service in start.services {
            let Some(as_planned) = planned.services.get(service.index) else { continue };
            let image = self.image(&as_planned.image)?;
            let limits = job::enforced(&as_planned.limits, planned.timeout);
            let file = live.log_names.assign(&format!("service-{}", service.name));
            services.push((service, image, limits, live.logs.join(format!("{file}.log"))));
        }
        let start = Start {
            sandbox: self.surroundings.sandbox.clone(),
            job,
            base,
            network: network::of_job(&planned.network, self.surroundings.learns),
            services,
            brings: self.brings(&start.artifacts_of),
            caches: (self.surroundings.caches.clone(), start.caches),
            directory: self.surroundings.directory.clone(),
            context,
        };
        self.live.insert(job, live);
        let messages = self.messages.clone();
        let started = tokio::spawn(start.run(aborted));
        tokio::spawn(async move {
            // A fault of ours must not leave the run waiting for ever.
            let message = started.await.unwrap_or_else(|error| {
                let (fault, message) = (Fault::System, format!("failed to start: {error}"));
                Message::StartFailed { job, fault, message, services: Vec::new() }
            });
            // When the driver has gone, the run is over; dropping the container ends it.
            messages.send(message).await.ok();
        });
        Ok(())
    }

    /// Has the containers of the next jobs made while others run. Nothing runs in such a container,
    /// so it holds nothing of what jobs may have together; when its job starts is decided as ever.
    pub(super) fn expect_next(&mut self) {
        let next: Vec<Upcoming> = self.state.upcoming().take(EXPECTED_MAX).collect();
        for Upcoming { job, keep } in next {
            if !self.expected.insert(job) {
                continue;
            }
            let Some(planned) = self.state.plan().jobs.get(job) else { continue };
            // If something is missing, that is told when the job starts.
            let Ok(mut base) = self.base(planned, None, keep) else { continue };
            base.network = network::of_job(&planned.network, self.surroundings.learns).into();
            self.surroundings.sandbox.expect_like(base.spec(), 1);
        }
    }

    fn context(&self, attempt: u32, planned: &PlannedJob) -> Arc<JobContext> {
        Arc::new(JobContext {
            run: self.surroundings.run.clone(),
            job_id: planned.source.id.value.clone(),
            attempt,
            index: (planned.index, planned.total),
            workdir: planned.workdir.clone(),
            user: planned.user.clone(),
            needles: Arc::clone(&self.surroundings.needles),
            budget: LogBudget::new(job::limits(planned).logs),
            outputs: self.outputs.clone(),
            messages: self.messages.clone(),
            learns: self.surroundings.learns,
        })
    }

    /// Begins to make an image.
    fn start_build(
        &mut self,
        job: usize,
        attempt: u32,
        planned: PlannedJob,
    ) -> Result<(), Problem> {
        let logs = self.log_directory(job, attempt);
        let context = self.context(attempt, &planned);
        let messages = self.messages.clone();
        if let Some(file) = self.surroundings.dockerfiles.get(&job) {
            let build = Build::of_dockerfile(Arc::clone(file), self.surroundings.engine.clone());
            let (abort, _) = oneshot::channel::<()>();
            self.live.insert(job, Live::new(context, planned, logs, abort));
            tokio::spawn(async move {
                // When the driver has gone, the run is over.
                messages.send(Message::Building { job, build, base: None }).await.ok();
            });
            return Ok(());
        }
        let base = self.image(job::image_name(&planned))?;
        let name = self.image_made_by(job).unwrap_or_default();
        let engine = self.surroundings.engine.clone();
        let (abort, aborted) = oneshot::channel::<()>();
        self.live.insert(job, Live::new(context, planned, logs, abort));
        tokio::spawn(async move {
            let from = Arc::clone(&base);
            let begun = tokio::task::spawn_blocking(move || engine.begin(&name, &from)).await;
            let failed = |fault, message| {
                let services = Vec::new();
                Message::StartFailed { job, fault, message, services }
            };
            let mut aborted = aborted;
            let message = match begun {
                _ if aborted.try_recv().is_ok() => {
                    failed(Fault::Pipeline, "it was given up".to_owned())
                }
                Ok(Ok(stage)) => {
                    Message::Building { job, build: Build::new(stage), base: Some(base) }
                }
                Ok(Err(error)) => failed(job::fault_of(&error), with_causes(&error)),
                Err(error) => failed(Fault::System, format!("failed to start: {error}")),
            };
            // When the driver has gone, the run is over.
            messages.send(message).await.ok();
        });
        Ok(())
    }

    /// The name of the image that a job makes, where it makes one.
    pub(super) fn image_made_by(&self, job: usize) -> Option<String> {
        let plan = self.state.plan();
        let build = plan.jobs.get(job)?.build.as_ref()?;
        Some(plan.images.get(build.image)?.name.value.clone())
    }

    /// What the first container of a try is made from.
    fn base(
        &self,
        planned: &PlannedJob,
        from: Option<StartFrom>,
        keep: bool,
    ) -> Result<Base, Problem> {
        let cow = planned.workspace == Workspace::Cow;
        Ok(Base {
            workspace: cow.then(|| self.surroundings.workspace.clone()),
            mounts: self.surroundings.mounts.clone(),
            scratch: self.surroundings.scratch,
            keep,
            ..self.base_of_files(planned, from)?
        })
    }

    fn base_of_files(
        &self,
        planned: &PlannedJob,
        from: Option<StartFrom>,
    ) -> Result<Base, Problem> {
        let Some(from) = from else {
            let committed = self.surroundings.committed.as_ref();
            let committed = committed.filter(|_| planned.workspace == Workspace::Git);
            let layers = committed.map(|state| Layer::State(Arc::clone(state)));
            let image = self.image(job::image_name(planned))?;
            return Ok(Base::new(planned, image, layers.into_iter().collect()));
        };
        let states = self.states.get(&from.job);
        let state = states.and_then(|states| match from.step {
            Some(step) => states.after.get(&step),
            None => states.end.as_ref(),
        });
        let state = state.ok_or_else(|| {
            let name = &planned.name;
            Problem::new(Exit::System, format!("what job `{name}` starts from was lost"))
        })?;
        Ok(Base::new(planned, Arc::clone(state.image()), state.layers()))
    }

    pub(super) fn image(&self, name: &str) -> Result<Arc<Image>, Problem> {
        let image = self.surroundings.images.get(name).cloned();
        image.ok_or_else(|| Problem::new(Exit::System, format!("the image `{name}` was lost")))
    }

    /// The artifacts of other jobs.
    fn brings(&self, jobs: &[usize]) -> Vec<Brings> {
        let of = |job: &usize| {
            let name = self.names.get(job)?;
            let below = Path::new("artifacts").join(name);
            let files = self.ledger.artifacts(*job);
            let files = files.filter_map(|path| path.strip_prefix(&below).ok());
            Some(Brings {
                job: self.state.plan().jobs.get(*job)?.name.clone(),
                directory: self.surroundings.directory.join(&below),
                files: files.map(Path::to_owned).collect(),
            })
        };
        jobs.iter().filter_map(of).filter(|brings| !brings.files.is_empty()).collect()
    }

    /// Where the logs of a try go; made with the first of them.
    fn log_directory(&self, job: usize, attempt: u32) -> PathBuf {
        let name = self.names.get(&job).cloned().unwrap_or_default();
        let mut logs = self.surroundings.directory.join("logs").join(&name);
        if attempt > 1 {
            logs.push(format!("attempt-{attempt}"));
        }
        logs
    }
}
