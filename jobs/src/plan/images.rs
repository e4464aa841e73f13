//! The images that the pipeline makes, as jobs that those which use them wait for.
//!
//! A build takes its part of what all jobs may use together, has logs and a verdict, and is
//! cancelled with the run: so it is planned as a job. Only images that some job of the plan uses are
//! built.

use std::{collections::HashMap, sync::Arc};

use super::{
    Group, GroupNeed, Inputs, Plan, PlannedBuild, PlannedConfig, PlannedDockerfile, PlannedJob,
    build::{PlanScope, Rendered, TIMEOUT, allowance, rendered},
};
use crate::{
    diagnostic::{Code, Diagnostic, Report, quoted},
    expr::{EvaluationError, Template, Value},
    graph::Graph,
    model::{ImageDefinition, ImageSource, Network, Pipeline, Workspace},
};

/// What an image is made from, as far as the plan can tell.
struct Wanted {
    /// Index into [`Pipeline::images`].
    image: usize,
    /// The image that it starts from; [`None`] for a Dockerfile.
    from: Option<String>,
}

/// Puts the images that the jobs of `plan` use before them, in place of all that is planned so far:
/// the jobs have to be planned again over them, and then [`connect`]ed. Returns whether there are any.
pub(super) fn plan_images(
    pipeline: &Pipeline,
    inputs: &Inputs,
    plan: &mut Plan,
    report: &mut Report,
) -> bool {
    let indexes: HashMap<&str, usize> = pipeline
        .images
        .iter()
        .enumerate()
        .map(|(index, image)| (image.name.as_str(), index))
        .collect();
    let wanted = wanted(pipeline, plan, &indexes, report);
    if wanted.is_empty() {
        return false;
    }
    let place: HashMap<usize, usize> =
        wanted.iter().enumerate().map(|(place, wanted)| (wanted.image, place)).collect();
    let needs = wanted.iter().map(|wanted| {
        let own = wanted.from.as_deref().and_then(|from| indexes.get(from));
        own.and_then(|own| place.get(own)).copied().into_iter().collect()
    });
    let order = match Graph::new(needs.collect()).order() {
        Ok(order) => order,
        Err(circle) => {
            let circle: Vec<&ImageDefinition> = circle
                .iter()
                .filter_map(|index| pipeline.images.get(wanted.get(*index)?.image))
                .collect();
            report.push(cycle(&circle));
            return false;
        }
    };
    plan.groups.clear();
    plan.jobs.clear();
    for index in order {
        let Some(wanted) = wanted.get(index) else { continue };
        let Some(definition) = pipeline.images.get(wanted.image) else { continue };
        let job = planned(pipeline, inputs, plan, (definition, wanted), report);
        let need = job.image.as_deref().and_then(|from| group_of(plan, from));
        plan.groups.push(Group {
            id: job.name.clone(),
            source: Arc::clone(&job.source),
            needs: need.map(image_need).into_iter().collect(),
            jobs: plan.jobs.len()..plan.jobs.len() + 1,
            weight: std::time::Duration::ZERO,
        });
        plan.jobs.push(job);
    }
    true
}

/// Makes every job wait for the images that it uses.
pub(super) fn connect(plan: &mut Plan) {
    let mut needs: Vec<(usize, usize)> = Vec::new();
    for job in plan.jobs.iter().filter(|job| job.build.is_none()) {
        let used = used(job).filter_map(|image| group_of(plan, image));
        needs.extend(used.map(|image| (job.group, image)));
    }
    for (group, image) in needs {
        if let Some(group) = plan.groups.get_mut(group)
            && !group.needs.iter().any(|need| need.group == image)
        {
            group.needs.push(image_need(image));
        }
    }
}

fn image_need(group: usize) -> GroupNeed {
    GroupNeed { group, artifacts: false, image: true }
}

/// The names of the images that a job's containers start from.
fn used(job: &PlannedJob) -> impl Iterator<Item = &str> {
    let services = job.services.iter().map(|service| service.image.as_str());
    let steps = job.step_images.iter().flatten().map(String::as_str);
    job.image.as_deref().into_iter().chain(services).chain(steps)
}

/// The group that builds the image of this name.
fn group_of(plan: &Plan, name: &str) -> Option<usize> {
    let builds = |job: &&PlannedJob| {
        let image = job.build.as_ref().and_then(|build| plan.images.get(build.image));
        image.is_some_and(|image| image.name.value == name)
    };
    plan.jobs.iter().find(builds).map(|job| job.group)
}

/// The images that jobs use, and those that these start from.
fn wanted(
    pipeline: &Pipeline,
    plan: &Plan,
    indexes: &HashMap<&str, usize>,
    report: &mut Report,
) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut seen = vec![false; pipeline.images.len()];
    let mut waiting: Vec<usize> =
        plan.jobs.iter().flat_map(used).filter_map(|name| indexes.get(name).copied()).collect();
    // As the file has them, whatever the order of the jobs.
    waiting.sort_unstable_by(|a, b| b.cmp(a));
    while let Some(image) = waiting.pop() {
        let (Some(seen), Some(definition)) = (seen.get_mut(image), pipeline.images.get(image))
        else {
            continue;
        };
        if std::mem::replace(seen, true) {
            continue;
        }
        let from = match &definition.from.value {
            ImageSource::Dockerfile(_) => None,
            ImageSource::Image(template) => render(plan, template, report).inspect(|from| {
                rendered(pipeline, Rendered::Image, from, template, report);
            }),
        };
        waiting.extend(from.as_deref().and_then(|from| indexes.get(from)));
        wanted.push(Wanted { image, from });
    }
    wanted
}

fn render(plan: &Plan, template: &Template, report: &mut Report) -> Option<String> {
    match template.render(&PlanScope { plan, matrix: Value::map([] as [(&str, Value); 0]) }) {
        Ok(value) => value.to_text(),
        Err(error) => {
            report.push(EvaluationError::diagnostic(&error));
            None
        }
    }
}

fn planned(
    pipeline: &Pipeline,
    inputs: &Inputs,
    plan: &Plan,
    (definition, wanted): (&ImageDefinition, &Wanted),
    report: &mut Report,
) -> PlannedJob {
    let source = Arc::new(definition.as_job());
    let allowance = allowance(&source, &pipeline.defaults, inputs, report);
    let mut text = |template: &Template| render(plan, template, report).unwrap_or_default();
    let config = &definition.config;
    let config = PlannedConfig {
        env: config.env.iter().map(|(name, it)| (name.value.clone(), text(it))).collect(),
        labels: config.labels.iter().map(|(name, it)| (name.value.clone(), text(it))).collect(),
        workdir: config.workdir.as_ref().map(&mut text),
        user: config.user.as_ref().map(&mut text),
        entrypoint: config.entrypoint.iter().map(&mut text).collect(),
        cmd: config.cmd.iter().map(&mut text).collect(),
    };
    let dockerfile = match &definition.from.value {
        ImageSource::Image(_) => None,
        ImageSource::Dockerfile(build) => Some(PlannedDockerfile {
            context: build.context.clone(),
            dockerfile: build.dockerfile.clone(),
            target: build.target.clone(),
            args: build.args.iter().map(|(name, it)| (name.value.clone(), text(it))).collect(),
            secrets: build.secrets.iter().map(|secret| secret.name.value.clone()).collect(),
        }),
    };
    let templates = [
        (&config.user, definition.config.user.as_ref(), Rendered::User),
        (&config.workdir, definition.config.workdir.as_ref(), Rendered::Workdir),
    ];
    for (text, template, kind) in templates {
        if let (Some(text), Some(template)) = (text, template) {
            rendered(pipeline, kind, text, template, report);
        }
    }
    let name = &definition.name.value;
    PlannedJob {
        id: format!("image~{name}"),
        name: source.id.value.clone(),
        group: plan.groups.len(),
        matrix: Value::map([] as [(&str, Value); 0]),
        index: 1,
        total: 1,
        image: wanted.from.clone(),
        pull: pipeline.defaults.pull.as_ref().map(|pull| pull.value).unwrap_or_default(),
        from: None,
        limits: allowance.limits,
        network: definition.network.clone().unwrap_or(Network::None),
        workspace: Workspace::None,
        user: None,
        workdir: None,
        shell: None,
        timeout: allowance.timeout.as_ref().map_or(TIMEOUT, |timeout| timeout.value),
        services: Vec::new(),
        step_images: vec![None; source.steps.len()],
        build: Some(PlannedBuild { image: wanted.image, config, dockerfile }),
        source,
    }
}

/// Images are made from each other in a circle.
pub(crate) fn cycle(circle: &[&ImageDefinition]) -> Diagnostic {
    const SHOWN: usize = 8;
    let names: Vec<String> =
        circle.iter().chain(circle.first()).take(SHOWN).map(|image| quoted(&image.name)).collect();
    let message = match circle {
        [image] => format!("the image {} is made from itself", quoted(&image.name)),
        _ => format!("images are made from each other in a circle: {}", names.join(" from ")),
    };
    let mut diagnostic = Diagnostic::error(Code::ImageCycle, message);
    for image in circle.iter().take(SHOWN) {
        diagnostic = diagnostic.at(image.from.span, "from here");
    }
    diagnostic.help("let one of them start from an image of a registry, or from `host`")
}
