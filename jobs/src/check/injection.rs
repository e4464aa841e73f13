//! Values that others control, put into scripts as text.
//!
//! The shell reads the script after the value is in it, so a value such as `$(…)` becomes code. A
//! variable is safe: the shell does not read its value again.

use super::Checker;
use crate::{
    diagnostic::{Code, Diagnostic, quoted},
    expr::{Context, Expr, ExprKind, Function, Segment},
    model::{Command, Job, Step},
};

impl Checker<'_> {
    pub(super) fn injections(&mut self, job: &Job) {
        for step in job.steps.iter().chain(&job.cleanup) {
            if self.report.is_full() {
                return;
            }
            self.step_injections(step);
        }
    }

    fn step_injections(&mut self, step: &Step) {
        // Without a shell an argument stays an argument.
        let Command::Run(script) = &step.command else { return };
        for expr in script.expressions() {
            let mut sources = Vec::new();
            carried(expr, &mut |context, segments| {
                if self.is_foreign(context, segments) {
                    sources.push(written(context, segments));
                }
            });
            let Some(source) = sources.first() else { continue };
            let variable = variable_name(source);
            self.report.push(
                Diagnostic::warning(
                    Code::Injection,
                    format!("the value of {} becomes part of the script", quoted(source)),
                )
                .at(expr.span, "whoever sets it can run commands here")
                .help(format!(
                    "hand it over as a variable: `env: {{ {variable}: \"${{{{ {source} }}}}\" }}`, \
                     and write `\"${variable}\"`"
                )),
            );
        }
    }

    /// Whether someone other than the author of the pipeline decides about a value.
    fn is_foreign(&self, context: Context, segments: &[Segment]) -> bool {
        let name = |depth: usize| segments.get(depth).and_then(Segment::name);
        match context {
            Context::Git => !matches!(name(0), Some("commit")),
            Context::Needs => name(1) != Some("result"),
            // Options are the author's own words.
            Context::Params => !name(0).is_some_and(|name| self.closed_params.contains(name)),
            _ => false,
        }
    }
}

/// Calls `visit` with what the text of an expression's value can be made of.
fn carried(expr: &Expr, visit: &mut dyn FnMut(Context, &[Segment])) {
    if let Some((context, segments)) = expr.path() {
        visit(context, segments);
        return;
    }
    match &expr.kind {
        ExprKind::Access { base, .. } => carried(base, visit),
        ExprKind::All(all) | ExprKind::Any(all) | ExprKind::List(all) => {
            all.iter().for_each(|each| carried(each, visit));
        }
        ExprKind::Call { function, arguments } => match function {
            Function::Format
            | Function::Join
            | Function::FromJson
            | Function::ToJson
            | Function::Default => arguments.iter().for_each(|each| carried(each, visit)),
            // These give a digest, or yes or no.
            _ => {}
        },
        ExprKind::Literal(_) | ExprKind::Context(_) | ExprKind::Not(_) | ExprKind::Compare(..) => {}
    }
}

fn written(context: Context, segments: &[Segment]) -> String {
    let mut text = context.as_str().to_owned();
    for segment in segments {
        match segment {
            Segment::Name(name, _) => {
                text.push('.');
                text.push_str(name);
            }
            Segment::Index(_) => {
                let name = segment.name().unwrap_or("…");
                text.push_str("['");
                text.push_str(name);
                text.push_str("']");
            }
        }
    }
    text
}

/// `needs.build.outputs.version` gives `VERSION`.
fn variable_name(source: &str) -> String {
    let last = source.rsplit('.').next().unwrap_or(source);
    let name: String = last
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        .map(|c| if c == '-' { '_' } else { c.to_ascii_uppercase() })
        .collect();
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) { name } else { "VALUE".to_owned() }
}
