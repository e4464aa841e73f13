//! The Dockerfiles of a run's images: read before anything runs, built as a step of the image's job.
//!
//! What they start from is known when they are read, so a Dockerfile with faults, and an image that
//! nobody has, end the run before its first job. A pipeline is not trusted with the operator's files:
//! contexts and Dockerfiles lie in the project, wherever links lead.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use cofferdam_jobs::{
    dockerfile::{self, Selection},
    plan::{Plan, PlannedDockerfile, PlannedJob},
    state::Stop,
};
use cofferdam_sandbox::image::Platform;
use tokio::sync::mpsc;

use crate::{
    build::{
        Engine,
        dockerfile::{Built, Foreseen, Progress, Project, Request, build, forecast, wanted},
    },
    execute::job,
    exit::Exit,
    images::{Images, Wanted},
    log::secret::Secret,
    network,
    problem::Problem,
};

/// In place of a secret that nobody has read.
const UNKNOWN: &str = "not read yet";

/// A Dockerfile that makes sense, and what its image is called.
#[derive(Debug)]
pub(in crate::execute) struct Dockerfile {
    /// The image of the pipeline.
    pub(in crate::execute) name: String,
    project: Project,
    selection: Selection,
    request: Request,
    images: Images,
}

/// The Dockerfiles of a plan by the job that builds them.
#[derive(Debug, Default)]
pub(in crate::execute) struct Dockerfiles(HashMap<usize, Dockerfile>);

impl Dockerfiles {
    /// Reads them in the project `workspace`; what is wrong with them is drawn. Where the run
    /// `learns`, it is recorded what they reach. `secrets` are those of the run.
    pub(in crate::execute) fn read(
        plan: &Plan,
        workspace: &Path,
        secrets: &BTreeMap<String, Secret>,
        learns: bool,
    ) -> Result<Self, Problem> {
        let mut read = HashMap::new();
        for (index, planned) in plan.jobs.iter().enumerate() {
            let Some(build) = &planned.build else { continue };
            let Some(file) = &build.dockerfile else { continue };
            let name = plan.images.get(build.image).map(|image| image.name.value.clone());
            let name = name.unwrap_or_default();
            let mut given = secrets.clone();
            given.retain(|name, _| file.secrets.contains(name) && plan.secrets.contains(name));
            let found = Dockerfile::read(name, planned, file, (workspace, given, learns))?;
            read.insert(index, found);
        }
        Ok(Self(read))
    }

    /// The images that they start from or take files from.
    pub(in crate::execute) fn wanted(
        &self,
        plan: &Plan,
        pull: Option<cofferdam_jobs::model::PullPolicy>,
    ) -> Wanted {
        let mut all = Wanted::default();
        for (index, file) in &self.0 {
            let own = plan.jobs.get(*index).map(|job| job.pull).unwrap_or_default();
            for name in wanted(&file.project, &file.selection) {
                all.add(&name, pull.unwrap_or(own));
            }
        }
        all
    }

    /// The same with the images that were wanted, ready to be built.
    pub(in crate::execute) fn with(self, images: &Images) -> HashMap<usize, Arc<Dockerfile>> {
        let with = |file: Dockerfile| Arc::new(Dockerfile { images: images.clone(), ..file });
        self.0.into_iter().map(|(index, file)| (index, with(file))).collect()
    }
}

impl Dockerfile {
    fn read(
        name: String,
        planned: &PlannedJob,
        file: &PlannedDockerfile,
        (workspace, secrets, learns): (&Path, BTreeMap<String, Secret>, bool),
    ) -> Result<Self, Problem> {
        let context = inside(workspace, &workspace.join(&file.context), &name)?;
        let path = context.join(&file.dockerfile);
        let real = inside(workspace, &path, &name)?;
        let mut beside = real.as_os_str().to_owned();
        beside.push(".dockerignore");
        for ignore in [PathBuf::from(beside), context.join(".dockerignore")] {
            if ignore.symlink_metadata().is_ok() {
                inside(workspace, &ignore, &name)?;
            }
        }
        // As the user would name it.
        let current = std::env::current_dir().unwrap_or_default();
        let shown = real.strip_prefix(&current).unwrap_or(&real);
        let project = Project::read(shown, &context)?;
        let request = Request {
            selection: dockerfile::Request {
                target: file.target.clone(),
                arguments: file.args.iter().cloned().collect(),
                platform: Platform::host().to_string(),
            },
            network: network::of_job(&planned.network, learns),
            limits: job::limits(planned),
            // The image's job has the limits once.
            side_by_side: 1,
            names: Vec::new(),
            secrets,
        };
        let selection = project.select(&request.selection)?;
        Ok(Self { name, project, selection, request, images: Images::new() })
    }

    /// Builds it; what it says goes to `streams`, and what comes by `stop` ends it.
    pub(in crate::execute) async fn build(
        &self,
        engine: Engine,
        streams: (OwnedFd, OwnedFd),
        stop: mpsc::UnboundedReceiver<Stop>,
    ) -> Built {
        let (project, images) = (self.project.clone(), self.images.clone());
        let (request, progress) = (self.request.clone(), Progress::in_log(streams));
        build(engine, project, &self.selection, images, request, progress, stop).await
    }
}

/// What a build of a job's Dockerfile would do. No secret has a value yet, and none needs one.
pub(super) fn foresee(
    plan: &Plan,
    planned: &PlannedJob,
    file: &PlannedDockerfile,
    (workspace, state): (&Path, &Path),
) -> Result<Foreseen, Problem> {
    let known = file.secrets.iter().filter(|name| plan.secrets.contains(*name));
    // Masking needs some bytes; nothing depends on which.
    let secrets = known.filter_map(|name| Some((name.clone(), Secret::new(name, UNKNOWN).ok()?)));
    let given = (workspace, secrets.collect(), false);
    let read = Dockerfile::read(planned.name.clone(), planned, file, given)?;
    forecast(state, read.project, &read.selection, read.request).map_err(Problem::from)
}

/// Where a path of the pipeline's really is, which has to be in the project.
fn inside(workspace: &Path, path: &Path, image: &str) -> Result<PathBuf, Problem> {
    let message = || format!("failed to read `{}` for the image `{image}`", path.display());
    let real = fs::canonicalize(path).map_err(|error| {
        let problem = Problem::new(Exit::NoInput, message()).because(error);
        problem.remedy("`context` is relative to the project, `dockerfile` to the context")
    })?;
    if real.starts_with(workspace) {
        return Ok(real);
    }
    Err(Problem::new(Exit::Data, message())
        .because("it is not in the project")
        .remedy("move it into the project, or choose another with `--workspace`"))
}
