//! A step of a job.

use std::time::Duration;

use super::{Env, Limits, Network, Ready, SecretUse};
use crate::{
    expr::{Condition, Part, Template},
    source::{Span, Spanned},
};

/// One command within a job's container.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What `steps.ID` calls it.
    pub id: Option<Spanned<String>>,
    /// What people call it.
    pub name: Option<Template>,
    /// What it does.
    pub command: Command,
    /// Whether it runs.
    pub condition: Option<Condition>,
    /// Environment of its own.
    pub env: Env,
    /// The secrets that it sees beside the job's.
    pub secrets: Vec<SecretUse>,
    /// Where it starts.
    pub workdir: Option<Template>,
    /// What runs `run`.
    pub shell: Option<Spanned<String>>,
    /// Who its processes are.
    pub user: Option<Template>,
    /// Its wall time.
    pub timeout: Option<Spanned<Duration>>,
    /// The image that it runs in, on the same workspace and network.
    pub image: Option<Template>,
    /// What it may use, within what the job may.
    pub limits: Limits,
    /// What it can reach.
    pub network: Option<Network>,
    /// Whether it stays up while later steps run.
    pub background: Option<Spanned<bool>>,
    /// When a background step is up.
    pub ready: Option<Ready>,
    /// Whether its failure does not fail the job.
    pub continue_on_error: Option<Spanned<bool>>,
    /// Where it is written.
    pub span: Span,
}

impl Step {
    /// What people call it before it runs: its name, its id, or how its script begins; `index` is
    /// its place in its list.
    pub fn label(&self, index: usize) -> String {
        if let Some(name) = &self.name {
            return written(name);
        }
        if let Some(id) = &self.id {
            return id.value.clone();
        }
        let template = match &self.command {
            Command::Run(script) => Some(script),
            Command::Exec(words) => words.first(),
        };
        first_line(&template.map(written).unwrap_or_default(), index)
    }
}

/// A template as it is written.
fn written(template: &Template) -> String {
    let part = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Expr(_, text) => format!("${{{{ {text} }}}}"),
    };
    template.parts().iter().map(part).collect()
}

/// How a script begins, for a step that has no name.
pub(crate) fn first_line(text: &str, index: usize) -> String {
    const MAX: usize = 60;
    match text.trim().lines().next().filter(|line| !line.is_empty()) {
        Some(line) if line.chars().count() <= MAX => line.to_owned(),
        Some(line) => line.chars().take(MAX).chain(['…']).collect(),
        None => format!("step {}", index + 1),
    }
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A script for the shell.
    Run(Template),
    /// A program and its arguments, without a shell.
    Exec(Vec<Template>),
}
