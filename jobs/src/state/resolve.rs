//! Templates to text, when their time has come.

use std::time::Duration;

use super::{
    Cause, Collect, CollectArtifacts, Conclusion, EnvVar, Phase, ResolvedCache, ResolvedCommand,
    ResolvedReady, ResolvedService, ResolvedStep, SecretFile, StepRef,
    run::Run,
    scope::{RunScope, set},
};
use crate::{
    expr::{EvaluationError, Scope, Status, Template, Value},
    model::{Cache, Command, Ready, SecretForm, SecretUse, Service, When, first_line},
};

/// A secret shorter than this is no sign of itself within another text.
const SHORTEST_SECRET: usize = 4;

/// How long `ready` may take where the pipeline does not say.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long is waited between two tries of `ready` where the pipeline does not say.
const READY_INTERVAL: Duration = Duration::from_millis(200);

/// Why a template has no text that can be used.
#[derive(Debug)]
pub(super) struct Unresolved {
    pub(super) cause: Cause,
    pub(super) message: String,
}

impl From<EvaluationError> for Unresolved {
    fn from(error: EvaluationError) -> Self {
        Self { cause: Cause::Expression, message: error.to_string() }
    }
}

impl Run {
    /// How things stand for a step of a job.
    pub(super) fn step_status(&self, job: usize) -> Status {
        let Some(state) = self.jobs.get(job) else { return Status::default() };
        let verdict = state.verdict.as_ref().map(|(conclusion, _)| *conclusion);
        Status {
            failed: verdict.is_some_and(|conclusion| conclusion != Conclusion::Cancelled),
            incomplete: false,
            cancelled: state.cancelled,
        }
    }

    pub(super) fn scope(&self, job: usize, status: Status) -> RunScope<'_> {
        let env = self.jobs.get(job).map(|state| state.env.clone()).unwrap_or_default();
        RunScope { run: self, job, env, status }
    }

    /// The environment of a job before its first step.
    pub(super) fn job_env(&self, job: usize) -> Result<Vec<(String, Value)>, Unresolved> {
        let mut scope = self.scope(job, Status::default());
        let Some(planned) = self.plan.jobs.get(job) else { return Ok(Vec::new()) };
        scope.env = Vec::new();
        for (name, value) in self.secret_values(&planned.source.secrets, SecretForm::Env) {
            set(&mut scope.env, &name, Value::secret(value));
        }
        // What is kept of an image's steps must not depend on what is said to jobs.
        let all = if planned.build.is_some() { &[] } else { self.plan.env.as_slice() };
        for (name, template) in all.iter().chain(&planned.source.env) {
            let value = template.render(&scope)?;
            set(&mut scope.env, &name.value, value);
        }
        Ok(scope.env)
    }

    /// The declared secrets among `uses` that the caller gave, in one form.
    fn secret_values(&self, uses: &[SecretUse], form: SecretForm) -> Vec<(String, String)> {
        uses.iter()
            .filter(|secret| secret.form == form && self.plan.secrets.contains(&secret.name.value))
            .filter_map(|secret| {
                let value = self.settings.secrets.get(&secret.name.value)?;
                Some((secret.name.value.clone(), value.clone()))
            })
            .collect()
    }

    /// The secrets that a step sees as files: the job's, and its own.
    fn secret_files(&self, job: &[SecretUse], own: &[SecretUse]) -> Vec<SecretFile> {
        let mut files: Vec<SecretFile> = Vec::new();
        for uses in [job, own] {
            for (name, value) in self.secret_values(uses, SecretForm::File) {
                if !files.iter().any(|file| file.name == name) {
                    files.push(SecretFile { name, value });
                }
            }
        }
        files
    }

    /// A text that came out of a job, marked when a secret is in it.
    pub(super) fn outside_text(&self, text: String) -> Value {
        let secret = self
            .settings
            .secrets
            .values()
            .any(|secret| secret.len() >= SHORTEST_SECRET && text.contains(secret.as_str()));
        Value::text(text).tainted(secret)
    }

    pub(super) fn resolve_step(&self, job: usize, at: StepRef) -> Result<ResolvedStep, Unresolved> {
        let missing =
            || Unresolved { cause: Cause::System, message: "the step is gone".to_owned() };
        let planned = self.plan.jobs.get(job).ok_or_else(missing)?;
        let source = &planned.source;
        let steps = match at.part {
            super::Part::Steps => &source.steps,
            super::Part::Cleanup => &source.cleanup,
        };
        let step = steps.get(at.index).ok_or_else(missing)?;
        let mut scope = self.scope(job, self.step_status(job));
        for (name, value) in self.secret_values(&step.secrets, SecretForm::Env) {
            set(&mut scope.env, &name, Value::secret(value));
        }
        // Variables of one step do not see each other: they would in one order only.
        let mut own = Vec::with_capacity(step.env.len());
        for (name, template) in &step.env {
            own.push((name, template.render(&scope)?));
        }
        for (name, value) in own {
            set(&mut scope.env, &name.value, value);
        }
        let shell = step.shell.as_ref().map(|shell| shell.value.as_str());
        let shell = shell.or(planned.shell.as_deref()).unwrap_or("sh");
        let command = resolve_command(&step.command, shell, &scope)?;
        let ready = step.ready.as_ref();
        let ready = ready.map(|ready| resolve_ready(ready, shell, &scope)).transpose()?;
        let optional = |template: Option<&Template>| {
            template.map(|template| open(template, &scope)).transpose()
        };
        let name = match step.name.as_ref() {
            Some(name) => name.render(&scope)?.to_string(),
            None => match (&step.id, &command) {
                (Some(id), _) => id.value.clone(),
                (None, ResolvedCommand::Script { text, .. }) => first_line(text, at.index),
                (None, ResolvedCommand::Exec(words)) => {
                    first_line(words.first().map_or("", String::as_str), at.index)
                }
            },
        };
        Ok(ResolvedStep {
            id: step.id.as_ref().map(|id| id.value.clone()),
            name,
            command,
            workdir: optional(step.workdir.as_ref().or(source.workdir.as_ref()))?
                .or_else(|| planned.workdir.clone()),
            user: optional(step.user.as_ref())?,
            image: planned.step_image(at.part == super::Part::Cleanup, at.index).map(str::to_owned),
            background: at.part == super::Part::Steps
                && step.background.as_ref().is_some_and(|b| b.value),
            ready,
            secret_files: self.secret_files(&source.secrets, &step.secrets),
            env: scope
                .env
                .iter()
                .map(|(name, value)| EnvVar {
                    name: name.clone(),
                    value: value.to_text().unwrap_or_default(),
                    secret: value.secret,
                })
                .collect(),
        })
    }

    /// The steps of an image as they will be run, before anything is: they depend on no other job.
    ///
    /// # Errors
    /// A sentence, where one cannot be told.
    pub fn image_steps(&mut self, job: usize) -> Result<Vec<ResolvedStep>, String> {
        let env = self.job_env(job).map_err(|unresolved| unresolved.message)?;
        let Some(state) = self.jobs.get_mut(job) else { return Ok(Vec::new()) };
        state.env = env;
        let steps = self.plan.jobs.get(job).map_or(0, |job| job.source.steps.len());
        let at = |index| StepRef { part: super::Part::Steps, index };
        (0..steps)
            .map(|index| self.resolve_step(job, at(index)))
            .collect::<Result<_, _>>()
            .map_err(|unresolved| unresolved.message)
    }

    /// The outputs of a job whose steps have ended.
    pub(super) fn job_outputs(&self, job: usize) -> Result<Vec<(String, Value)>, Unresolved> {
        let Some(planned) = self.plan.jobs.get(job) else { return Ok(Vec::new()) };
        let scope = self.scope(job, self.step_status(job));
        let mut outputs = Vec::new();
        for (name, template) in &planned.source.outputs {
            outputs.push((name.value.clone(), template.render(&scope)?));
        }
        Ok(outputs)
    }

    pub(super) fn caches(&self, job: usize) -> Result<Vec<ResolvedCache>, Unresolved> {
        let Some(planned) = self.plan.jobs.get(job) else { return Ok(Vec::new()) };
        let scope = self.scope(job, Status::default());
        planned.source.cache.iter().map(|cache| resolve_cache(cache, &scope)).collect()
    }

    /// The containers beside a job.
    pub(super) fn services(&self, job: usize) -> Result<Vec<ResolvedService>, Unresolved> {
        let Some(planned) = self.plan.jobs.get(job) else { return Ok(Vec::new()) };
        let scope = self.scope(job, Status::default());
        let shell = "sh";
        let resolve = |(index, service): (usize, &Service)| {
            let command = service.command.as_ref();
            let ready = service.ready.as_ref();
            let mut env = Vec::with_capacity(service.env.len());
            for (name, template) in &service.env {
                let value = template.render(&scope)?;
                env.push(EnvVar {
                    name: name.value.clone(),
                    value: value.to_text().unwrap_or_default(),
                    secret: value.secret,
                });
            }
            Ok(ResolvedService {
                index,
                name: service.name.value.clone(),
                command: command.map(|it| resolve_command(it, shell, &scope)).transpose()?,
                env,
                user: service.user.as_ref().map(|user| open(user, &scope)).transpose()?,
                ready: ready.map(|it| resolve_ready(it, shell, &scope)).transpose()?,
            })
        };
        planned.source.services.iter().enumerate().map(resolve).collect()
    }

    /// What is to be collected from a job whose steps have ended.
    pub(super) fn collect(&self, job: usize) -> Result<Collect, Unresolved> {
        let (Some(planned), Some(state)) = (self.plan.jobs.get(job), self.jobs.get(job)) else {
            return Ok(Collect::default());
        };
        debug_assert_eq!(state.phase, Phase::Finishing);
        let source = &planned.source;
        let passed = state.verdict.is_none();
        let scope = self.scope(job, self.step_status(job));
        let mut collect = Collect::default();
        for artifacts in &source.artifacts {
            let wanted = match artifacts.when {
                When::Success => passed,
                When::Failure => !passed,
                When::Always => true,
            };
            if wanted {
                let paths = artifacts
                    .paths
                    .iter()
                    .map(|path| open(path, &scope))
                    .collect::<Result<_, _>>()?;
                // What a job that failed did not come to make is not missing.
                let optional = artifacts.optional || !passed;
                collect.artifacts.push(CollectArtifacts { paths, optional });
            }
        }
        if let Some(results) = &source.results {
            collect.junit = results.junit.iter().map(|glob| glob.value.clone()).collect();
        }
        if passed {
            collect.caches = self.caches(job)?;
        }
        Ok(collect)
    }
}

/// Text that is written where others can read it: a command line, a path, a name.
fn open(template: &Template, scope: &dyn Scope) -> Result<String, Unresolved> {
    let value = template.render(scope)?;
    if value.holds_secret() {
        return Err(Unresolved {
            cause: Cause::Expression,
            message: "a secret would be readable in it; hand it over through `env`".to_owned(),
        });
    }
    Ok(value.to_text().unwrap_or_default())
}

fn resolve_command(
    command: &Command,
    shell: &str,
    scope: &dyn Scope,
) -> Result<ResolvedCommand, Unresolved> {
    Ok(match command {
        Command::Run(script) => {
            ResolvedCommand::Script { shell: shell_words(shell), text: open(script, scope)? }
        }
        Command::Exec(words) => ResolvedCommand::Exec(
            words.iter().map(|word| open(word, scope)).collect::<Result<_, _>>()?,
        ),
    })
}

fn resolve_ready(
    ready: &Ready,
    shell: &str,
    scope: &dyn Scope,
) -> Result<ResolvedReady, Unresolved> {
    Ok(ResolvedReady {
        command: resolve_command(&ready.command, shell, scope)?,
        timeout: ready.timeout.as_ref().map_or(READY_TIMEOUT, |timeout| timeout.value),
        interval: ready.interval.as_ref().map_or(READY_INTERVAL, |interval| interval.value),
    })
}

fn resolve_cache(cache: &Cache, scope: &dyn Scope) -> Result<ResolvedCache, Unresolved> {
    let all = |templates: &[Template]| {
        templates.iter().map(|template| open(template, scope)).collect::<Result<_, _>>()
    };
    Ok(ResolvedCache {
        key: open(&cache.key, scope)?,
        restore: all(&cache.restore)?,
        paths: all(&cache.paths)?,
    })
}

/// The shells that everyone knows stop at the first command that fails.
fn shell_words(shell: &str) -> Vec<String> {
    let words: &[&str] = match shell {
        "sh" => &["sh", "-e"],
        "bash" => &["bash", "-eo", "pipefail"],
        other => return other.split_whitespace().map(str::to_owned).collect(),
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}
