//! One try of a job: put its container up, and at the end take its files and take it down.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use cofferdam_jobs::{
    Span, Spanned,
    configuration::Allowance,
    plan::PlannedJob,
    state::{Collect, Event, Fault},
};
use cofferdam_sandbox::{
    Container, ContainerSpec, Limits, Mount, Sandbox, ScratchKind, WORKSPACE,
    export::{self, ExportLimits},
    image::Image,
    with_causes,
};
use globset::{GlobSet, GlobSetBuilder};
use tokio::time::{Duration, Instant};

use super::message::{ClosedLog, CollectedFile, JobUse, Message};
use super::output::Output;
use crate::{limits, network, supervise::LAST_WORDS};
use cofferdam_jobs::state::StepRef;

/// The image of jobs that name none.
pub(super) const DEFAULT_IMAGE: &str = "host";

/// The name of the image that a job starts from.
pub(super) fn image_name(job: &PlannedJob) -> &str {
    job.image.as_deref().unwrap_or(DEFAULT_IMAGE)
}

/// What of the host a job works on.
#[derive(Debug)]
pub(super) struct Place {
    /// The project that it sees.
    pub(super) workspace: Option<PathBuf>,
    /// What the operator shows in it.
    pub(super) mounts: Vec<Mount>,
    /// Where it keeps what it writes.
    pub(super) scratch: ScratchKind,
}

/// Puts the container of a job up; returns the message that says so.
pub(super) async fn start(
    sandbox: Sandbox,
    image: Arc<Image>,
    job: usize,
    planned: PlannedJob,
    place: Place,
) -> Message {
    let failed = |error: &cofferdam_sandbox::Error| {
        let fault = match error.fault() {
            cofferdam_sandbox::Fault::Pipeline => Fault::Pipeline,
            cofferdam_sandbox::Fault::System => Fault::System,
        };
        Message::Event(Event::JobStartFailed { job, fault, message: with_causes(error) })
    };
    let spec = ContainerSpec {
        limits: limits(&planned),
        hostname: hostname(&planned.id),
        workspace: place.workspace,
        mounts: place.mounts,
        scratch: place.scratch,
        network: network::of_job(&planned.network).into(),
        ..ContainerSpec::new(image)
    };
    match sandbox.create(spec).await {
        Ok(container) => Message::Started { job, container: Box::new(container) },
        Err(error) => failed(&error),
    }
}

/// The limits of a job: the plan has applied what the operator decides.
pub(super) fn limits(job: &PlannedJob) -> Limits {
    let timeout = Some(Spanned::new(job.timeout, Span::default()));
    limits::enforced(&Allowance { limits: job.limits.clone(), timeout })
}

/// A host name from a job's id: letters, digits and `-`.
fn hostname(id: &str) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '-' };
    id.chars().take(63).map(plain).collect()
}

/// What came out of a job.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// The logs of its steps.
    pub(super) logs: Vec<ClosedLog>,
    /// Its artifacts.
    pub(super) artifacts: Vec<CollectedFile>,
    /// JUnit files, where they are now.
    pub(super) junit: Vec<PathBuf>,
    /// What it used.
    pub(super) used: JobUse,
    /// What went wrong on the way.
    pub(super) fault: Option<(Fault, String)>,
}

impl Collected {
    fn fail(&mut self, fault: Fault, message: String) {
        self.fault.get_or_insert((fault, message));
    }

    fn fail_by(&mut self, error: &cofferdam_sandbox::Error) {
        let fault = match error.fault() {
            cofferdam_sandbox::Fault::Pipeline => Fault::Pipeline,
            cofferdam_sandbox::Fault::System => Fault::System,
        };
        self.fail(fault, with_causes(error));
    }
}

/// A container that is to be taken down.
#[derive(Debug)]
pub(super) struct Finish {
    pub(super) container: Arc<Container>,
    pub(super) outputs: Vec<(StepRef, Output)>,
    pub(super) collect: Collect,
    /// The run's directory.
    pub(super) directory: PathBuf,
    /// The directory name of the job's artifacts.
    pub(super) name: String,
    pub(super) workdir: Option<String>,
}

impl Finish {
    /// Ends all processes, then takes the files, then removes the container.
    pub(super) async fn run(self) -> Collected {
        let mut collected = Collected::default();
        let stopped = self.container.stop().await;
        if let Err(error) = &stopped {
            collected.fail_by(error);
        }
        let deadline = Instant::now() + if stopped.is_ok() { LAST_WORDS } else { Duration::ZERO };
        for (step, output) in self.outputs {
            match output.end(deadline).await {
                Ok(kept) => collected.logs.push(ClosedLog { step, kept }),
                Err(message) => {
                    collected.fail(Fault::System, format!("failed to keep a log: {message}"));
                }
            }
        }
        let container = Arc::clone(&self.container);
        let files = Files {
            collect: self.collect,
            directory: self.directory,
            name: self.name,
            workdir: self.workdir,
        };
        let taken = tokio::task::spawn_blocking(move || {
            // What may still run could change them while they are read.
            if stopped.is_ok() {
                files.take(&container, &mut collected);
            }
            collected
        });
        let mut collected = match taken.await {
            Ok(collected) => collected,
            Err(error) => Collected {
                fault: Some((Fault::System, format!("failed to take the files: {error}"))),
                ..Collected::default()
            },
        };
        match self.container.end().await {
            Ok(end) => collected.used = JobUse { end: Some(end) },
            Err(error) => collected.fail_by(&error),
        }
        collected
    }
}

struct Files {
    collect: Collect,
    directory: PathBuf,
    name: String,
    workdir: Option<String>,
}

impl Files {
    fn take(&self, container: &Container, collected: &mut Collected) {
        for artifacts in &self.collect.artifacts {
            let target = Path::new("artifacts").join(&self.name);
            match self.export(container, &artifacts.paths, &target) {
                Ok(files) if files.is_empty() && !artifacts.optional => {
                    let patterns = artifacts.paths.join("`, `");
                    let message = format!("no file matches the artifacts `{patterns}`");
                    collected.fail(Fault::Pipeline, message);
                }
                Ok(files) => collected.artifacts.extend(files),
                Err(error) => collected.fail_by(&error),
            }
        }
        if !self.collect.junit.is_empty() {
            let target = Path::new("results").join(&self.name);
            match self.export(container, &self.collect.junit, &target) {
                Ok(files) => {
                    let files = files.into_iter().filter(|file| !file.is_link);
                    collected.junit.extend(files.map(|file| file.path));
                }
                Err(error) => collected.fail_by(&error),
            }
        }
    }

    fn export(
        &self,
        container: &Container,
        patterns: &[String],
        target: &Path,
    ) -> cofferdam_sandbox::Result<Vec<CollectedFile>> {
        let globs = globs(patterns)?;
        let workdir = self.workdir.as_deref().unwrap_or(WORKSPACE);
        let workdir = Path::new(workdir);
        let (root, base) = match workdir.strip_prefix(WORKSPACE) {
            Ok(inside) => (container.workspace(), inside),
            Err(_) if workdir.is_absolute() => (container.root(), workdir),
            Err(_) => (container.workspace(), workdir),
        };
        let exported = export::export(
            root,
            base,
            &|path| globs.is_match(path),
            &self.directory.join(target),
            ExportLimits::default(),
        )?;
        let collected = exported.into_iter().map(|file| CollectedFile {
            path: target.join(file.path),
            bytes: file.bytes,
            digest: file.digest.to_string(),
            is_link: file.is_link,
        });
        Ok(collected.collect())
    }
}

/// As in shells, `*` stays within a directory; a pattern that names a directory takes all of it.
fn globs(patterns: &[String]) -> cofferdam_sandbox::Result<GlobSet> {
    let mut globs = GlobSetBuilder::new();
    for pattern in patterns {
        let pattern = pattern.trim_start_matches("./").trim_end_matches('/');
        for pattern in [pattern.to_owned(), format!("{pattern}/**")] {
            let glob = globset::GlobBuilder::new(&pattern).literal_separator(true).build();
            globs.add(glob.map_err(|error| invalid(&pattern, error))?);
        }
    }
    globs.build().map_err(|error| invalid(&patterns.join(" "), error))
}

fn invalid(pattern: &str, error: globset::Error) -> cofferdam_sandbox::Error {
    cofferdam_sandbox::Error::pipeline(format!("read the glob `{pattern}`"), error)
}
