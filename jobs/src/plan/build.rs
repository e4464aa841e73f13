//! From a checked pipeline to a plan.

use std::{borrow::Cow, collections::HashMap, sync::Arc, time::Duration};

use super::{
    Group, GroupNeed, Inputs, Plan, PlannedFrom, PlannedJob, PlannedService,
    expand::{Combination, expand},
    images,
    inputs::context,
};
use crate::{
    check::{climbs, is_image_reference, is_user},
    configuration::Allowance,
    diagnostic::{Code, Diagnostic, Report, Severity, quoted},
    expr::{Context, EvaluationError, Scope, Status, Template, Value},
    graph::Graph,
    model::{Defaults, Job, Limits, Network, Pipeline},
    source::{Span, Spanned},
    suggest::suggestion_or_list,
};

/// The most jobs that one pipeline makes.
const MAX_JOBS: usize = 10_000;
/// Wall time of a job where the pipeline does not say.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How long a job is taken to run that was never seen before.
const EXPECTED: Duration = Duration::from_secs(60);
/// The longest name that people see, in characters.
const MAX_NAME: usize = 120;

/// Expands a pipeline for what the caller chose.
///
/// # Errors
/// All that is wrong with the choice, or with what the pipeline becomes by it.
pub fn plan(pipeline: &Pipeline, inputs: &Inputs) -> Result<Plan, Vec<Diagnostic>> {
    let mut report = Report::new();
    if let Some(path) = pipeline.include.first() {
        // Jobs that are needed may be in there, and without them nothing would wait for them.
        report.push(
            Diagnostic::error(Code::BadInclude, "what this file includes has not been read")
                .at(path.span, "")
                .help("read it together with the files that it includes"),
        );
        return Err(report.finish());
    }
    let mut run = inputs.run.clone();
    run.extend(pipeline.name.as_ref().map(|name| ("pipeline".to_owned(), name.value.clone())));
    let mut plan = Plan {
        name: pipeline.name.as_ref().map(|name| name.value.clone()),
        env: pipeline.env.clone(),
        secrets: pipeline.secrets.iter().map(|name| name.value.clone()).collect(),
        params: inputs.params(pipeline, &mut report),
        run: context(&run),
        git: inputs.git(),
        images: pipeline.images.clone(),
        groups: Vec::new(),
        jobs: Vec::new(),
    };
    if report.errors() > 0 {
        // What is rendered from a parameter without a value would only repeat that fault.
        return Err(report.finish());
    }
    let indexes: HashMap<&str, usize> =
        pipeline.jobs.iter().enumerate().map(|(index, job)| (job.id.as_str(), index)).collect();
    let graph = Graph::new(pipeline.jobs.iter().map(|job| needs(job, &indexes)).collect());
    match graph.order() {
        Ok(order) => {
            let selection = Selection::new(pipeline, inputs, &graph, &mut report);
            groups(pipeline, inputs, &selection, &order, &mut plan, &mut report);
            // Which images are wanted is known when the jobs are; then these come after them.
            if report.errors() == 0 && images::plan_images(pipeline, inputs, &mut plan, &mut report)
            {
                // What there is to tell of the jobs was told.
                let mut told = Report::new();
                groups(pipeline, inputs, &selection, &order, &mut plan, &mut told);
                images::connect(&mut plan);
            }
            weights(&mut plan, inputs);
        }
        Err(circle) => report.push(needs_cycle(pipeline, &circle)),
    }
    if report.errors() > 0 {
        let mut faults = report.finish();
        faults.retain(|fault| fault.severity == Severity::Error);
        return Err(faults);
    }
    Ok(plan)
}

/// The indexes of the jobs that a job needs, `from` included.
pub(crate) fn needs(job: &Job, indexes: &HashMap<&str, usize>) -> Vec<usize> {
    let needs = job.needs.iter().map(|need| &need.job);
    let from = job.from.iter().map(|from| &from.job);
    needs.chain(from).filter_map(|id| indexes.get(id.as_str()).copied()).collect()
}

/// Jobs need each other in a circle.
pub(crate) fn needs_cycle(pipeline: &Pipeline, circle: &[usize]) -> Diagnostic {
    const SHOWN: usize = 8;
    let jobs: Vec<&Job> = circle.iter().filter_map(|index| pipeline.jobs.get(*index)).collect();
    let mut names: Vec<String> = jobs.iter().take(SHOWN).map(|job| quoted(&job.id)).collect();
    names.push(if jobs.len() > SHOWN {
        format!("… {} more", jobs.len() - SHOWN)
    } else {
        names.first().cloned().unwrap_or_default()
    });
    let message = match jobs.as_slice() {
        [job] => format!("the job {} needs itself", quoted(&job.id)),
        _ => format!("jobs need each other in a circle: {}", names.join(" needs ")),
    };
    let mut diagnostic = Diagnostic::error(Code::NeedsCycle, message);
    for (job, next) in jobs.iter().zip(jobs.iter().cycle().skip(1)).take(SHOWN) {
        let need = job.needs.iter().map(|need| &need.job).find(|need| need.value == next.id.value);
        let from = job.from.as_ref().map(|from| &from.job);
        if let Some(need) = need.or(from) {
            diagnostic =
                diagnostic.at(need.span, format!("{} is needed here", quoted(&need.value)));
        }
    }
    diagnostic.help("remove one of these needs")
}

/// Which jobs of the file, and which single jobs of their matrices, are to run.
struct Selection {
    groups: Vec<bool>,
    /// For a group that was chosen only in part: the names that were.
    single: HashMap<usize, Vec<String>>,
}

impl Selection {
    fn new(pipeline: &Pipeline, inputs: &Inputs, graph: &Graph, report: &mut Report) -> Self {
        if inputs.jobs.is_empty() {
            return Self { groups: vec![true; pipeline.jobs.len()], single: HashMap::new() };
        }
        let mut whole = Vec::new();
        let mut single: HashMap<usize, Vec<String>> = HashMap::new();
        for wanted in &inputs.jobs {
            let id = |job: &Job| job.id.value == *wanted;
            let part = |job: &Job| {
                wanted
                    .strip_prefix(job.id.as_str())
                    .is_some_and(|rest| rest.starts_with(" (") || rest.starts_with('~'))
            };
            if let Some(index) = pipeline.jobs.iter().position(id) {
                whole.push(index);
            } else if let Some(index) = pipeline.jobs.iter().position(part) {
                single.entry(index).or_default().push(wanted.clone());
            } else {
                let known = pipeline.jobs.iter().map(|job| job.id.as_str());
                let message = format!("the pipeline has no job {}", quoted(wanted));
                report.push(
                    Diagnostic::error(Code::UnknownJobSelected, message)
                        .help(suggestion_or_list(wanted, known)),
                );
            }
        }
        let groups = graph.closure(whole.iter().chain(single.keys()).copied());
        let needed = graph.closure(whole);
        // What another chosen job needs runs whole, also when only a part of it was chosen.
        single.retain(|index, _| needed.get(*index) != Some(&true));
        Self { groups, single }
    }

    fn takes(&self, index: usize, job: &PlannedJob) -> bool {
        self.single
            .get(&index)
            .is_none_or(|names| names.contains(&job.name) || names.contains(&job.id))
    }
}

fn groups(
    pipeline: &Pipeline,
    inputs: &Inputs,
    selection: &Selection,
    order: &[usize],
    plan: &mut Plan,
    report: &mut Report,
) {
    let mut placed: HashMap<&str, usize> = HashMap::new();
    for index in order {
        let Some(job) = pipeline.jobs.get(*index) else { continue };
        if selection.groups.get(*index) != Some(&true) {
            continue;
        }
        let source = Arc::new(job.clone());
        let group = plan.groups.len();
        let start = plan.jobs.len();
        let allowance = allowance(job, &pipeline.defaults, inputs, report);
        let mut jobs = expand_job(pipeline, plan, &source, (group, allowance), &placed, report);
        jobs.retain(|job| selection.takes(*index, job));
        if jobs.is_empty() && report.errors() == 0 {
            let wanted = inputs.jobs.join("`, `");
            let message = format!("no job of {} is called `{wanted}`", quoted(&job.id));
            report.push(Diagnostic::error(Code::UnknownJobSelected, message).at(job.id.span, ""));
        }
        plan.jobs.append(&mut jobs);
        if plan.jobs.len() > MAX_JOBS {
            let message = format!("the pipeline expands to more than {MAX_JOBS} jobs");
            report
                .push(Diagnostic::error(Code::TooManyJobs, message).at(job.id.span, "passed here"));
            return;
        }
        let mut needs: Vec<GroupNeed> = Vec::new();
        let from = job.from.iter().map(|from| (from.job.as_str(), false));
        for (id, artifacts) in
            job.needs.iter().map(|need| (need.job.as_str(), need.artifacts)).chain(from)
        {
            let Some(group) = placed.get(id).copied() else { continue };
            match needs.iter_mut().find(|need| need.group == group) {
                Some(need) => need.artifacts |= artifacts,
                None => needs.push(GroupNeed { group, artifacts, image: false }),
            }
        }
        let jobs = start..plan.jobs.len();
        let id = job.id.value.clone();
        plan.groups.push(Group { id, source, needs, jobs, weight: Duration::ZERO });
        placed.insert(job.id.as_str(), group);
    }
}

fn expand_job(
    pipeline: &Pipeline,
    plan: &Plan,
    source: &Arc<Job>,
    (group, allowance): (usize, Allowance),
    placed: &HashMap<&str, usize>,
    report: &mut Report,
) -> Vec<PlannedJob> {
    let copies = source.parallel.as_ref().map(|copies| copies.value);
    let combinations = match (&source.matrix, copies) {
        (Some(matrix), _) => expand(matrix, report),
        (None, copies) => vec![Combination::new(); copies.unwrap_or(1) as usize],
    };
    let many = source.matrix.is_some() || copies.is_some();
    let total = u32::try_from(combinations.len()).unwrap_or(u32::MAX);
    let defaults = &pipeline.defaults;
    let from = source.from.as_ref().and_then(|from| {
        let job = plan.group(*placed.get(from.job.as_str())?)?.jobs.start;
        Some(PlannedFrom { job, step: from.step.as_ref().map(|step| step.value.clone()) })
    });
    let network = source.network.clone().or_else(|| defaults.network.clone());
    let workspace = match &from {
        // What it starts in has its workspace already.
        Some(from) => plan.jobs.get(from.job).map(|job| job.workspace),
        None => source.workspace.as_ref().or(defaults.workspace.as_ref()).map(|it| it.value),
    };
    let pull = source.pull.as_ref().or(defaults.pull.as_ref());
    let shell = source.shell.as_ref().or(defaults.shell.as_ref());
    let mut jobs = Vec::with_capacity(combinations.len());
    for (combination, index) in combinations.into_iter().zip(1_u32..) {
        let suffix: Vec<String> = match &source.matrix {
            Some(_) => combination.iter().map(|(_, value)| value.to_string()).collect(),
            None => vec![index.to_string()],
        };
        let scope = PlanScope { plan, matrix: Value::map(combination) };
        let mut render = |template: Option<&Template>| {
            let template = template?;
            match template.render(&scope) {
                Ok(value) => value.to_text(),
                Err(error) => {
                    report.push(EvaluationError::diagnostic(&error));
                    None
                }
            }
        };
        let mut name = render(source.name.as_ref()).unwrap_or_else(|| source.id.value.clone());
        if many && !source.name.as_ref().is_some_and(names_matrix) {
            name = format!("{name} ({})", suffix.join(", "));
        }
        let image = match from {
            Some(_) => None,
            None => render(source.image.as_ref().or(defaults.image.as_ref())),
        };
        let user = render(source.user.as_ref().or(defaults.user.as_ref()));
        let workdir = render(source.workdir.as_ref().or(defaults.workdir.as_ref()));
        let steps = source.steps.iter().chain(&source.cleanup);
        let step_images: Vec<_> = steps.map(|step| render(step.image.as_ref())).collect();
        let services: Vec<_> = source
            .services
            .iter()
            .map(|service| PlannedService {
                name: service.name.value.clone(),
                image: render(Some(&service.image)).unwrap_or_default(),
                limits: service.limits.or(&allowance.limits),
            })
            .collect();
        let id = source.id.value.as_str();
        let templates = [
            (&image, source.image.as_ref().or(defaults.image.as_ref()), Rendered::Image),
            (&user, source.user.as_ref().or(defaults.user.as_ref()), Rendered::User),
            (&workdir, source.workdir.as_ref().or(defaults.workdir.as_ref()), Rendered::Workdir),
        ];
        for (text, template, kind) in templates {
            if let (Some(text), Some(template)) = (text, template) {
                rendered(pipeline, kind, text, template, report);
            }
        }
        let of_steps = source.steps.iter().chain(&source.cleanup).map(|step| step.image.as_ref());
        let of_services = source.services.iter().map(|service| Some(&service.image));
        let texts = step_images.iter().map(|image| image.as_deref());
        let texts = texts.chain(services.iter().map(|service| Some(service.image.as_str())));
        for (text, template) in texts.zip(of_steps.chain(of_services)) {
            if let (Some(text), Some(template)) = (text, template) {
                rendered(pipeline, Rendered::Image, text, template, report);
            }
        }
        jobs.push(PlannedJob {
            id: if many { format!("{id}~{index}") } else { id.to_owned() },
            name: shortened(&name),
            group,
            source: Arc::clone(source),
            matrix: scope.matrix,
            index,
            total,
            image,
            pull: pull.map(|pull| pull.value).unwrap_or_default(),
            from: from.clone(),
            limits: allowance.limits.clone(),
            network: network.clone().unwrap_or(Network::None),
            workspace: workspace.unwrap_or_default(),
            user,
            workdir,
            shell: shell.map(|shell| shell.value.clone()),
            timeout: allowance.timeout.as_ref().map_or(TIMEOUT, |timeout| timeout.value),
            services,
            step_images,
            build: None,
        });
    }
    jobs
}

/// What each job of a group has. Its services and steps are held to the same ceilings.
pub(super) fn allowance(
    job: &Job,
    defaults: &Defaults,
    inputs: &Inputs,
    report: &mut Report,
) -> Allowance {
    let asked = Allowance { limits: job.limits.clone(), timeout: job.timeout.clone() };
    let pipelines =
        Allowance { limits: defaults.limits.clone(), timeout: defaults.timeout.clone() };
    let asked = asked.or(&pipelines);
    let services = job.services.iter().map(|service| &service.limits);
    let steps = job.steps.iter().chain(&job.cleanup).map(|step| &step.limits);
    let inside =
        services.chain(steps).map(|limits| Allowance { limits: limits.clone(), timeout: None });
    for part in std::iter::once(asked.clone()).chain(inside) {
        for excess in part.excesses(&inputs.ceilings) {
            report.push(excess.diagnostic());
        }
    }
    let timeout = Spanned::new(TIMEOUT, Span::default());
    let built_in = Allowance { limits: Limits::default(), timeout: Some(timeout) };
    asked.or(&inputs.defaults).or(&built_in).at_most(&inputs.ceilings)
}

/// What a template that the plan renders has to come to.
#[derive(Clone, Copy)]
pub(super) enum Rendered {
    Image,
    User,
    Workdir,
}

/// Holds rendered text to the rules that plain text is held to when the pipeline is checked.
pub(super) fn rendered(
    pipeline: &Pipeline,
    kind: Rendered,
    text: &str,
    template: &Template,
    report: &mut Report,
) {
    let (fits, what) = match kind {
        Rendered::Image => {
            let own = pipeline.images.iter().any(|image| image.name.value == text);
            (own || is_image_reference(text), "the name of an image")
        }
        Rendered::User => (is_user(text), "a user"),
        Rendered::Workdir => (!climbs(text), "a path without `..`"),
    };
    if !fits {
        let message = format!("{} is not {what}", quoted(text));
        report.push(
            Diagnostic::error(Code::BadValue, message)
                .at(template.span, "this is what it comes to")
                .help("look at the parameters and the values of the matrix that it is made from"),
        );
    }
}

/// Whether a name tells the jobs of a matrix apart by itself.
fn names_matrix(name: &Template) -> bool {
    let mut found = false;
    for expr in name.expressions() {
        expr.walk(&mut |each| found |= matches!(each.path(), Some((Context::Matrix, _))));
    }
    found
}

/// One line of bounded length, because it is shown in tables.
fn shortened(name: &str) -> String {
    let line = name.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = line.take(MAX_NAME + 1).collect();
    if short.chars().count() > MAX_NAME {
        short.pop();
        short.push('…');
    }
    short
}

/// What is known before anything runs.
pub(super) struct PlanScope<'p> {
    pub(super) plan: &'p Plan,
    pub(super) matrix: Value,
}

impl Scope for PlanScope<'_> {
    fn context(&self, context: Context) -> Cow<'_, Value> {
        match context {
            Context::Params => Cow::Borrowed(&self.plan.params),
            Context::Run => Cow::Borrowed(&self.plan.run),
            Context::Git => Cow::Borrowed(&self.plan.git),
            Context::Matrix => Cow::Borrowed(&self.matrix),
            _ => Cow::Owned(Value::NULL),
        }
    }

    fn status(&self) -> Status {
        Status::default()
    }

    fn hash(&self, _globs: &[String]) -> Result<String, String> {
        Err("the files are known only when the job starts".to_owned())
    }
}

/// Sets the critical path of every group, from the last to the first.
fn weights(plan: &mut Plan, inputs: &Inputs) {
    let mut after = vec![Duration::ZERO; plan.groups.len()];
    for index in (0..plan.groups.len()).rev() {
        let Some(group) = plan.groups.get_mut(index) else { continue };
        let own = inputs.expected.get(&group.id).copied().unwrap_or(EXPECTED);
        group.weight = own.saturating_add(after.get(index).copied().unwrap_or_default());
        for need in &group.needs {
            if let Some(longest) = after.get_mut(need.group) {
                *longest = (*longest).max(group.weight);
            }
        }
    }
}
