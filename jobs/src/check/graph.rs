//! What jobs need and start from.

use super::Checker;
use crate::{
    diagnostic::{Code, Diagnostic, quoted},
    graph::Graph,
    model::{FromJob, Job},
    plan::{needs, needs_cycle},
    source::Spanned,
    suggest::suggestion,
};

impl Checker<'_> {
    pub(super) fn graph(&mut self) {
        let pipeline = self.pipeline;
        for job in &pipeline.jobs {
            let names: Vec<Spanned<String>> =
                job.needs.iter().map(|need| need.job.clone()).collect();
            self.unique(&names, "need");
            for name in &names {
                self.job_exists(name);
            }
            if let Some(from) = &job.from {
                self.from(from);
            }
        }
        let graph = Graph::new(pipeline.jobs.iter().map(|job| needs(job, &self.jobs)).collect());
        if let Err(circle) = graph.order() {
            self.report.push(needs_cycle(pipeline, &circle));
        }
    }

    fn job_exists(&mut self, name: &Spanned<String>) -> bool {
        // With `include`, the job may be in another file.
        if self.jobs.contains_key(name.as_str())
            || !self.pipeline.include.is_empty()
            || self.report.is_full()
        {
            return true;
        }
        let known = self.pipeline.jobs.iter().map(|job| job.id.as_str());
        self.report.push(
            Diagnostic::error(Code::UnknownJob, format!("there is no job {}", quoted(name)))
                .at(name.span, "")
                .maybe_help(suggestion(name, known)),
        );
        false
    }

    fn from(&mut self, from: &FromJob) {
        if !self.job_exists(&from.job) {
            return;
        }
        let Some(parent) = self.pipeline.job(&from.job) else { return };
        if parent.matrix.is_some() || parent.parallel.is_some() {
            self.report.push(
                Diagnostic::error(
                    Code::Conflict,
                    format!("{} is several jobs, and a job starts from one", quoted(&parent.id)),
                )
                .at(from.job.span, "")
                .at(parent.id.span, "the jobs")
                .help("start from a job without `matrix` and `parallel`"),
            );
        }
        if let Some(step) = &from.step
            && self.step_exists(parent, step)
        {
            self.nothing_stays_up(parent, step);
        }
    }

    /// The state after a step is that of a container in which nothing runs any more.
    fn nothing_stays_up(&mut self, parent: &Job, name: &Spanned<String>) {
        let at = parent
            .steps
            .iter()
            .position(|step| step.id.as_ref().is_some_and(|id| id.value == name.value));
        let up_to = parent.steps.get(..=at.unwrap_or_default()).unwrap_or_default();
        for background in up_to.iter().filter_map(|step| step.background.as_ref()) {
            if background.value {
                self.report.push(
                    Diagnostic::error(
                        Code::Conflict,
                        format!("a step in the background is still up after {}", quoted(name)),
                    )
                    .at(name.span, "a job starts from the state after this step")
                    .at(background.span, "this step stays up")
                    .help("start from the job's end, or start the step later"),
                );
            }
        }
    }

    fn step_exists(&mut self, parent: &Job, name: &Spanned<String>) -> bool {
        let ids = || parent.steps.iter().filter_map(|step| step.id.as_ref());
        if ids().any(|id| id.value == name.value) {
            return true;
        }
        let message = format!("the job {} has no step {}", quoted(&parent.id), quoted(name));
        let help = suggestion(name, ids().map(|id| id.as_str()))
            .unwrap_or_else(|| "give the step an `id`, and write it after the `@`".to_owned());
        self.report
            .push(Diagnostic::error(Code::UnknownStep, message).at(name.span, "").help(help));
        false
    }
}
