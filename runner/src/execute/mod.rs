//! `cofferdam run`: a plan is made, its jobs are run, the results are written.

mod build;
mod driver;
pub(crate) mod inputs;
mod job;
mod message;
mod output;
pub(crate) mod pipeline;
mod record;
mod step;

use std::{
    fs,
    io::{self, IsTerminal as _, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use cofferdam_jobs::{
    Configuration, Inputs, Plan,
    model::Workspace,
    plan::Feature,
    state::{Capacity, Conclusion, KeepStates, Run, Settings},
};
use cofferdam_sandbox::{Sandbox, cache::Caches, image::Store, spawner::Spawner};
use indicatif::ProgressDrawTarget;

use crate::{
    build::Engine,
    cli,
    exit::Exit,
    image_bounds,
    images::{self, Images, Wanted},
    limits,
    log::needles::Needles,
    print,
    problem::Problem,
    report::{
        display::{ControlEchoOff, Display},
        junit,
        learned::render,
        record::{FILE_NAME, PipelineRecord, RecordError, RunRecord, SCHEMA},
        style::wants_colour,
        summary,
    },
    scratch,
    supervise::Interrupts,
};
use build::dockerfile::Dockerfiles;
use driver::{Driver, Surroundings, room::Room};
use inputs::{committed, digest, foresight};
use job::{
    brought,
    caches::CacheStore,
    keeping::{self, Keeping},
    seal,
};
use pipeline::PipelineFile;
use record::{Records, learned, timestamp};

/// Bytes that all caches may take where nobody says.
const CACHE_SIZE: u64 = 10 << 30;

/// Runs a pipeline; returns the status that this process shall end with.
pub(crate) async fn run(
    arguments: cli::Run,
    configuration: &Configuration,
    state: &Path,
    spawner: Spawner,
) -> Result<u8, Problem> {
    let started = SystemTime::now();
    let run_id = run_id(started)?;
    let project = pipeline::project(&arguments.file, arguments.workspace.as_deref());
    let file = pipeline::read(&arguments.file, &project)?;
    file.draw(&file.diagnostics);
    let Some(pipeline) = &file.pipeline else {
        return Err(file.faults(&arguments.file, &file.diagnostics));
    };
    let workspace = workspace(&project)?;
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
    let dockerfiles = Dockerfiles::read(&plan, &workspace, arguments.learn_network)?;
    let images = images(&arguments, &plan, configuration, state, &mut interrupts).await?;
    // Apart from those of the jobs, which may have the same names for images of the pipeline.
    let wanted = dockerfiles.wanted(&plan, arguments.pull.map(Into::into));
    let taken = images::take(state, configuration, wanted, &mut interrupts).await?;
    let dockerfiles = dockerfiles.with(&taken);
    let sandbox = Sandbox::open_without(spawner, state, &limits::dispensable(configuration))?;
    limits::tell_missing(&sandbox);
    if let Some(what) = keeping::needs_states(&plan, arguments.keep_state)
        && let Err(error) = sandbox.keeps_states()
    {
        drop(sandbox.close().await);
        return Err(Problem::sandbox(Exit::System, error)
            .remedy(format!("run it on Linux 6.15 or newer; here it has to do without {what}")));
    }
    let keeping = arguments.keep_state.map(|_| Keeping::new(state.to_owned(), run_id.clone()));
    let scratch = scratch::kind(arguments.scratch, configuration);
    foresight::tell(&sandbox, &plan, scratch);
    let without_limits = sandbox.without().iter().map(ToString::to_string).collect();
    let directory = directory(arguments.out.as_deref(), state, &run_id)?;
    let committed = if plan.jobs.iter().any(|job| job.workspace == Workspace::Git) {
        let image = Store::open(state)?.get(job::DEFAULT_IMAGE)?;
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
        engine: Engine::new(sandbox.clone(), state.to_owned(), scratch),
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
    state: &Path,
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
    images::take(state, configuration, wanted, interrupts).await
}

/// What the end of a run needs to know of its beginning.
struct Finished<'a> {
    arguments: &'a cli::Run,
    file: &'a PipelineFile,
    plan: Arc<Plan>,
    directory: PathBuf,
    started: SystemTime,
    run_id: String,
    without_limits: Vec<String>,
}

impl Finished<'_> {
    async fn drive(
        &self,
        surroundings: Surroundings,
        machine: (Run, Option<Room>),
        mut interrupts: Interrupts,
    ) -> Result<u8, Problem> {
        // From now on, the directory is known to be that of a run.
        self.record().write(&self.directory).map_err(not_written)?;
        let needles = Arc::clone(&surroundings.needles);
        let sandbox = surroundings.sandbox.clone();
        let mut driver = Driver::new(surroundings, machine, display(self.arguments.json));
        let conclusion = driver.run(&mut interrupts).await;
        let records = Records {
            state: driver.state(),
            ledger: &driver.ledger,
            directory: &self.directory,
            needles: &needles,
        };
        let (jobs, tests) = records.jobs();
        let learned = self
            .arguments
            .learn_network
            .then(|| learned::learned(driver.state(), &driver.ledger, &needles));
        let (unread, busy) = (driver.is_unread(), driver.busy());
        let screen = driver.into_screen();
        let residue = sandbox.close().await;
        screen.finish().await;
        let told = |_: &Problem| {
            for left in &residue {
                print::standard_error(format_args!("left behind: {left}"));
            }
        };
        let conclusion = match conclusion.inspect_err(told)? {
            _ if !residue.is_empty() => Conclusion::System,
            other => other,
        };
        let record = RunRecord {
            ended: Some(timestamp(SystemTime::now())),
            conclusion: Some(record::conclusion(conclusion)),
            jobs,
            learned,
            scheduling_ms: Some(record::milliseconds(busy)),
            residue: residue.iter().map(ToString::to_string).collect(),
            ..self.record()
        };
        self.write(&record, &tests)?;
        if self.arguments.keep_state.is_some() {
            keeping::tell(&record);
        }
        let exit = match conclusion {
            Conclusion::Cancelled if unread => Exit::Unread,
            other => exit(other),
        };
        Ok(exit.code())
    }

    /// The record as it is while the run goes on.
    fn record(&self) -> RunRecord {
        RunRecord {
            schema: SCHEMA,
            cofferdam: env!("CARGO_PKG_VERSION").to_owned(),
            id: self.run_id.clone(),
            pipeline: PipelineRecord {
                name: self.plan.name.clone(),
                file: self.arguments.file.display().to_string(),
                digest: self.file.digest.clone(),
            },
            started: timestamp(self.started),
            ended: None,
            conclusion: None,
            jobs: Vec::new(),
            scheduling_ms: None,
            without_limits: self.without_limits.clone(),
            learned: None,
            residue: Vec::new(),
        }
    }

    fn write(&self, record: &RunRecord, tests: &[junit::write::JobTests]) -> Result<(), Problem> {
        let tail = summary::log_tail(&self.directory);
        let written = record.write(&self.directory).and_then(|()| {
            junit::write::write(&self.directory, record, tests, &|step| tail(step).join("\n"))
        });
        written.map_err(not_written)?;
        let colour = wants_colour(&io::stdout());
        if self.arguments.json {
            let text = serde_json::to_string_pretty(record).unwrap_or_default();
            print::standard_output(text)?;
        } else {
            print::standard_output(summary::render(record, &self.directory, colour, &tail))?;
            if let Some(learned) = &record.learned {
                print::standard_output(format_args!("\n{}", render(learned).trim_end()))?;
            }
        }
        Ok(())
    }
}

fn not_written(error: RecordError) -> Problem {
    Problem::new(Exit::System, "failed to write the results").because(error)
}

fn exit(conclusion: Conclusion) -> Exit {
    match conclusion {
        Conclusion::Passed | Conclusion::Skipped => Exit::Passed,
        Conclusion::Failed => Exit::Failed,
        Conclusion::TimedOut => Exit::TimedOut,
        Conclusion::Cancelled => Exit::Cancelled,
        Conclusion::System => Exit::System,
    }
}

/// Spinners on a terminal, plain lines otherwise; with `--json`, standard output is for that.
fn display(json: bool) -> Display {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    if stderr.is_terminal() && (json || stdout.is_terminal()) {
        let echo = ControlEchoOff::on(&stderr);
        Display::live(ProgressDrawTarget::stderr(), wants_colour(&stderr), echo)
    } else if json {
        let colour = wants_colour(&stderr);
        Display::plain(Box::new(stderr), colour)
    } else {
        let colour = wants_colour(&stdout);
        Display::plain(Box::new(stdout), colour)
    }
}

/// The project, which must be there.
fn workspace(said: &Path) -> Result<PathBuf, Problem> {
    let problem = || Problem::new(Exit::NoInput, format!("no workspace `{}`", said.display()));
    let path = fs::canonicalize(said).map_err(|error| {
        problem().because(error).remedy("name a directory that exists with `--workspace`")
    })?;
    if path.is_dir() { Ok(path) } else { Err(problem().because("it is not a directory")) }
}

/// The run's directory, made anew: an old one's files would mix with this run's. What is not of a
/// run is not removed.
fn directory(said: Option<&Path>, state: &Path, run: &str) -> Result<PathBuf, Problem> {
    let directory = said.map_or_else(|| state.join("runs").join(run), Path::to_owned);
    let problem = |error: io::Error| {
        Problem::new(Exit::NoInput, format!("failed to make `{}`", directory.display()))
            .because(error)
            .remedy("choose another directory with `--out`")
    };
    let parts = ["logs", "artifacts", "results", brought::DIRECTORY];
    if !directory.join(FILE_NAME).exists()
        && let Some(part) = parts.iter().find(|part| directory.join(part).exists())
    {
        let foreign = directory.join(part);
        let message = format!("`{}` is there, and not of an earlier run", foreign.display());
        return Err(Problem::new(Exit::NoInput, message)
            .remedy("choose another directory with `--out`, or remove it"));
    }
    for old in parts {
        match fs::remove_dir_all(directory.join(old)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(problem)?,
        }
    }
    fs::create_dir_all(directory.join("logs")).map_err(problem)?;
    fs::canonicalize(&directory).map_err(problem)
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

/// The time and a few letters of chance: sorted by time, unique on all machines.
fn run_id(now: SystemTime) -> Result<String, Problem> {
    let mut random = [0; 2];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .map_err(|error| Problem::new(Exit::System, "failed to draw a run id").because(error))?;
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let time =
        jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::try_from(seconds).unwrap_or_default();
    Ok(format!("{}-{}", time.strftime("%Y%m%d-%H%M%S"), digest::hex(&random)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_of_a_run_is_removed_from_its_directory() {
        let out = tempfile::tempdir().unwrap();
        let kept = out.path().join("results/kept");
        fs::create_dir(out.path().join("results")).unwrap();
        fs::write(&kept, "").unwrap();
        let make = || directory(Some(out.path()), Path::new("/none"), "id");
        let problem = make().unwrap_err();
        assert!(problem.to_string().contains("not of an earlier run"), "{problem}");
        assert!(kept.exists());
        fs::write(out.path().join(FILE_NAME), "{}").unwrap();
        make().unwrap();
        assert!(!kept.exists() && out.path().join("logs").is_dir());
    }
}
