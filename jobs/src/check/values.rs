//! Values that are text to YAML and more than that to us: images, users, paths, globs, matrices.

use std::collections::{HashMap, hash_map::Entry};

use super::{Checker, is_image_reference};
use crate::{
    diagnostic::{Code, Diagnostic, quoted},
    expr::{Data, Template, Value},
    model::{ImageSource, Job, Matrix, Step},
    plan::expand,
    source::{Span, Spanned},
    suggest::suggestion,
};

impl Checker<'_> {
    pub(super) fn values(&mut self) {
        let pipeline = self.pipeline;
        let defaults = &pipeline.defaults;
        self.image(defaults.image.as_ref());
        self.user(defaults.user.as_ref());
        self.workdir(defaults.workdir.as_ref());
        for image in &pipeline.images {
            if let ImageSource::Image(template) = &image.from.value {
                self.image(Some(template));
            }
            self.user(image.config.user.as_ref());
            self.workdir(image.config.workdir.as_ref());
            for step in &image.steps {
                self.user(step.user.as_ref());
                self.workdir(step.workdir.as_ref());
            }
        }
        for job in &pipeline.jobs {
            if self.report.is_full() {
                return;
            }
            self.job_values(job);
        }
    }

    fn job_values(&mut self, job: &Job) {
        self.image(job.image.as_ref());
        self.user(job.user.as_ref());
        self.workdir(job.workdir.as_ref());
        for service in &job.services {
            self.image(Some(&service.image));
            self.user(service.user.as_ref());
        }
        for step in job.steps.iter().chain(&job.cleanup) {
            self.step_values(step);
        }
        for step in &job.cleanup {
            if let Some(background) = step.background.as_ref().filter(|background| background.value)
            {
                self.report.push(
                    Diagnostic::error(
                        Code::Conflict,
                        "a cleanup step cannot stay in the background",
                    )
                    .at(background.span, "")
                    .help("remove `background`: the container goes down after the cleanup"),
                );
            }
        }
        self.step_networks(job);
        for path in job.artifacts.iter().flat_map(|artifacts| &artifacts.paths) {
            self.glob(path.as_literal(), path.span);
        }
        for glob in job.results.iter().flat_map(|results| &results.junit) {
            self.glob(Some(glob.as_str()), glob.span);
        }
        for path in job.cache.iter().flat_map(|cache| &cache.paths) {
            self.no_way_up(path.as_literal(), path.span);
        }
        if let Some(matrix) = &job.matrix {
            self.matrix(matrix);
        }
        if let Some(retry) = job.retry.as_ref().filter(|retry| retry.on.is_empty()) {
            self.report.push(
                Diagnostic::warning(
                    Code::RetryNever,
                    "no cause is listed, so nothing is tried again",
                )
                .at(retry.span, "")
                .help("list causes in `on`, or leave `on` out for all of them"),
            );
        }
    }

    /// A step with a network of its own runs in a container of its own, which goes on where the one
    /// before it ended: nothing can stay up across that.
    fn step_networks(&mut self, job: &Job) {
        let steps = || job.steps.iter().chain(&job.cleanup);
        let Some(step) = steps().find(|step| step.network.is_some()) else { return };
        let background = steps().find_map(|step| step.background.as_ref().filter(|it| it.value));
        let background = background.map(|it| (it.span, "this step stays up"));
        let service = job.services.first().map(|it| (it.name.span, "this is in the job's network"));
        if let Some((span, what)) = background.or(service) {
            self.report.push(
                Diagnostic::error(
                    Code::Conflict,
                    "a step with a `network` of its own has a container of its own, and ends what \
                     stays up",
                )
                .at(step.span, "this step")
                .at(span, what)
                .help("give the job the network, or do this in a job of its own and use `from`"),
            );
        }
    }

    fn step_values(&mut self, step: &Step) {
        self.image(step.image.as_ref());
        self.user(step.user.as_ref());
        self.workdir(step.workdir.as_ref());
        let limits = &step.limits;
        let of_the_job = [
            ("disk", limits.disk.as_ref().map(|it| it.span)),
            ("inodes", limits.inodes.as_ref().map(|it| it.span)),
            ("io", limits.io.as_ref().map(|it| it.span)),
            ("shm", limits.shm.as_ref().map(|it| it.span)),
            ("nofile", limits.nofile.as_ref().map(|it| it.span)),
            ("logs", limits.logs.as_ref().map(|it| it.span)),
        ];
        for (name, span) in of_the_job {
            if let Some(span) = span.filter(|_| step.image.is_none()) {
                self.report.push(
                    Diagnostic::error(
                        Code::Conflict,
                        format!("`{name}` is a limit of the whole job, not of a step"),
                    )
                    .at(span, "")
                    .help("set it for the job; a step can have `cpus`, `memory` and `pids`"),
                );
            }
        }
    }

    fn image(&mut self, image: Option<&Template>) {
        let Some((text, span)) = literal(image) else { return };
        let own = self.pipeline.images.iter().any(|image| image.name.value == text);
        if !own && !is_image_reference(text) {
            self.bad_value(
                span,
                &format!("{} is not the name of an image", quoted(text)),
                "write `NAME`, `NAME:TAG` or `REGISTRY/NAME@sha256:…`, in lower case",
            );
        }
    }

    fn user(&mut self, user: Option<&Template>) {
        let Some((text, span)) = literal(user) else { return };
        if !is_user(text) {
            self.bad_value(
                span,
                &format!("{} is not a user", quoted(text)),
                "write `USER` or `USER:GROUP`, as names or as numbers below 2147483648",
            );
        }
    }

    fn workdir(&mut self, workdir: Option<&Template>) {
        if let Some((text, span)) = literal(workdir) {
            if text.is_empty() {
                self.bad_value(span, "the working directory is empty", "write `.` or leave it out");
            }
            self.no_way_up(Some(text), span);
        }
    }

    fn glob(&mut self, glob: Option<&str>, span: Span) {
        let Some(text) = glob else { return };
        if text.starts_with('/') {
            self.bad_path(text, span, "write it relative to the working directory");
            return;
        }
        self.no_way_up(Some(text), span);
        if let Err(error) = globset::Glob::new(text) {
            self.bad_value(
                span,
                &format!("{} is not a glob: {}", quoted(text), error.kind()),
                "`*` is any text within a name, `**` any directories, `[a-z]` one character",
            );
        }
    }

    /// A path must not climb.
    fn no_way_up(&mut self, path: Option<&str>, span: Span) {
        if let Some(text) = path.filter(|path| climbs(path)) {
            self.bad_path(text, span, "write it without `..`");
        }
    }

    fn bad_path(&mut self, text: &str, span: Span, help: &str) {
        let message = format!("the path {} leaves the place it must stay in", quoted(text));
        self.report.push(Diagnostic::error(Code::BadPath, message).at(span, "").help(help));
    }

    fn bad_value(&mut self, span: Span, message: &str, help: &str) {
        self.report.push(Diagnostic::error(Code::BadValue, message).at(span, "").help(help));
    }

    fn matrix(&mut self, matrix: &Matrix) {
        for (axis, values) in &matrix.axes {
            let mut seen: HashMap<String, Span> = HashMap::new();
            for value in values {
                // `3.1` and `3.10` are the same number and two versions.
                let Some(text) = value.to_text() else { continue };
                match seen.entry(text) {
                    Entry::Vacant(entry) => {
                        entry.insert(value.span);
                    }
                    Entry::Occupied(first) => self.report.push(
                        Diagnostic::error(
                            Code::DuplicateName,
                            format!("the axis {} has a value twice", quoted(axis)),
                        )
                        .at(value.span, "the second time")
                        .at(*first.get(), "the first time")
                        .help("remove one of them"),
                    ),
                }
            }
        }
        for exclude in &matrix.exclude {
            self.known_axes(matrix, exclude);
        }
        expand(matrix, self.report);
    }

    fn known_axes(&mut self, matrix: &Matrix, exclude: &Spanned<Value>) {
        let Data::Map(entries) = &exclude.value.data else { return };
        let axes = || matrix.axes.iter().map(|(axis, _)| axis.as_str());
        for (name, _) in entries {
            if !axes().any(|axis| axis == name) {
                let message = format!("{} is not an axis of this matrix", quoted(name));
                let help = suggestion(name, axes())
                    .unwrap_or_else(|| "`exclude` names values of axes".to_owned());
                self.report.push(
                    Diagnostic::error(Code::UnknownProperty, message)
                        .at(exclude.span, "")
                        .help(help),
                );
            }
        }
    }
}

fn literal(template: Option<&Template>) -> Option<(&str, Span)> {
    let template = template?;
    Some((template.as_literal()?, template.span))
}

/// Whether a path has `..` in it.
pub(crate) fn climbs(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

/// Whether a text is `USER` or `USER:GROUP`.
pub(crate) fn is_user(text: &str) -> bool {
    match text.split_once(':') {
        Some((name, group)) => is_account(name) && is_account(group),
        None => is_account(text),
    }
}

/// A user or group: a name (useradd's rule), or a number that an id map can hold.
fn is_account(text: &str) -> bool {
    const MAX_ID: u32 = 0x7fff_ffff;
    if text.bytes().next().is_some_and(|first| first.is_ascii_digit()) {
        return text.parse::<u32>().is_ok_and(|id| id <= MAX_ID);
    }
    (1..=32).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}
