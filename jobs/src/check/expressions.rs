//! What expressions look up: that it is there, and there in time.

use std::collections::{HashMap, HashSet};

use super::Checker;
use crate::{
    diagnostic::{Code, Diagnostic, Report, quoted},
    expr::{Context, Data, Expr, ExprKind, Function, Segment, Template},
    model::{
        ImageSource, Job,
        visit::{At, Place, expressions, step, values},
    },
    source::Span,
    suggest::suggestion,
};

/// The contexts that the place of an expression has.
fn contexts(place: Place) -> &'static [Context] {
    match place {
        Place::Plan => &[Context::Params, Context::Matrix, Context::Run, Context::Git],
        Place::JobIf => &[
            Context::Params,
            Context::Matrix,
            Context::Needs,
            Context::Job,
            Context::Run,
            Context::Git,
        ],
        Place::JobEnv => &[
            Context::Env,
            Context::Params,
            Context::Matrix,
            Context::Needs,
            Context::Job,
            Context::Secrets,
            Context::Run,
            Context::Git,
        ],
        Place::Cache => &[
            Context::Env,
            Context::Params,
            Context::Matrix,
            Context::Needs,
            Context::Job,
            Context::Run,
            Context::Git,
        ],
        Place::StepIf(_) | Place::StepEnv(_) | Place::Command(_) | Place::Step(_) => &Context::ALL,
        Place::JobEnd => &[
            Context::Env,
            Context::Params,
            Context::Matrix,
            Context::Needs,
            Context::Steps,
            Context::Job,
            Context::Run,
            Context::Git,
        ],
    }
}

impl Checker<'_> {
    pub(super) fn expressions(&mut self) {
        let pipeline = self.pipeline;
        for template in values(&pipeline.env) {
            for expr in template.expressions() {
                self.top_level(
                    expr,
                    &[Context::Env, Context::Params, Context::Secrets, Context::Run, Context::Git],
                );
            }
        }
        let defaults = &pipeline.defaults;
        for template in [&defaults.user, &defaults.workdir, &defaults.image].into_iter().flatten() {
            for expr in template.expressions() {
                // Which matrix it is depends on the job, so its names are not looked at.
                self.top_level(
                    expr,
                    &[Context::Params, Context::Matrix, Context::Run, Context::Git],
                );
            }
        }
        for image in &pipeline.images {
            let mut found = Vec::new();
            for (index, each) in image.steps.iter().enumerate() {
                step(At { cleanup: false, index }, each, &mut |_, expr| found.push(expr.clone()));
            }
            for expr in &found {
                self.top_level(expr, &[Context::Env, Context::Params]);
            }
            let config = &image.config;
            let texts = values(&config.env).chain(values(&config.labels));
            let texts = texts.chain(&config.workdir).chain(&config.user);
            let texts = texts.chain(&config.entrypoint).chain(&config.cmd);
            let from: Vec<&Template> = match &image.from.value {
                ImageSource::Image(template) => vec![template],
                ImageSource::Dockerfile(build) => values(&build.args).collect(),
            };
            for expr in texts.chain(from).flat_map(Template::expressions) {
                self.top_level(expr, &[Context::Params, Context::Run, Context::Git]);
            }
        }
        for job in &pipeline.jobs {
            let names = JobNames::of(job);
            expressions(job, &mut |place, expr| {
                if !self.report.is_full() {
                    self.expression(job, &names, place, expr);
                }
            });
            self.injections(job);
        }
    }

    fn top_level(&mut self, expr: &Expr, allowed: &[Context]) {
        for (context, segments, span) in lookups(expr) {
            if !self.has_context(context, allowed, span) {
                continue;
            }
            match context {
                Context::Params => self.param(&segments),
                Context::Secrets => self.secret(&segments, span),
                Context::Run | Context::Git => self.fixed(context, &segments),
                _ => {}
            }
        }
        self.functions(expr, false, false);
    }

    fn expression(&mut self, job: &Job, names: &JobNames<'_>, place: Place, expr: &Expr) {
        let condition = matches!(place, Place::JobIf | Place::StepIf(_));
        self.functions(expr, condition, place != Place::Plan);
        self.never_cancelled(place, expr);
        for (context, segments, span) in lookups(expr) {
            if !self.has_context(context, contexts(place), span) {
                continue;
            }
            match context {
                Context::Params => self.param(&segments),
                Context::Matrix => self.matrix_value(job, names, &segments, span),
                Context::Needs => self.need(names, &segments),
                Context::Steps => self.step(names, place, &segments),
                Context::Job | Context::Run | Context::Git => self.fixed(context, &segments),
                Context::Secrets => match place {
                    Place::Command(_) | Place::Step(_) => self.readable_secret(&segments, span),
                    _ => self.secret(&segments, span),
                },
                Context::Env => {}
            }
        }
    }

    fn has_context(&mut self, context: Context, allowed: &[Context], span: Span) -> bool {
        if allowed.contains(&context) {
            return true;
        }
        let names: Vec<&str> = allowed.iter().map(|context| context.as_str()).collect();
        self.report.push(
            Diagnostic::error(
                Code::UnknownContext,
                format!("the context `{}` has no values here", context.as_str()),
            )
            .at(span, "")
            .help(format!("here there are `{}`", names.join("`, `"))),
        );
        false
    }

    /// Functions that have a meaning only in some places.
    fn functions(&mut self, expr: &Expr, condition: bool, hash: bool) {
        expr.walk(&mut |each| {
            let ExprKind::Call { function, arguments } = &each.kind else { return };
            let name = function.as_str();
            if function.is_status() && !condition {
                self.report.push(
                    Diagnostic::error(
                        Code::StatusOutsideIf,
                        format!("`{name}()` can be asked in `if` only"),
                    )
                    .at(each.span, "")
                    .help("use `job.status`, or `needs.JOB.result`"),
                );
            }
            if *function == Function::Hash {
                let literal = |argument: &Expr| {
                    matches!(&argument.kind, ExprKind::Literal(value) if value.as_text().is_some())
                };
                let (fault, help) = if !hash {
                    ("`hash()` has no value before the job starts", "use it in `cache`, `env` or a step")
                } else if !arguments.iter().all(literal) {
                    ("`hash()` takes globs as plain text", "write the globs in single quotes")
                } else {
                    return;
                };
                let diagnostic = Diagnostic::error(Code::WrongArguments, fault);
                self.report.push(diagnostic.at(each.span, "").help(help));
            }
        });
    }

    /// A cancelled run begins nothing but cleanup, so only there can an `if` ask for it.
    fn never_cancelled(&mut self, place: Place, expr: &Expr) {
        let (what, help) = match place {
            Place::JobIf => {
                ("job", "give `cleanup` to the jobs that may be cancelled: its steps run then, too")
            }
            Place::StepIf(At { cleanup: false, .. }) => {
                ("step", "make it a step of `cleanup`: these run after a cancel, too")
            }
            _ => return,
        };
        if let Some(span) = takes_cancelled(expr) {
            self.report.push(
                Diagnostic::warning(
                    Code::ConditionNever,
                    format!("this {what} never runs: a cancelled run starts no further {what}"),
                )
                .at(span, "never true here")
                .help(help),
            );
        }
    }

    fn param(&mut self, segments: &[Segment]) {
        known(
            self.report,
            segments,
            0,
            "the pipeline has no parameter",
            &self.params,
            "declare it under `params`",
        );
    }

    fn matrix_value(&mut self, job: &Job, names: &JobNames<'_>, segments: &[Segment], span: Span) {
        if job.matrix.is_none() {
            self.report.push(
                Diagnostic::error(
                    Code::UnknownProperty,
                    format!("the job {} has no matrix", quoted(&job.id)),
                )
                .at(span, "")
                .help("add `matrix`, or use `job.index` and `job.total` with `parallel`"),
            );
            return;
        }
        known(
            self.report,
            segments,
            0,
            "the matrix has no value",
            &names.matrix,
            "add an axis of this name",
        );
    }

    fn need(&mut self, names: &JobNames<'_>, segments: &[Segment]) {
        let Some(first) = segments.first() else { return };
        let Some(name) = first.name() else { return };
        if !names.needs.contains(name) {
            let help = if self.jobs.contains_key(name) {
                format!("add it to the needs of this job: `needs: [{name}]`")
            } else {
                suggestion(name, names.needs.iter().copied())
                    .unwrap_or_else(|| "name a job that is in `needs`".to_owned())
            };
            let message = format!("{} is not among the needs of this job", quoted(name));
            self.report.push(
                Diagnostic::error(Code::UnknownProperty, message).at(first.span(), "").help(help),
            );
            return;
        }
        let parts = HashSet::from(["result", "outputs"]);
        known(self.report, segments, 1, "a need has no value", &parts, "");
        if segments.get(1).and_then(Segment::name) == Some("outputs")
            && let Some(outputs) = self.outputs.get(name)
        {
            let help = format!("declare it under `outputs` of {}", quoted(name));
            known(self.report, segments, 2, "the job has no output", outputs, &help);
        }
    }

    fn step(&mut self, names: &JobNames<'_>, place: Place, segments: &[Segment]) {
        let here = match place {
            Place::StepIf(at) | Place::StepEnv(at) | Place::Command(at) | Place::Step(at) => at,
            _ => At { cleanup: true, index: 0 },
        };
        let before = |at: &At| (at.cleanup, at.index) < (here.cleanup, here.index);
        let Some(first) = segments.first() else { return };
        let Some(name) = first.name() else { return };
        let found = names.steps.get(name);
        if !found.is_some_and(before) {
            let (message, help) = if found.is_some() {
                (format!("the step {} does not come before this", quoted(name)), None)
            } else {
                let ids = names.steps.iter().filter(|(_, at)| before(at)).map(|(id, _)| *id);
                (
                    format!("no step before this has the id {}", quoted(name)),
                    suggestion(name, ids)
                        .or_else(|| Some(format!("give an earlier step `id: {name}`"))),
                )
            };
            self.report.push(
                Diagnostic::error(Code::UnknownStep, message).at(first.span(), "").maybe_help(help),
            );
            return;
        }
        let parts = HashSet::from(["outcome", "conclusion", "outputs"]);
        known(self.report, segments, 1, "a step has no value", &parts, "");
    }

    fn fixed(&mut self, context: Context, segments: &[Segment]) {
        let names = context.fixed_names().unwrap_or_default().iter().copied().collect();
        let message = format!("`{}` has no value", context.as_str());
        known(self.report, segments, 0, &message, &names, "");
    }

    /// Secrets are asked for one by one, so that it can be seen which are used.
    fn secret(&mut self, segments: &[Segment], span: Span) {
        let Some(first) = segments.first() else {
            self.report.push(
                Diagnostic::error(Code::UnknownProperty, "`secrets` as a whole has no value")
                    .at(span, "")
                    .help("name one: `secrets.NAME`"),
            );
            return;
        };
        match first.name() {
            Some(name) => {
                if !self.secrets.contains(name) {
                    self.undeclared_secret(name, first.span());
                }
            }
            None => self.report.push(
                Diagnostic::error(Code::UnknownProperty, "a secret is named by plain text")
                    .at(first.span(), "")
                    .help("write `secrets.NAME`"),
            ),
        }
    }

    fn readable_secret(&mut self, segments: &[Segment], span: Span) {
        let name = segments.first().and_then(Segment::name).unwrap_or("NAME");
        self.report.push(
            Diagnostic::error(Code::SecretInCommand, "a secret would be readable here")
                .at(span, "")
                .help(format!(
                    "hand it over as a variable: `env: {{ {name}: \"${{{{ secrets.{name} }}}}\" }}`, \
                     and write `\"${name}\"`"
                )),
        );
    }
}

/// Where an expression asks for `cancelled()`, if it cannot hold without.
fn takes_cancelled(expr: &Expr) -> Option<Span> {
    match &expr.kind {
        ExprKind::Call { function: Function::Cancelled, .. } => Some(expr.span),
        ExprKind::All(all) => all.iter().find_map(takes_cancelled),
        ExprKind::Any(any) => {
            let spans: Option<Vec<Span>> = any.iter().map(takes_cancelled).collect();
            spans?.first().copied()
        }
        _ => None,
    }
}

/// Reports the name at `depth` if it is not among the known ones.
fn known(
    report: &mut Report,
    segments: &[Segment],
    depth: usize,
    what: &str,
    known: &HashSet<&str>,
    help: &str,
) {
    let Some(segment) = segments.get(depth) else { return };
    let Some(name) = segment.name().filter(|name| !known.contains(name)) else { return };
    let help = suggestion(name, known.iter().copied()).or_else(|| {
        let mut names: Vec<&str> = known.iter().copied().collect();
        names.sort_unstable();
        match (help, names.as_slice()) {
            ("", []) => None,
            ("", names) => Some(format!("there are `{}`", names.join("`, `"))),
            _ => Some(help.to_owned()),
        }
    });
    report.push(
        Diagnostic::error(Code::UnknownProperty, format!("{what} {}", quoted(name)))
            .at(segment.span(), "")
            .maybe_help(help),
    );
}

/// The names that expressions of one job can look up, found once for all of them.
struct JobNames<'m> {
    matrix: HashSet<&'m str>,
    needs: HashSet<&'m str>,
    /// The first step of each id.
    steps: HashMap<&'m str, At>,
}

impl<'m> JobNames<'m> {
    fn of(job: &'m Job) -> Self {
        let mut matrix = HashSet::new();
        if let Some(each) = &job.matrix {
            matrix.extend(each.axes.iter().map(|(axis, _)| axis.as_str()));
            for include in &each.include {
                if let Data::Map(entries) = &include.value.data {
                    matrix.extend(entries.iter().map(|(name, _)| name.as_str()));
                }
            }
        }
        let from = job.from.iter().map(|from| from.job.as_str());
        let needs = job.needs.iter().map(|need| need.job.as_str()).chain(from).collect();
        let mut steps = HashMap::new();
        for (cleanup, list) in [(false, &job.steps), (true, &job.cleanup)] {
            for (index, step) in list.iter().enumerate() {
                if let Some(id) = &step.id {
                    steps.entry(id.as_str()).or_insert(At { cleanup, index });
                }
            }
        }
        Self { matrix, needs, steps }
    }
}

/// Everything that an expression looks up.
fn lookups(expr: &Expr) -> Vec<(Context, Vec<Segment>, Span)> {
    let mut found = Vec::new();
    let mut inside = Vec::new();
    expr.walk(&mut |each| {
        // The base of a chain is visited after the chain, and is no lookup of its own.
        if inside.contains(&std::ptr::from_ref(each)) {
            return;
        }
        if let ExprKind::Access { base, .. } = &each.kind {
            inside.push(std::ptr::from_ref(base.as_ref()));
        }
        if let Some((context, segments)) = each.path() {
            found.push((context, segments.to_vec(), each.span));
        }
    });
    found
}
