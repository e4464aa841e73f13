//! All expressions of a job, each with what kind of place it is in.
//!
//! What an expression may ask for depends on when it is evaluated, and that on its place.

use super::{Command, Env, Job, Ready, Step};
use crate::expr::{Expr, Template};

/// Where an expression is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// What the plan has to know: names, images, users.
    Plan,
    /// `if` of a job.
    JobIf,
    /// Environment of a job or of its services.
    JobEnv,
    /// `key`, `restore` and `paths` of a cache.
    Cache,
    /// `if` of a step.
    StepIf(At),
    /// `run` or `exec`.
    Command(At),
    /// `env` of a step.
    StepEnv(At),
    /// Other keys of a step.
    Step(At),
    /// Outputs of a job, and paths of its artifacts.
    JobEnd,
}

/// Which step of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    /// Whether it is one of `cleanup`.
    pub(crate) cleanup: bool,
    /// Its index in the list.
    pub(crate) index: usize,
}

/// Calls `visit` with every expression of a job.
pub(crate) fn expressions(job: &Job, visit: &mut dyn FnMut(Place, &Expr)) {
    let planned = [&job.name, &job.image, &job.user, &job.workdir];
    templates(Place::Plan, planned.into_iter().flatten(), visit);
    if let Some(condition) = &job.condition {
        visit(Place::JobIf, condition.expr());
    }
    templates(Place::JobEnv, values(&job.env), visit);
    for service in &job.services {
        templates(Place::Plan, std::iter::once(&service.image).chain(&service.user), visit);
        templates(Place::JobEnv, values(&service.env), visit);
        if let Some(command) = &service.command {
            templates(Place::JobEnv, words(command), visit);
        }
        templates(Place::JobEnv, probe(service.ready.as_ref()), visit);
    }
    for cache in &job.cache {
        let all = std::iter::once(&cache.key).chain(&cache.restore).chain(&cache.paths);
        templates(Place::Cache, all, visit);
    }
    for (cleanup, steps) in [(false, &job.steps), (true, &job.cleanup)] {
        for (index, each) in steps.iter().enumerate() {
            step(At { cleanup, index }, each, visit);
        }
    }
    templates(Place::JobEnd, values(&job.outputs), visit);
    let paths = job.artifacts.iter().flat_map(|artifacts| &artifacts.paths);
    templates(Place::JobEnd, paths, visit);
}

/// Calls `visit` with every expression of a step.
pub(crate) fn step(at: At, step: &Step, visit: &mut dyn FnMut(Place, &Expr)) {
    if let Some(condition) = &step.condition {
        visit(Place::StepIf(at), condition.expr());
    }
    templates(Place::StepEnv(at), values(&step.env), visit);
    templates(Place::Command(at), words(&step.command), visit);
    templates(Place::Plan, &step.image, visit);
    let fields = [&step.name, &step.workdir, &step.user];
    templates(Place::Step(at), fields.into_iter().flatten(), visit);
    templates(Place::Step(at), probe(step.ready.as_ref()), visit);
}

fn templates<'m>(
    place: Place,
    templates: impl IntoIterator<Item = &'m Template>,
    visit: &mut dyn FnMut(Place, &Expr),
) {
    for expr in templates.into_iter().flat_map(Template::expressions) {
        visit(place, expr);
    }
}

pub(crate) fn values(env: &Env) -> impl Iterator<Item = &Template> {
    env.iter().map(|(_, value)| value)
}

fn words(command: &Command) -> &[Template] {
    match command {
        Command::Run(script) => std::slice::from_ref(script),
        Command::Exec(words) => words,
    }
}

fn probe(ready: Option<&Ready>) -> &[Template] {
    ready.map_or(&[], |ready| words(&ready.command))
}
