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

use super::{Progress, Project, Request, stage, variables::Arguments};
use crate::{
    build::{Engine, Ran},
    exit::Exit,
    problem::Problem,
};

/// What is built, whether it is built now or only looked at.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) project: Arc<Project>,
    pub(super) request: Arc<Request>,
    pub(super) images: Arc<HashMap<String, Arc<Image>>>,
    pub(super) arguments: Arc<Arguments>,
}

impl Given {
    pub(super) fn new(
        project: Project,
        selection: &Selection,
        images: HashMap<String, Arc<Image>>,
        request: Request,
    ) -> Self {
        let arguments = Arc::new(Arguments::new(&request.selection, &selection.arguments));
        let (project, request, images) = (Arc::new(project), Arc::new(request), Arc::new(images));
        Self { project, request, images, arguments }
    }
}

/// All that stages have in common while they are built.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) engine: Engine,
    pub(super) given: Given,
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
            wanted.extend(takes_from(&instruction.kind).into_iter().filter_map(
                |from| match from {
                    CopyFrom::Image(name) => Some(name.clone()),
                    CopyFrom::Stage(_) => None,
                },
            ));
        }
    }
    wanted
}

/// The images and stages that an instruction takes files from.
pub(super) fn takes_from(instruction: &Kind) -> Vec<&CopyFrom> {
    match instruction {
        Kind::Copy(copy) => copy.from.iter().map(|from| &from.value).collect(),
        Kind::Run(run) => {
            let mounts = run.mounts.iter().filter_map(|mount| match &mount.kind {
                MountKind::Bind { from: Some(from), .. } => Some(&from.value),
                _ => None,
            });
            mounts.collect()
        }
        _ => Vec::new(),
    }
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
    let common = Common {
        engine,
        given: Given::new(project, selection, images, request),
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
            (next(&waiting, &done), &failed, running.len() < common.given.request.side_by_side)
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
