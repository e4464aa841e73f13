//! What the caller chose, checked against what the pipeline declares.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    configuration::Allowance,
    diagnostic::{Code, Diagnostic, Report, quoted},
    expr::{Context, Value},
    model::Pipeline,
    suggest::suggestion,
};

/// What a plan depends on beside the pipeline.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Values of parameters by name.
    pub params: BTreeMap<String, String>,
    /// The jobs to run, with all that they need: ids, or names of single jobs of a matrix such as
    /// `test (1, fast)`. Empty for all.
    pub jobs: Vec<String>,
    /// The values of the context `run`.
    pub run: BTreeMap<String, String>,
    /// The values of the context `git`; empty where the project is not under git.
    pub git: BTreeMap<String, String>,
    /// What a job has that does not say; a time-out of 15 minutes where this has none either.
    pub defaults: Allowance,
    /// The most that a job may ask for.
    pub ceilings: Allowance,
    /// How long jobs took before, by id: what takes longest to the end starts first.
    pub expected: BTreeMap<String, Duration>,
}

impl Inputs {
    /// The context `params`.
    pub(super) fn params(&self, pipeline: &Pipeline, report: &mut Report) -> Value {
        for name in self.params.keys() {
            if !pipeline.params.iter().any(|param| param.name.value == *name) {
                let known = pipeline.params.iter().map(|param| param.name.value.as_str());
                report.push(
                    Diagnostic::error(
                        Code::UnknownParameter,
                        format!("the pipeline has no parameter {}", quoted(name)),
                    )
                    .help(
                        suggestion(name, known).unwrap_or_else(|| {
                            "declare it under `params`, or leave it out".to_owned()
                        }),
                    ),
                );
            }
        }
        let mut values = Vec::new();
        for param in &pipeline.params {
            let name = &param.name.value;
            let Some(given) = self.params.get(name) else {
                match &param.default {
                    Some(default) => values.push((name.clone(), default.value.clone())),
                    None => report.push(
                        Diagnostic::error(
                            Code::MissingParameter,
                            format!("the parameter {} has no value", quoted(name)),
                        )
                        .at(param.name.span, "declared here without a `default`")
                        .help(format!("give one: `--param {name}=VALUE`")),
                    ),
                }
                continue;
            };
            let options: Vec<String> =
                param.options.iter().filter_map(|option| option.to_text()).collect();
            if !options.is_empty() && !options.contains(given) {
                let help = suggestion(given, options.iter().map(String::as_str))
                    .unwrap_or_else(|| format!("the options are `{}`", options.join("`, `")));
                let message =
                    format!("{} is not an option of the parameter {}", quoted(given), quoted(name));
                report.push(
                    Diagnostic::error(Code::BadParameter, message)
                        .at(param.name.span, "declared here")
                        .help(help),
                );
            }
            values.push((name.clone(), Value::text(given.as_str())));
        }
        Value::map(values)
    }

    /// The context `git`; what there is none of is empty, so that `git.tag != ''` asks for a tag.
    pub(super) fn git(&self) -> Value {
        let names = Context::Git.fixed_names().unwrap_or_default();
        let text = |name: &str| self.git.get(name).map_or("", String::as_str).to_owned();
        Value::map(names.iter().map(|name| (*name, Value::text(text(name)))))
    }
}

/// A context of texts.
pub(super) fn context(texts: &BTreeMap<String, String>) -> Value {
    Value::map(texts.iter().map(|(name, text)| (name.as_str(), Value::text(text.as_str()))))
}
