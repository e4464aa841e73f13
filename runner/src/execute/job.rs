//! What a job is to the sandbox, and the end of a try: its files are taken, its containers go.

pub(super) mod brought;
pub(super) mod caches;
pub(super) mod keeping;
pub(super) mod live;
pub(super) mod ready;
pub(super) mod seal;
pub(super) mod service;
pub(super) mod start;
pub(super) mod used;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use cofferdam_jobs::{
    Span, Spanned,
    configuration::Allowance,
    plan::{PlannedConfig, PlannedJob},
    state::{Collect, Fault, Kept, StepRef},
};
use cofferdam_sandbox::{
    Container, Limits, State, WORKSPACE,
    export::{self, ExportLimits, LeftOut},
    image::Image,
    with_causes,
};
use tempfile::TempDir;
use tokio::{
    sync::oneshot,
    time::{Duration, Instant},
};

use super::{
    build::Build,
    inputs::globs::globs,
    message::{ClosedLog, CollectedFile},
    output::Output,
};
use crate::{limits, supervise::LAST_WORDS};
use caches::{CacheReport, CacheStore, Restored};
use keeping::{Keeping, KeptState};
use seal::kept;
use service::{Service, ServiceReport};
use used::Used;

/// The image of jobs that name none.
pub(super) const DEFAULT_IMAGE: &str = "host";

/// The name of the image that a job starts from.
pub(super) fn image_name(job: &PlannedJob) -> &str {
    job.image.as_deref().unwrap_or(DEFAULT_IMAGE)
}

/// Whose doing an error of the sandbox is.
pub(super) fn fault_of(error: &cofferdam_sandbox::Error) -> Fault {
    match error.fault() {
        cofferdam_sandbox::Fault::Pipeline => Fault::Pipeline,
        cofferdam_sandbox::Fault::System => Fault::System,
    }
}

/// An error of the sandbox in words: what, why, and what to do, where that is known.
pub(super) fn in_words(error: &cofferdam_sandbox::Error) -> String {
    let causes = with_causes(error);
    error.remedy_text().map_or_else(|| causes.clone(), |remedy| format!("{causes}; {remedy}"))
}

/// The name and the digest of an image, for the record.
pub(super) fn image_identity(image: &Image) -> (String, String) {
    let name = image.reference.as_ref();
    let name = name.map_or_else(|| DEFAULT_IMAGE.to_owned(), ToString::to_string);
    (name, image.digest.to_string())
}

/// The limits of a job: the plan has applied what the operator decides.
pub(super) fn limits(job: &PlannedJob) -> Limits {
    enforced(&job.limits, job.timeout)
}

/// The limits of a container of a job.
pub(super) fn enforced(limits: &cofferdam_jobs::model::Limits, timeout: Duration) -> Limits {
    let timeout = Some(Spanned::new(timeout, Span::default()));
    limits::enforced(&Allowance { limits: limits.clone(), timeout })
}

/// A host name from a job's id: letters, digits and `-`.
pub(super) fn hostname(id: &str) -> String {
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
    /// What was selected as artifacts or JUnit files and cannot come out.
    pub(super) left_out: LeftOut,
    /// JUnit files, where they are now.
    pub(super) junit: Vec<PathBuf>,
    /// What it used.
    pub(super) used: Used,
    /// What there is to tell of its services.
    pub(super) services: Vec<ServiceReport>,
    /// What became of its caches.
    pub(super) caches: Vec<CacheReport>,
    /// What it has written, where others may start from that, and what keeping it takes.
    pub(super) state: Option<(Arc<State>, Kept)>,
    /// What became of that where it is to stay after the run.
    pub(super) kept_state: Option<KeptState>,
    /// What it has made.
    pub(super) image: Option<Arc<Image>>,
    /// What went wrong on the way.
    pub(super) fault: Option<(Fault, String)>,
}

impl Collected {
    fn fail(&mut self, fault: Fault, message: String) {
        self.fault.get_or_insert((fault, message));
    }

    fn keep(&mut self, container: &Container, made_by: String, keeping: Option<&Keeping>) {
        match container.state().and_then(|state| Ok((Arc::clone(&state), kept(&state)?))) {
            Ok((state, size)) => {
                state.describe(made_by);
                self.kept_state = keeping.map(|keeping| keeping.keep(&state));
                self.state = Some((state, size));
            }
            Err(error) => self.fail_by(&error),
        }
    }

    fn fail_by(&mut self, error: &cofferdam_sandbox::Error) {
        self.fail(fault_of(error), in_words(error));
    }
}

/// A try that is to be taken down.
#[derive(Debug)]
pub(super) struct Finish {
    /// The image that it makes, where it does that.
    pub(super) build: Option<Build>,
    /// What containers of that start with, where all of its steps have passed.
    pub(super) config: Option<PlannedConfig>,
    /// Absent where it has ended already.
    pub(super) container: Option<Arc<Container>>,
    pub(super) services: Vec<Service>,
    /// What its earlier containers have used.
    pub(super) used: Used,
    /// The step whose network its last container is in.
    pub(super) network_of: Option<StepRef>,
    /// Whether others may start from what it has written.
    pub(super) keep: bool,
    /// Who has written that.
    pub(super) made_by: String,
    /// Keeps it for longer than the run.
    pub(super) keeping: Option<Keeping>,
    /// The artifacts that were brought, which the container shows.
    pub(super) brought: Option<TempDir>,
    /// The caches that the container shows, and where others are kept.
    pub(super) caches: (CacheStore, Vec<Restored>),
    /// Who its processes are.
    pub(super) user: Option<String>,
    pub(super) outputs: Vec<(StepRef, oneshot::Receiver<Output>)>,
    pub(super) collect: Collect,
    /// The run's directory.
    pub(super) directory: PathBuf,
    /// The directory name of the job's artifacts.
    pub(super) name: String,
    pub(super) workdir: Option<String>,
}

impl Finish {
    /// Ends all processes, then takes the files, then removes the containers.
    pub(super) async fn run(self) -> Collected {
        let mut collected = Collected::default();
        let stopped = match &self.container {
            Some(container) => container.stop().await.map(drop),
            None => Ok(()),
        };
        if let Err(error) = &stopped {
            collected.fail_by(error);
        }
        let deadline = Instant::now() + if stopped.is_ok() { LAST_WORDS } else { Duration::ZERO };
        for (step, output) in self.outputs {
            // Where there is none, its step has said why.
            let Ok(output) = output.await else { continue };
            match output.end(deadline).await {
                Ok(kept) => collected.logs.push(ClosedLog { step, kept }),
                Err(message) => {
                    collected.fail(Fault::System, format!("failed to keep a log: {message}"));
                }
            }
        }
        for service in self.services {
            match service.stop().await {
                Ok(report) => collected.services.push(report),
                Err(message) => {
                    collected.fail(Fault::System, format!("failed to end a service: {message}"));
                }
            }
        }
        let (store, restored) = self.caches;
        collected.caches = restored.iter().map(|cache| cache.report.clone()).collect();
        if let Some(build) = self.build {
            collected.used = Used::of(build.used().await);
            if let Some(config) = &self.config {
                match build.finish(config).await {
                    Ok(image) => collected.image = Some(image),
                    Err((fault, message)) => collected.fail(fault, message),
                }
            }
        }
        let Some(container) = self.container else {
            // One that has ended, and none could go on from it.
            if self.used.end.is_some() {
                collected.used = self.used;
            }
            return collected;
        };
        let files = Files {
            collect: self.collect,
            directory: self.directory,
            name: self.name,
            workdir: self.workdir,
        };
        let taken_from = Arc::clone(&container);
        let keep = self.keep;
        let taken = tokio::task::spawn_blocking(move || {
            // What may still run could change them while they are read.
            if stopped.is_ok() {
                files.take(&taken_from, &mut collected);
                if collected.fault.is_none() {
                    let user = self.user.as_deref().unwrap_or(&taken_from.spec().image.config.user);
                    let caches = &files.collect.caches;
                    store.save(caches, &taken_from, user, &mut collected.caches);
                }
                if keep {
                    collected.keep(&taken_from, self.made_by, self.keeping.as_ref());
                }
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
        let ended = container.end().await;
        drop((self.brought, restored));
        match ended {
            Ok(end) => {
                let mut used = self.used;
                used.add(end, self.network_of, container.spec().network.is_shared());
                collected.used = used;
            }
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
            match self.export(container, &artifacts.paths, &target, &mut collected.left_out) {
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
            match self.export(container, &self.collect.junit, &target, &mut collected.left_out) {
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
        left_out: &mut LeftOut,
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
        left_out.merge(exported.left_out);
        let collected = exported.files.into_iter().map(|file| CollectedFile {
            path: target.join(file.path),
            bytes: file.bytes,
            digest: file.digest.to_string(),
            is_link: file.is_link,
        });
        Ok(collected.collect())
    }
}
