//! Names: what they may be made of, and that none is given twice.

use std::collections::HashMap;

use super::Checker;
use crate::{
    diagnostic::{Code, Diagnostic, quoted},
    model::{Env, ImageSource, Job, SecretUse, Step},
    source::{Span, Spanned},
};

/// The longest name.
const MAX_NAME: usize = 64;
/// Variables that begin so are set by the runner.
const RESERVED: &str = "COFFERDAM";

/// What a name is for decides what it may be made of.
#[derive(Clone, Copy)]
enum Kind {
    /// Part of file names and of reports.
    Name,
    /// Looked up in expressions as `context.name`.
    Property,
    /// An environment variable.
    Variable,
    /// A host name.
    Host,
}

impl Kind {
    fn fits(self, name: &str) -> bool {
        let mut bytes = name.bytes();
        let Some(first) = bytes.next() else { return false };
        let rest = |allowed: fn(u8) -> bool| name.bytes().skip(1).all(allowed);
        match self {
            Self::Name => {
                (first.is_ascii_alphanumeric() || first == b'_')
                    && rest(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
            }
            Self::Property => {
                (first.is_ascii_alphabetic() || first == b'_')
                    && rest(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
            }
            Self::Variable => {
                (first.is_ascii_alphabetic() || first == b'_')
                    && rest(|b| b.is_ascii_alphanumeric() || b == b'_')
            }
            Self::Host => {
                first.is_ascii_lowercase()
                    && rest(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                    && !name.ends_with('-')
            }
        }
    }

    fn rule(self) -> &'static str {
        match self {
            Self::Name => "letters, digits, `.`, `_` and `-`, the first a letter, a digit or `_`",
            Self::Property => "letters, digits, `_` and `-`, the first a letter or `_`",
            Self::Variable => "letters, digits and `_`, the first a letter or `_`",
            Self::Host => "lower-case letters, digits and `-`, the first a letter",
        }
    }
}

impl Checker<'_> {
    pub(super) fn names(&mut self) {
        let pipeline = self.pipeline;
        self.env(&pipeline.env);
        self.unique(&pipeline.secrets, "secret");
        for secret in &pipeline.secrets {
            self.variable(secret, "secret");
            self.overridden(secret, None);
        }
        for param in &pipeline.params {
            self.name(&param.name, "parameter", Kind::Property);
        }
        for image in &pipeline.images {
            self.name(&image.name, "image", Kind::Name);
            self.env(&image.config.env);
            if let ImageSource::Dockerfile(build) = &image.from.value {
                for (name, _) in &build.args {
                    self.variable(name, "variable");
                }
            }
            self.steps(&image.steps, &mut HashMap::new());
        }
        for job in &pipeline.jobs {
            if self.report.is_full() {
                return;
            }
            self.job_names(job);
        }
    }

    fn job_names(&mut self, job: &Job) {
        self.name(&job.id, "job", Kind::Name);
        self.env(&job.env);
        self.secret_uses(&job.secrets);
        for (name, _) in &job.outputs {
            self.name(name, "output", Kind::Property);
        }
        for service in &job.services {
            self.name(&service.name, "service", Kind::Host);
            self.env(&service.env);
        }
        for (axis, _) in job.matrix.iter().flat_map(|matrix| &matrix.axes) {
            self.name(axis, "axis", Kind::Property);
        }
        let mut ids = HashMap::new();
        self.steps(&job.steps, &mut ids);
        self.steps(&job.cleanup, &mut ids);
    }

    fn steps<'m>(&mut self, steps: &'m [Step], ids: &mut HashMap<&'m str, Span>) {
        for step in steps {
            self.env(&step.env);
            self.secret_uses(&step.secrets);
            let Some(id) = &step.id else { continue };
            self.name(id, "step", Kind::Property);
            match ids.get(id.as_str()) {
                Some(first) => self.twice(id, *first, "step id"),
                None => {
                    ids.insert(id.as_str(), id.span);
                }
            }
        }
    }

    pub(super) fn secret_uses(&mut self, uses: &[SecretUse]) {
        let names: Vec<Spanned<String>> = uses.iter().map(|secret| secret.name.clone()).collect();
        self.unique(&names, "secret");
        for name in &names {
            if !self.secrets.contains(name.as_str()) && !self.report.is_full() {
                self.undeclared_secret(&name.value, name.span);
            }
        }
    }

    pub(super) fn undeclared_secret(&mut self, name: &str, span: Span) {
        let declared = self.pipeline.secrets.iter().map(|secret| secret.value.as_str());
        let help = crate::suggest::suggestion(name, declared)
            .unwrap_or_else(|| format!("declare it at the top: `secrets: [{name}]`"));
        self.report.push(
            Diagnostic::error(
                Code::UnknownSecret,
                format!("the pipeline declares no secret {}", quoted(name)),
            )
            .at(span, "")
            .help(help),
        );
    }

    fn env(&mut self, env: &Env) {
        for (name, value) in env {
            self.variable(name, "variable");
            self.overridden(name, value.as_literal());
        }
    }

    /// Of a variable that has the same value in every step, whatever the pipeline says.
    fn overridden(&mut self, name: &Spanned<String>, value: Option<&str>) {
        if name.value != "CI" || value == Some("true") {
            return;
        }
        let message = "the variable `CI` is set by Cofferdam itself, to `true`";
        self.report.push(
            Diagnostic::warning(Code::ReservedVariable, message)
                .at(name.span, "this has no effect")
                .help("remove it; where a program must not see it, write `env -u CI PROGRAM`"),
        );
    }

    fn variable(&mut self, name: &Spanned<String>, what: &str) {
        self.name(name, what, Kind::Variable);
        if name.starts_with(RESERVED) {
            self.report.push(
                Diagnostic::error(
                    Code::BadName,
                    format!("the {what} {} is set by Cofferdam itself", quoted(name)),
                )
                .at(name.span, "")
                .help(format!("choose a name that does not begin with `{RESERVED}`")),
            );
        }
    }

    fn name(&mut self, name: &Spanned<String>, what: &str, kind: Kind) {
        if name.len() <= MAX_NAME && kind.fits(name) {
            return;
        }
        let message = if name.is_empty() {
            format!("the {what} has no name")
        } else {
            format!("the {what} {} has a name that is not allowed", quoted(name))
        };
        self.report.push(
            Diagnostic::error(Code::BadName, message)
                .at(name.span, foreign(name))
                .help(format!("use at most {MAX_NAME} {}", kind.rule())),
        );
    }

    /// Reports all but the first of names that are the same.
    pub(super) fn unique(&mut self, names: &[Spanned<String>], what: &str) {
        let mut seen: HashMap<&str, Span> = HashMap::new();
        for name in names {
            match seen.get(name.as_str()) {
                Some(first) => self.twice(name, *first, what),
                None => {
                    seen.insert(name.as_str(), name.span);
                }
            }
        }
    }

    fn twice(&mut self, name: &Spanned<String>, first: Span, what: &str) {
        self.report.push(
            Diagnostic::error(
                Code::DuplicateName,
                format!("the {what} {} is given twice", quoted(name)),
            )
            .at(name.span, "the second time")
            .at(first, "the first time")
            .help("remove one of them"),
        );
    }
}

/// Names the first character that only looks like one that is allowed, if there is one.
fn foreign(name: &str) -> String {
    let first = name.chars().find(|each| !each.is_ascii() && each.is_alphanumeric());
    first.map_or_else(String::new, |each| {
        format!(
            "{} is U+{:04X}, not an ASCII character",
            quoted(&each.to_string()),
            u32::from(each)
        )
    })
}
