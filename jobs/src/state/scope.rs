//! What expressions see while the run goes on.

use std::borrow::Cow;

use super::{Conclusion, run::Run};
use crate::expr::{Context, Scope, Status, Value};

/// The contexts of one job, at one point of its life.
pub(super) struct RunScope<'r> {
    pub(super) run: &'r Run,
    pub(super) job: usize,
    /// The environment up to here.
    pub(super) env: Vec<(String, Value)>,
    pub(super) status: Status,
}

impl Scope for RunScope<'_> {
    fn context(&self, context: Context) -> Cow<'_, Value> {
        let plan = &self.run.plan;
        match context {
            Context::Env => Cow::Owned(Value::map(self.env.iter().cloned())),
            Context::Params => Cow::Borrowed(&plan.params),
            Context::Run => Cow::Borrowed(&plan.run),
            Context::Git => Cow::Borrowed(&plan.git),
            Context::Matrix => plan
                .jobs
                .get(self.job)
                .map_or(Cow::Owned(Value::NULL), |job| Cow::Borrowed(&job.matrix)),
            Context::Secrets => Cow::Owned(self.secrets()),
            Context::Needs => Cow::Owned(self.needs()),
            Context::Steps => Cow::Owned(self.steps()),
            Context::Job => Cow::Owned(self.job()),
        }
    }

    fn status(&self) -> Status {
        self.status
    }

    fn hash(&self, globs: &[String]) -> Result<String, String> {
        self.run.settings.hashes.get(globs).cloned().ok_or_else(|| {
            "the digest of these files was not made ready; write the globs as plain text".to_owned()
        })
    }
}

impl RunScope<'_> {
    fn secrets(&self) -> Value {
        let declared = self.run.plan.secrets.iter();
        Value::map(declared.filter_map(|name| {
            let value = self.run.settings.secrets.get(name)?;
            Some((name.as_str(), Value::secret(value.as_str())))
        }))
    }

    fn needs(&self) -> Value {
        let plan = &self.run.plan;
        let group = plan.jobs.get(self.job).and_then(|job| plan.group(job.group));
        let needs = group.into_iter().flat_map(|group| &group.needs).filter(|need| !need.image);
        Value::map(needs.filter_map(|need| {
            let group = plan.group(need.group)?;
            let result = self.run.groups.get(need.group)?.result?;
            // Jobs of a matrix share their names of outputs: the last that says something wins.
            let mut outputs: Vec<(String, Value)> = Vec::new();
            for job in self.run.jobs.get(group.jobs.clone()).into_iter().flatten() {
                for (name, value) in &job.outputs {
                    set(&mut outputs, name, value.clone());
                }
            }
            let result = Value::text(result.as_str());
            let need = Value::map([("result", result), ("outputs", Value::map(outputs))]);
            Some((group.id.as_str(), need))
        }))
    }

    fn steps(&self) -> Value {
        let records = self.run.jobs.get(self.job).into_iter();
        let records = records.flat_map(|job| job.steps.iter().chain(&job.cleanup));
        let word = |conclusion: Option<Conclusion>| {
            conclusion.map_or(Value::NULL, |conclusion| Value::text(conclusion.as_str()))
        };
        Value::map(records.filter_map(|record| {
            let id = record.id.as_deref()?;
            record.outcome?;
            let outputs = Value::map(record.outputs.iter().cloned());
            let step = [
                ("outcome", word(record.outcome)),
                ("conclusion", word(record.conclusion)),
                ("outputs", outputs),
            ];
            Some((id, Value::map(step)))
        }))
    }

    fn job(&self) -> Value {
        let plan = &self.run.plan;
        let (Some(job), Some(state)) = (plan.jobs.get(self.job), self.run.jobs.get(self.job))
        else {
            return Value::NULL;
        };
        let number = |value: u32| Value::plain(crate::expr::Data::Number(value.into()));
        let status =
            state.verdict.as_ref().map_or(Conclusion::Passed, |(conclusion, _)| *conclusion);
        Value::map([
            ("id", Value::text(job.source.id.as_str())),
            ("name", Value::text(job.name.as_str())),
            ("status", Value::text(status.as_str())),
            ("attempt", number(state.attempt.max(1))),
            ("index", number(job.index)),
            ("total", number(job.total)),
        ])
    }
}

/// Sets a name to a value, in place of an earlier one.
pub(super) fn set(entries: &mut Vec<(String, Value)>, name: &str, value: Value) {
    match entries.iter_mut().find(|(has, _)| has == name) {
        Some((_, has)) => *has = value,
        None => entries.push((name.to_owned(), value)),
    }
}
