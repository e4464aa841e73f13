//! Why jobs and steps run or not: from the plan before a run, from the record after it.

use std::fmt::Write as _;

use cofferdam_jobs::{
    Plan, Sources,
    model::{AllowFailure, Command, Job, RetryCause, Step, quantity::written_duration},
    plan::PlannedJob,
};

use super::{
    forecast,
    plan::{needs, network, starts_from, workspace},
    quantity::{Bytes, Elapsed},
    record::{AttemptRecord, CacheRecord, Conclusion, JobRecord, RunRecord},
    style::one_line,
};
use crate::{build::Forecast, execute::forecast::Forecasts};

/// Explains what a run will do with `jobs`.
pub(crate) fn before(
    plan: &Plan,
    sources: &Sources,
    jobs: &[&PlannedJob],
    forecasts: &Forecasts,
) -> String {
    let mut text = String::new();
    for job in jobs {
        if !text.is_empty() {
            text.push('\n');
        }
        let forecasts = forecasts.get(&job.id).map(Vec::as_slice).unwrap_or_default();
        planned(plan, sources, job, forecasts, &mut text);
    }
    text
}

fn line(text: &mut String, line: &str) {
    // Writing into a string cannot fail.
    let _ = writeln!(text, "{line}");
}

fn planned(
    plan: &Plan,
    sources: &Sources,
    job: &PlannedJob,
    forecasts: &[Forecast],
    text: &mut String,
) {
    let source: &Job = &job.source;
    line(text, &format!("job {}", one_line(&job.name)));
    let needed = needs(plan, job);
    let rule = match (&source.condition, needed.as_slice()) {
        _ if job.build.is_some() => match needed.as_slice() {
            [] => "when a job is to run that uses it".to_owned(),
            images => format!("when a job is to run that uses it, after {}", images.join(", ")),
        },
        (Some(condition), _) => {
            let written = sources.text(condition.expr().span).trim();
            let implied = if condition.asks_status() { "" } else { ", and all it needs passed" };
            format!("when its `if` holds: `{}`{implied}", one_line(written))
        }
        (None, []) => "at once: it needs no other job".to_owned(),
        (None, needed) => format!("when all it needs passed: {}", needed.join(", ")),
    };
    line(text, &format!("  runs {rule}"));
    if source.condition.is_some() && !needed.is_empty() {
        line(text, &format!("  after {}", needed.join(", ")));
    }
    let why = match (&job.from, &source.image, &job.image) {
        _ if job.dockerfile().is_some() => "its `build`",
        _ if job.build.is_some() => "its `from`",
        (Some(_), ..) => "its `from`",
        (None, Some(_), _) => "its `image`",
        (None, None, Some(_)) => "`defaults`",
        (None, None, None) => "built in: nothing names an image",
    };
    line(text, &format!("  starts from {} ({why})", one_line(&starts_from(plan, job))));
    if job.matrix.to_json() != serde_json::json!({}) {
        line(text, &format!("  matrix {}", job.matrix.to_json()));
    } else if job.total > 1 {
        line(text, &format!("  copy {} of {}", job.index, job.total));
    }
    let limits = &job.limits;
    let memory = limits.memory.as_ref().map(|it| Bytes(it.value).to_string());
    let disk = limits.disk.as_ref().map(|it| Bytes(it.value).to_string());
    let said = |own: bool| if own { "its own" } else { "from the defaults" };
    if let (Some(memory), Some(disk)) = (memory, disk) {
        let (own_memory, own_disk) =
            (said(source.limits.memory.is_some()), said(source.limits.disk.is_some()));
        line(text, &format!("  limits: memory {memory} ({own_memory}), disk {disk} ({own_disk})"));
    }
    let own = said(source.timeout.is_some());
    line(text, &format!("  may take {} ({own})", written_duration(job.timeout)));
    line(
        text,
        &format!("  network {}, workspace {}", network(&job.network), workspace(job.workspace)),
    );
    for service in &job.services {
        line(text, &format!("  service {} from {}", service.name, one_line(&service.image)));
    }
    for cache in &source.cache {
        let key = one_line(sources.text(cache.key.span));
        line(text, &format!("  restores the cache {key}, and keeps it when the job passed"));
    }
    if let Some(retry) = &source.retry {
        let on: Vec<String> = retry.on.iter().map(cause).collect();
        let times = if retry.max == 1 { "once".to_owned() } else { format!("{} times", retry.max) };
        line(text, &format!("  tried again {times} on {}", on.join(", ")));
    }
    match &source.allow_failure {
        AllowFailure::Never => {}
        AllowFailure::Always => line(text, "  may fail without failing the run"),
        AllowFailure::Codes(codes) => {
            let codes: Vec<String> = codes.iter().map(ToString::to_string).collect();
            line(text, &format!("  may fail with exit code {}", codes.join(", ")));
        }
    }
    steps(sources, job, "step", forecasts, text);
    steps(sources, job, "cleanup", &[], text);
}

fn steps(
    sources: &Sources,
    job: &PlannedJob,
    what: &str,
    forecasts: &[Forecast],
    text: &mut String,
) {
    let steps: &[Step] = match what {
        "cleanup" => &job.source.cleanup,
        _ => &job.source.steps,
    };
    for (index, step) in steps.iter().enumerate() {
        let rule = match (&step.condition, what) {
            (Some(condition), _) => {
                let written = one_line(sources.text(condition.expr().span).trim());
                format!("when `{written}`")
            }
            (None, "cleanup") => "however the job ended".to_owned(),
            (None, _) if index == 0 => "first".to_owned(),
            (None, _) => "when the steps before passed".to_owned(),
        };
        let kind = match &step.command {
            Command::Run(_) => "",
            // What its instructions are run with, they say.
            Command::Exec(_) if job.dockerfile().is_some() && index == 0 => "",
            Command::Exec(_) => ", without a shell",
        };
        let background = step.background.as_ref().is_some_and(|it| it.value);
        let background = if background { ", stays up in the background" } else { "" };
        let label = one_line(&step.label(index));
        line(text, &format!("  {what} {}: {label}: {rule}{kind}{background}", index + 1));
        if let Some(forecast) = forecasts.get(index) {
            for said in forecast::lines(forecast) {
                line(text, &format!("    {said}"));
            }
        }
    }
}

fn cause(cause: &RetryCause) -> String {
    match cause {
        RetryCause::System => "a fault of the system".to_owned(),
        RetryCause::Timeout => "a timeout".to_owned(),
        RetryCause::Memory => "a kill for memory".to_owned(),
        RetryCause::Failure => "any failure".to_owned(),
        RetryCause::Exit(code) => format!("exit code {code}"),
    }
}

/// Explains what a run has done with `jobs`.
pub(crate) fn after(run: &RunRecord, jobs: &[&JobRecord]) -> String {
    let mut text = String::new();
    let ended = run.conclusion.map_or("has not ended", Conclusion::word);
    line(&mut text, &format!("run {}: {ended}", run.id));
    for job in jobs {
        line(&mut text, "");
        let why = job.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let name = one_line(&job.name);
        line(&mut text, &format!("job {name} {}{why}", job.conclusion.word()));
        if let Some(rule) = &job.rule {
            line(&mut text, &format!("  ran: {}", one_line(rule)));
        }
        if job.failure_allowed {
            line(&mut text, "  its failure does not fail the run: `allow-failure`");
        }
        if job.flaky {
            line(&mut text, "  it is flaky: it passed only when it was tried again");
        }
        for (number, attempt) in (1..).zip(&job.attempts) {
            tried(number, job.attempts.len(), attempt, &mut text);
        }
    }
    text
}

fn tried(number: usize, of: usize, attempt: &AttemptRecord, text: &mut String) {
    if of > 1 {
        let why = attempt.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        line(text, &format!("  try {number} {}{why}", attempt.conclusion.word()));
    }
    if let Some(retry) = &attempt.retry {
        line(text, &format!("  {retry}"));
    }
    for cache in &attempt.caches {
        line(text, &format!("  cache {}", cached(cache)));
    }
    for service in &attempt.services {
        let ended = match (service.exit_code, service.signal) {
            (Some(code), _) => format!("ended by itself with exit code {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "stayed up".to_owned(),
        };
        line(text, &format!("  service {} {ended}", one_line(&service.name)));
    }
    for (index, step) in (1..).zip(&attempt.steps) {
        let took = step.usage.as_ref().map(|usage| {
            let wall = std::time::Duration::from_millis(usage.wall_ms);
            format!(" after {}", Elapsed(wall))
        });
        let took = took.unwrap_or_default();
        // The name is there already.
        let own = format!("step `{}`: ", step.name);
        let why = step.why.as_ref().map(|why| why.strip_prefix(&own).unwrap_or(why));
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let name = one_line(&step.name);
        line(text, &format!("  step {index} {name} {}{took}{why}", step.conclusion.word()));
        if let Some(rule) = &step.rule {
            line(text, &format!("    ran: {}", one_line(rule)));
        }
        if let Some(layer) = &step.layer {
            line(text, &format!("    {}", one_line(layer)));
        }
    }
}

fn cached(cache: &CacheRecord) -> String {
    let key = one_line(&cache.key);
    let found = match &cache.restored {
        Some(restored) if *restored == cache.key => "hit: it was there".to_owned(),
        Some(restored) => format!(
            "missed; `{}` was restored, which begins like one of `restore`",
            one_line(restored)
        ),
        None => "missed: there was nothing of this key, nor of `restore`".to_owned(),
    };
    let kept = cache.saved.map(|bytes| format!("; {} kept under this key", Bytes(bytes)));
    let why = cache.why.as_ref().map(|why| format!("; {}", one_line(why)));
    format!("`{key}`: {found}{}{}", kept.unwrap_or_default(), why.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use cofferdam_jobs::{Inputs, parse, plan};

    use super::{super::record::samples, *};

    #[test]
    fn a_plan_is_explained() {
        let yaml = "\
defaults: { image: 'debian:12' }
jobs:
  a: { steps: [{ run: x }], timeout: 1m, limits: { memory: 1GiB, disk: 2GiB } }
  b:
    needs: a
    if: \"${{ params.x == '1' }}\"
    matrix: { m: [1] }
    services: { db: { image: postgres } }
    cache: [{ key: \"k-${{ hash('lock') }}\", paths: [p] }]
    retry: { max: 2, on: [system, 'exit:3'] }
    allow-failure: [4, 5]
    steps: [{ exec: [x, y] }, { name: \"two ${{ matrix.m }}\", run: y, if: failure() }, { run: s, background: true }]
    cleanup: [{ run: z }]
  c: { from: a, steps: [{ run: x }] }
params: { x: { default: 1 } }
";
        let mut sources = Sources::new();
        let id = sources.add("a.yml", yaml.as_bytes());
        let pipeline = parse(&sources, id).pipeline.unwrap();
        let plan = plan(&pipeline, &Inputs::default()).unwrap();
        let jobs: Vec<&PlannedJob> = plan.jobs.iter().collect();
        insta::assert_snapshot!(before(&plan, &sources, &jobs, &Forecasts::new()));
    }

    #[test]
    fn images_are_explained() {
        let (plan, sources, forecasts) = forecast::sample();
        let jobs: Vec<&PlannedJob> = plan.jobs.iter().filter(|job| job.build.is_some()).collect();
        let explained = before(&plan, &sources, &jobs, &forecasts);
        let said: Vec<&str> = explained.lines().filter(|line| line.starts_with("    ")).collect();
        insta::assert_snapshot!(said.join("\n"), @"
        kept from an earlier build
        will be run: the script, the variable `A` are not as before
        will be run, after step 2
        not known: nobody knows
        ");
    }

    #[test]
    fn a_run_is_explained() {
        let mut run = samples::run();
        if let Some(attempt) = run.jobs.first_mut().and_then(|job| job.attempts.first_mut()) {
            let cache = |key: &str, restored: Option<&str>, saved, why: Option<&str>| CacheRecord {
                key: key.to_owned(),
                restored: restored.map(str::to_owned),
                saved,
                why: why.map(str::to_owned),
            };
            attempt.caches = vec![
                cache("a", Some("a"), None, None),
                cache("ab", Some("a"), Some(2048), None),
                cache("c", None, None, Some("there is more than may be kept")),
            ];
        }
        let jobs: Vec<&JobRecord> = run.jobs.iter().collect();
        insta::assert_snapshot!(after(&run, &jobs));
    }
}
