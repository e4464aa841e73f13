//! Builds the stages that are needed, side by side where one does not need the other.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use cofferdam_jobs::dockerfile::{Base, CopyFrom, Kind, MountKind, Selected, Selection};
use cofferdam_jobs::state::Stop;
use cofferdam_sandbox::{End, image::Image};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{Progress, Project, Request, stage, variables::Given};
use crate::{
    build::{Engine, Ran},
    exit::Exit,
    problem::Problem,
};

/// All that stages have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) engine: Engine,
    pub(super) project: Arc<Project>,
    pub(super) request: Arc<Request>,
    pub(super) images: Arc<HashMap<String, Arc<Image>>>,
    pub(super) given: Arc<Given>,
    pub(super) progress: Arc<Progress>,
    /// How many stages there are in all.
    pub(super) stages: usize,
    /// What the containers of its steps have used.
    used: Arc<Mutex<Vec<End>>>,
}

impl Common {
    /// Keeps what a container has used.
    pub(super) fn used(&self, end: Option<End>) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).extend(end);
    }
}

/// Why there is no image.
#[derive(Debug)]
pub(crate) struct Failure {
    /// For the user.
    pub(crate) problem: Problem,
    /// The program that failed, where that is the reason.
    pub(crate) ran: Option<Box<Ran>>,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { problem, ran: None }
    }
}

/// What a build came to.
#[derive(Debug)]
pub(crate) struct Built {
    /// The image of the last stage.
    pub(crate) image: Result<Arc<Image>, Failure>,
    /// What the containers of its steps have used.
    pub(crate) used: Vec<End>,
}

/// What a stage came to.
#[derive(Clone, Debug)]
pub(super) struct Finished {
    pub(super) image: Arc<Image>,
    /// The values of its `ARG`s, which stages based on it know too.
    pub(super) arguments: Vec<(String, String)>,
}

/// The images that the stages start from or take files from.
pub(crate) fn wanted(project: &Project, selection: &Selection) -> BTreeSet<String> {
    let mut wanted = BTreeSet::new();
    for selected in &selection.stages {
        if let Base::Image(name) = &selected.base {
            wanted.insert(name.clone());
        }
        let stage = project.dockerfile.stages.get(selected.stage);
        for instruction in stage.iter().flat_map(|stage| &stage.instructions) {
            let mut add = |from: Option<&CopyFrom>| {
                if let Some(CopyFrom::Image(name)) = from {
                    wanted.insert(name.clone());
                }
            };
            match &instruction.kind {
                Kind::Copy(copy) => add(copy.from.as_ref().map(|from| &from.value)),
                Kind::Run(run) => {
                    for mount in &run.mounts {
                        if let MountKind::Bind { from: Some(from), .. } = &mount.kind {
                            add(Some(&from.value));
                        }
                    }
                }
                _ => {}
            }
        }
    }
    wanted
}

/// Builds the selected stages; the image of the last. What comes by `stop` ends it.
pub(crate) async fn build(
    engine: Engine,
    project: Project,
    selection: &Selection,
    images: HashMap<String, Arc<Image>>,
    request: Request,
    progress: Progress,
    mut stop: mpsc::UnboundedReceiver<Stop>,
) -> Built {
    let given = Arc::new(Given::new(&request.selection, &selection.arguments));
    let common = Common {
        engine,
        project: Arc::new(project),
        request: Arc::new(request),
        images: Arc::new(images),
        given,
        progress: Arc::new(progress),
        stages: selection.stages.len(),
        used: Arc::default(),
    };
    let (tell, stopped) = watch::channel(0_u32);
    let target = selection.stages.last().map(|selected| selected.stage);
    let mut waiting: Vec<Selected> = selection.stages.clone();
    let mut done: HashMap<usize, Finished> = HashMap::new();
    let mut running = JoinSet::new();
    let mut failed: Option<Failure> = None;
    loop {
        while let (Some(at), None, true) =
            (next(&waiting, &done), &failed, running.len() < common.request.side_by_side)
        {
            let selected = waiting.remove(at);
            let is_target = Some(selected.stage) == target;
            let made = done.clone();
            let (common, stopped) = (common.clone(), stopped.clone());
            running.spawn(async move {
                let number = selected.stage;
                let finished = stage::build(common, selected, made, is_target, stopped).await;
                (number, finished)
            });
        }
        tokio::select! {
            joined = running.join_next() => match joined {
                None => break,
                Some(Ok((number, Ok(finished)))) => {
                    done.insert(number, finished);
                }
                Some(Ok((_, Err(failure)))) => {
                    // The others only say that they were stopped.
                    failed.get_or_insert(failure);
                    tell.send_modify(|level| *level += 1);
                }
                Some(Err(error)) => {
                    let lost = Problem::new(Exit::System, "failed to build a stage");
                    failed.get_or_insert_with(|| lost.because(error).into());
                    tell.send_modify(|level| *level += 1);
                }
            },
            Some(stop) = stop.recv() => {
                failed.get_or_insert_with(|| {
                    Problem::new(Exit::Cancelled, "cancelled while building").into()
                });
                tell.send_modify(|level| *level = match stop {
                    Stop::Gently => *level + 1,
                    Stop::Now => (*level + 1).max(2),
                });
            }
        }
    }
    common.progress.finish();
    let used = std::mem::take(&mut *common.used.lock().unwrap_or_else(PoisonError::into_inner));
    let image = target.and_then(|target| done.remove(&target)).map(|finished| finished.image);
    let lost = || Problem::new(Exit::System, "the image was lost while building").into();
    let image = match failed {
        Some(failure) => Err(failure),
        None => image.ok_or_else(lost),
    };
    Built { image, used }
}

/// A stage of which all that it needs is done.
fn next(waiting: &[Selected], done: &HashMap<usize, Finished>) -> Option<usize> {
    waiting.iter().position(|selected| selected.needs.iter().all(|need| done.contains_key(need)))
}
