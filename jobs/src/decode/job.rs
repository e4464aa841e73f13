//! Jobs.

use std::time::Duration;

use super::{
    decoder::{Decoder, Fields},
    pipeline::WORKSPACES,
};
use crate::{
    diagnostic::quoted,
    model::{AllowFailure, FromJob, Job, Need, PullPolicy, Retry, RetryCause},
    source::Spanned,
    yaml::{Kind, Node, Scalar, resolve},
};

pub(super) const JOB: &[&str] = &[
    "name",
    "image",
    "pull",
    "from",
    "needs",
    "if",
    "matrix",
    "parallel",
    "max-parallel",
    "fail-fast",
    "env",
    "secrets",
    "limits",
    "network",
    "services",
    "workspace",
    "user",
    "workdir",
    "shell",
    "steps",
    "cleanup",
    "outputs",
    "cache",
    "artifacts",
    "results",
    "timeout",
    "retry",
    "allow-failure",
];
pub(super) const NEED: &[&str] = &["job", "artifacts"];
pub(super) const RETRY: &[&str] = &["max", "on", "backoff"];
const CAUSES: &[&str] = &["system", "timeout", "memory", "failure", "exit:N"];

/// How long is waited before a second try where the pipeline does not say.
const BACKOFF: Duration = Duration::from_secs(1);
/// The most tries after the first: more hides a fault.
const MAX_RETRIES: i64 = 10;
/// The most copies that `parallel` makes.
const MAX_PARALLEL: u32 = 256;

impl<'t> Decoder<'t> {
    pub(super) fn job(&mut self, id: Spanned<String>, node: &'t Node<'t>) -> Option<Job> {
        let fields = self.fields(node, "a job", JOB)?;
        let job = Job {
            name: fields.get("name").and_then(|node| self.template(node)),
            image: fields.get("image").and_then(|node| self.template(node)),
            pull: fields.get("pull").and_then(|node| self.choice(node, PullPolicy::WORDS)),
            from: fields.get("from").and_then(|node| self.forked(node)),
            needs: fields.get("needs").map(|node| self.needs(node)).unwrap_or_default(),
            condition: fields.get("if").and_then(|node| self.condition(node)),
            matrix: fields.get("matrix").and_then(|node| self.matrix(node)),
            parallel: fields.get("parallel").and_then(|node| self.positive(node, MAX_PARALLEL)),
            max_parallel: fields.get("max-parallel").and_then(|node| self.positive(node, u32::MAX)),
            fail_fast: fields.get("fail-fast").and_then(|node| self.boolean(node)),
            env: fields.get("env").map(|node| self.env(node)).unwrap_or_default(),
            secrets: fields.get("secrets").map(|node| self.secret_uses(node)).unwrap_or_default(),
            limits: fields.get("limits").map(|node| self.limits(node)).unwrap_or_default(),
            network: fields.get("network").and_then(|node| self.network(node)),
            services: fields.get("services").map(|node| self.services(node)).unwrap_or_default(),
            workspace: fields.get("workspace").and_then(|node| self.choice(node, WORKSPACES)),
            user: fields.get("user").and_then(|node| self.template(node)),
            workdir: fields.get("workdir").and_then(|node| self.template(node)),
            shell: fields.get("shell").and_then(|node| self.nonempty(node, "the shell")),
            steps: fields.get("steps").map(|node| self.steps(node)).unwrap_or_default(),
            cleanup: fields.get("cleanup").map(|node| self.steps(node)).unwrap_or_default(),
            outputs: fields.get("outputs").map(|node| self.env(node)).unwrap_or_default(),
            cache: fields.get("cache").map(|node| self.caches(node)).unwrap_or_default(),
            artifacts: fields.get("artifacts").map(|node| self.artifacts(node)).unwrap_or_default(),
            results: fields.get("results").and_then(|node| self.results(node)),
            timeout: fields.get("timeout").and_then(|node| self.duration(node)),
            retry: fields.get("retry").and_then(|node| self.retry(node)),
            allow_failure: fields
                .get("allow-failure")
                .map(|node| self.allow_failure(node))
                .unwrap_or_default(),
            id,
        };
        self.job_keys(&job, &fields);
        Some(job)
    }

    /// Keys that are needed, and those that exclude each other.
    fn job_keys(&mut self, job: &Job, fields: &Fields<'t>) {
        match fields.get("steps") {
            None if fields.has("steps") => {}
            None => self.missing(job.id.span, "a job", "steps", "add `steps: [{ run: … }]`"),
            Some(node) if matches!(&node.kind, Kind::Sequence(items) if items.is_empty()) => {
                self.bad_value(node.span, "the job has no steps", None);
            }
            Some(_) => {}
        }
        let pairs = [
            (
                "image",
                "from",
                "a job with `from` starts in that job's file system and has no image",
            ),
            (
                "workspace",
                "from",
                "a job with `from` starts in that job's file system, its workspace included",
            ),
            ("matrix", "parallel", "a job has a matrix or copies of itself, not both"),
        ];
        for (first, second, message) in pairs {
            if fields.get(first).is_some() && fields.get(second).is_some() {
                let help = format!("remove `{first}` or `{second}`");
                self.conflict(fields.key_span(first), fields.key_span(second), message, &help);
            }
        }
    }

    fn forked(&mut self, node: &'t Node<'t>) -> Option<FromJob> {
        let text = self.nonempty(node, "the job to start from")?;
        let span = text.span;
        Some(match text.split_once('@') {
            Some((job, step)) => FromJob {
                job: Spanned::new(job.to_owned(), span),
                step: Some(Spanned::new(step.to_owned(), span)),
            },
            None => FromJob { job: text, step: None },
        })
    }

    fn needs(&mut self, node: &'t Node<'t>) -> Vec<Need> {
        let mut needs = Vec::new();
        for item in self.items(node) {
            if !matches!(item.kind, Kind::Mapping(_)) {
                let job = self.nonempty(item, "the name of the job");
                needs.extend(job.map(|job| Need { job, artifacts: false }));
                continue;
            }
            let Some(fields) = self.fields(item, "a need", NEED) else { continue };
            let artifacts = fields.get("artifacts").and_then(|node| self.boolean(node));
            match fields.get("job") {
                Some(node) => {
                    let job = self.nonempty(node, "the name of the job");
                    let artifacts = artifacts.is_some_and(|artifacts| artifacts.value);
                    needs.extend(job.map(|job| Need { job, artifacts }));
                }
                None => self.missing(fields.span, "a need", "job", "write `{ job: NAME }`"),
            }
        }
        needs
    }

    fn retry(&mut self, node: &'t Node<'t>) -> Option<Retry> {
        let fields = self.fields(node, "`retry`", RETRY)?;
        let max = match fields.get("max") {
            Some(node) => self.whole(node, 1, MAX_RETRIES)?.value,
            None => {
                self.missing(fields.span, "`retry`", "max", "say how many times to try again");
                return None;
            }
        };
        let on = match fields.get("on") {
            Some(node) => {
                let items = self.items(node);
                let given = items.len();
                let causes: Vec<_> =
                    items.into_iter().filter_map(|item| self.cause(item)).collect();
                if causes.len() < given {
                    return None;
                }
                causes
            }
            None => vec![
                RetryCause::System,
                RetryCause::Timeout,
                RetryCause::Memory,
                RetryCause::Failure,
            ],
        };
        let backoff = fields.get("backoff").and_then(|node| self.duration(node));
        Some(Retry {
            max: u32::try_from(max).ok()?,
            on,
            backoff: backoff.map_or(BACKOFF, |backoff| backoff.value),
            span: fields.span,
        })
    }

    fn cause(&mut self, node: &'t Node<'t>) -> Option<RetryCause> {
        let text = self.text(node)?;
        match text.value.as_str() {
            "system" => Some(RetryCause::System),
            "timeout" => Some(RetryCause::Timeout),
            "memory" => Some(RetryCause::Memory),
            "failure" => Some(RetryCause::Failure),
            other => {
                let code = other.strip_prefix("exit:").and_then(|code| code.parse::<u8>().ok());
                if code.is_none() {
                    self.unknown_word(&text, CAUSES);
                }
                code.map(|code| RetryCause::Exit(i32::from(code)))
            }
        }
    }

    fn allow_failure(&mut self, node: &'t Node<'t>) -> AllowFailure {
        if let Kind::Scalar { text, plain: true } = &node.kind
            && let Scalar::Bool(allowed) = resolve(text)
        {
            return if allowed { AllowFailure::Always } else { AllowFailure::Never };
        }
        let mut codes = Vec::new();
        for item in self.items(node) {
            let Some(text) = self.text(item) else { continue };
            match text.value.parse::<u8>() {
                Ok(code) if code > 0 => codes.push(i32::from(code)),
                _ => {
                    let message =
                        format!("{} is not an exit code of a failure", quoted(&text.value));
                    let help = "write `true`, or a list of exit codes from 1 to 255";
                    self.bad_value(item.span, message, Some(help.to_owned()));
                }
            }
        }
        AllowFailure::Codes(codes)
    }
}
