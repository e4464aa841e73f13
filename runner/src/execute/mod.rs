//! `cofferdam run`: a plan is made, its jobs are run, the results are written.

mod build;
mod driver;
mod finish;
pub(crate) mod inputs;
mod job;
mod message;
mod output;
pub(crate) mod pipeline;
mod place;
mod record;
mod step;

pub(crate) use build::forecast;

use std::{fs, path::Path, sync::Arc, time::SystemTime};

use cofferdam_jobs::{
    Configuration, Inputs, Plan,
    model::Workspace,
    plan::Feature,
    state::{Capacity, KeepStates, Run, Settings},
};
use cofferdam_sandbox::{Sandbox, cache::Caches, image::Store, spawner::Spawner};

use crate::{
    build::{BuildCaches, Engine},
    cli,
    exit::Exit,
    image_bounds,
    images::{self, Images, Wanted},
    limits,
    log::needles::Needles,
    problem::Problem,
    scratch,
    supervise::Interrupts,
};
use build::dockerfile::Dockerfiles;
use driver::{Surroundings, room::Room};
use finish::Finished;
use inputs::{committed, foresight};
use job::{
    caches::CacheStore,
    keeping::{self, Keeping},
    seal,
};
use place::{Name, directory, workspace};

/// Bytes that all caches may take where nobody says.
pub(crate) const CACHE_SIZE: u64 = 10 << 30;

/// Runs a pipeline; returns the status that this process shall end with.
pub(crate) async fn run(
    arguments: cli::Run,
    configuration: &Configuration,
    state: &Path,
    spawner: Spawner,
) -> Result<u8, Problem> {
    let started = SystemTime::now();
    let project = pipeline::project(&arguments.file, arguments.workspace.as_deref());
    let file = pipeline::read(&arguments.file, &project)?;
    file.draw(&file.diagnostics);
    let Some(pipeline) = &file.pipeline else {
        return Err(file.faults(&arguments.file, &file.diagnostics));
    };
    let workspace = workspace(&project)?;
    let name = Name::draw(started, arguments.out.is_some(), state)?;
    let run_id = name.id().to_owned();
    let inputs = Inputs {
        defaults: limits::defaults(configuration),
        ceilings: configuration.ceilings.clone(),
        ..inputs::inputs(&arguments.param, &arguments.job, &run_id, &workspace)?
    };
    let secrets = inputs::secrets(&arguments, pipeline)?;
    let refuse = |diagnostics: Vec<_>| {
        file.draw(&diagnostics);
        file.faults(&arguments.file, &diagnostics)
    };
    let plan = Arc::new(cofferdam_jobs::plan(pipeline, &inputs).map_err(&refuse)?);
    let unsupported = plan.unsupported(&[
        Feature::Dockerfile,
        Feature::NetworkFull,
        Feature::NetworkAllow,
        Feature::IoLimits,
        Feature::Background,
        Feature::SecretFiles,
        Feature::From,
        Feature::Cache,
        Feature::WorkspaceGit,
        Feature::Services,
        Feature::NetworkServices,
        Feature::NeedsArtifacts,
        Feature::StepImage,
        Feature::StepLimits,
        Feature::StepNetwork,
    ]);
    if !unsupported.is_empty() {
        return Err(refuse(unsupported));
    }
    let needles = Needles::new(secrets.values())
        .map_err(|error| Problem::new(Exit::Usage, error.to_string()))?;
    let values = secrets.iter().map(|(name, secret)| {
        (name.clone(), String::from_utf8_lossy(secret.expose()).into_owned())
    });
    let settings = Settings {
        capacity: capacity(&arguments, configuration),
        machine: configuration.capacity,
        limits: limits::defaults(configuration).at_most(&configuration.ceilings).limits,
        scratch: scratch::said(arguments.scratch, configuration),
        secrets: values.collect(),
        hashes: inputs::hashes(&plan, &workspace)?,
        keep_states: arguments.keep_state.map_or(KeepStates::Nothing, Into::into),
    };
    keeping::refuse_steps_in_background(&plan, arguments.keep_state)?;
    let mut machine = Run::new(Arc::clone(&plan), settings).map_err(&refuse)?;
    let room = Room::enter(state, &run_id, configuration.capacity).map_err(|error| {
        Problem::new(Exit::System, format!("failed to use `{}`", state.join("shares").display()))
            .because(error)
    })?;
    let mut interrupts = Interrupts::new().map_err(|error| {
        Problem::new(Exit::System, "failed to watch for signals").because(error)
    })?;
    let dockerfiles = Dockerfiles::read(&plan, &workspace, &secrets, arguments.learn_network)?;
    let store = Store::open(state)?;
    let images = images(&arguments, &plan, configuration, (&store, state), &mut interrupts).await?;
    // Apart from those of the jobs, which may have the same names for images of the pipeline.
    let wanted = dockerfiles.wanted(&plan, arguments.pull.map(Into::into));
    let taken = images::take(&store, state, configuration, wanted, &mut interrupts).await?;
    let dockerfiles = dockerfiles.with(&taken);
    let sandbox = Sandbox::open_with(spawner, state, &limits::policy(configuration))?;
    limits::tell_missing(&sandbox);
    let keeping = arguments.keep_state.map(|_| Keeping::new(state.to_owned(), run_id.clone()));
    let scratch = scratch::kind(arguments.scratch, configuration);
    foresight::tell(&sandbox, &plan, scratch);
    let without_limits = sandbox.without().iter().map(ToString::to_string).collect();
    let directory = directory(arguments.out.as_deref(), state, &run_id)?;
    let committed = if plan.jobs.iter().any(|job| job.workspace == Workspace::Git) {
        let image = store.get(job::DEFAULT_IMAGE)?;
        let exported = committed::export(&sandbox, Arc::new(image), &workspace, scratch).await;
        // It is there as long as the run, whichever jobs are.
        let held = exported.and_then(|state| {
            let kept = seal::kept(&state).map_err(|error| Problem::sandbox(Exit::System, error))?;
            machine.hold(kept).map_err(&refuse)?;
            Ok(state)
        });
        match held {
            Ok(state) => Some(state),
            Err(problem) => {
                // What is left of a run that did not begin, the next start finds.
                drop(sandbox.close().await);
                return Err(problem);
            }
        }
    } else {
        None
    };
    let scope = match &arguments.cache_scope {
        Some(scope) => scope.clone(),
        None => fs::canonicalize(&arguments.file).unwrap_or_default().display().to_string(),
    };
    let most = arguments.cache_size.unwrap_or(CACHE_SIZE);
    let caches = CacheStore { caches: Caches::open(state, most)?, scope };
    let surroundings = Surroundings {
        engine: Engine::new(sandbox.clone(), state.to_owned(), scratch)
            .with_caches(BuildCaches::new(caches.caches.clone(), &caches.scope)),
        caches,
        run: run_id.clone(),
        sandbox,
        keeping,
        images,
        dockerfiles,
        workspace,
        mounts: arguments.mount.iter().cloned().map(Into::into).collect(),
        committed,
        scratch,
        directory: directory.clone(),
        needles: Arc::new(needles),
        learns: arguments.learn_network,
    };
    let finished = Finished {
        arguments: &arguments,
        file: &file,
        plan,
        directory,
        started,
        run_id,
        without_limits,
    };
    let status = finished.drive(surroundings, (machine, room), interrupts).await;
    if arguments.keep_state.is_some() {
        image_bounds::tidy(&Store::open(state)?, configuration);
    }
    status
}

/// Takes the images of all jobs, so that a missing one is told before anything runs.
async fn images(
    arguments: &cli::Run,
    plan: &Plan,
    configuration: &Configuration,
    (store, state): (&Store, &Path),
    interrupts: &mut Interrupts,
) -> Result<Images, Problem> {
    let mut wanted = Wanted::default();
    for job in &plan.jobs {
        // What a Dockerfile starts from, it says itself.
        let named = job.build.is_none() || job.image.is_some();
        let own = (job.from.is_none() && named).then(|| job::image_name(job));
        let services = job.services.iter().map(|service| service.image.as_str());
        let steps = job.step_images.iter().flatten().map(String::as_str);
        let made = |name: &&str| plan.images.iter().any(|image| image.name.value == **name);
        for name in own.into_iter().chain(services).chain(steps).filter(|name| !made(name)) {
            wanted.add(name, arguments.pull.map_or(job.pull, Into::into));
        }
    }
    images::take(store, state, configuration, wanted, interrupts).await
}

/// What the command line says for this run by itself; what the configuration says holds for all runs
/// together, and where neither says how many jobs run at once, as many as there are processors.
fn capacity(arguments: &cli::Run, configuration: &Configuration) -> Capacity {
    let configured = configuration.capacity;
    let processors = std::thread::available_parallelism();
    let said = arguments.max_parallel.and_then(|jobs| u32::try_from(jobs.get()).ok());
    let processors = || processors.ok().and_then(|jobs| u32::try_from(jobs.get()).ok());
    Capacity {
        jobs: said.or_else(|| if configured.jobs.is_some() { None } else { processors() }),
        millicpus: arguments.max_cpus,
        memory: arguments.max_memory,
        disk: None,
    }
}
