//! A script of events and what a run makes of it, as text.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of tests may panic as tests do"
)]

use std::{fmt::Write as _, sync::Arc};

use cofferdam_jobs::{
    Inputs, Sources, parse, plan,
    plan::Plan,
    state::{
        Action, End, Event, Fault, Kept, Limit, Part, ResolvedCommand, Run, Settings, StepEnd,
        StepRef, Stop, Timer,
    },
};

/// The plan of a pipeline that has no faults.
pub(crate) fn planned(yaml: &str) -> Arc<Plan> {
    let mut sources = Sources::new();
    let file = sources.add("a.yml", yaml.as_bytes());
    let parsed = parse(&sources, file);
    assert!(!parsed.has_errors(), "{:#?}", parsed.diagnostics);
    Arc::new(plan(&parsed.pipeline.unwrap(), &Inputs::default()).unwrap())
}

/// Settings with a secret.
pub(crate) fn settings() -> Settings {
    Settings {
        secrets: [("TOKEN".to_owned(), "s3cr3t-value".to_owned())].into(),
        ..Settings::default()
    }
}

fn index(plan: &Plan, id: &str) -> usize {
    plan.jobs.iter().position(|job| job.id == id).unwrap_or_else(|| panic!("no job {id}"))
}

/// `0` is the first step, `c0` the first cleanup step.
fn step(text: &str) -> StepRef {
    match text.strip_prefix('c') {
        Some(index) => StepRef { part: Part::Cleanup, index: index.parse().unwrap() },
        None => StepRef { part: Part::Steps, index: text.parse().unwrap() },
    }
}

/// `up JOB`, `down JOB`, `end JOB STEP CODE [NAME=OUTPUT…]`, `oom JOB STEP`, `broken JOB STEP`,
/// `sealed JOB [MEMORY]`, `kept JOB MEMORY`, `ready JOB STEP`, `timeout JOB [STEP]`, `cleanup-timeout JOB`, `retry JOB`, `nostart JOB`,
/// `lost JOB`, `missing JOB`, `cancel`, `kill`.
fn event(run: &Run, text: &str) -> Event {
    let words: Vec<&str> = text.split(' ').collect();
    let job = words.get(1).map(|id| index(run.plan(), id)).unwrap_or_default();
    let attempt = run.job(job).unwrap().attempt;
    let end = |end: End| StepEnd::new(end);
    let message = || "a sentence".to_owned();
    match words.as_slice() {
        ["up", _] => Event::JobStarted { job },
        ["down", _] => Event::JobFinished { job, fault: None, kept: Kept::default() },
        ["kept", _, memory] => {
            let kept = Kept { memory: memory.parse().unwrap(), disk: 0 };
            Event::JobFinished { job, fault: None, kept }
        }
        ["missing", _] => {
            let fault = Some((Fault::Pipeline, message()));
            Event::JobFinished { job, fault, kept: Kept::default() }
        }
        ["sealed", _, memory] => {
            let kept = Kept { memory: memory.parse().unwrap(), disk: 0 };
            Event::JobSealed { job, sealed: Ok(kept) }
        }
        ["sealed", _] => Event::JobSealed { job, sealed: Ok(Kept::default()) },
        ["unsealed", _] => Event::JobSealed { job, sealed: Err((Fault::System, message())) },
        ["service", _] => Event::ServiceEnded { job, message: message() },
        ["nostart", _] => Event::JobStartFailed { job, fault: Fault::Pipeline, message: message() },
        ["lost", _] => Event::JobStartFailed { job, fault: Fault::System, message: message() },
        ["end", _, at, code, outputs @ ..] => {
            let mut end = end(End::Exit(code.parse().unwrap()));
            let pair = |output: &&str| {
                let (name, value) = output.split_once('=').unwrap();
                (name.to_owned(), value.to_owned())
            };
            end.outputs = outputs.iter().map(pair).collect();
            end.env.clone_from(&end.outputs);
            Event::StepEnded { job, step: step(at), end }
        }
        ["oom", _, at] => {
            Event::StepEnded { job, step: step(at), end: end(End::Limit(Limit::Memory)) }
        }
        ["broken", _, at] => Event::StepEnded { job, step: step(at), end: end(End::System) },
        ["ready", _, at] => Event::StepReady { job, step: step(at), ready: Ok(()) },
        ["unready", _, at] => Event::StepReady { job, step: step(at), ready: Err(message()) },
        ["timeout", _] => Event::TimerFired(Timer::Job { job, attempt }),
        ["timeout", _, at] => Event::TimerFired(Timer::Step { job, attempt, step: step(at) }),
        ["cleanup-timeout", _] => Event::TimerFired(Timer::Cleanup { job, attempt }),
        ["retry", _] => Event::TimerFired(Timer::Retry { job, attempt }),
        ["cancel"] => Event::CancelRequested,
        ["kill"] => Event::KillRequested,
        _ => panic!("no event {text}"),
    }
}

fn show(plan: &Plan, action: &Action) -> String {
    let name = |job: &usize| plan.jobs[*job].id.clone();
    let at = |step: &StepRef| match step.part {
        Part::Steps => step.index.to_string(),
        Part::Cleanup => format!("c{}", step.index),
    };
    let timer = |timer: &Timer| match timer {
        Timer::Job { job, .. } => format!("job {}", name(job)),
        Timer::Step { job, step, .. } => format!("step {} {}", name(job), at(step)),
        Timer::Cleanup { job, .. } => format!("cleanup {}", name(job)),
        Timer::Retry { job, .. } => format!("retry {}", name(job)),
    };
    match action {
        Action::StartJob(start) => {
            let mut text = format!("start {} attempt {}", name(&start.job), start.attempt);
            for cache in &start.caches {
                let _ = write!(text, " cache {}", cache.key);
            }
            for service in &start.services {
                let _ = write!(text, " service {} {:?}", service.name, service.env);
            }
            if let Some(from) = &start.from {
                let _ = write!(text, " from {}", name(&from.job));
                let _ = from.step.map(|step| write!(text, " after {step}"));
            }
            if start.keep {
                text.push_str(" kept");
            }
            for job in &start.artifacts_of {
                let _ = write!(text, " artifacts of {}", name(job));
            }
            text
        }
        Action::StartStep { job, step, resolved } => {
            let command = match &resolved.command {
                ResolvedCommand::Script { shell, text } => format!("{}: {text}", shell.join(" ")),
                ResolvedCommand::Exec(words) => format!("exec {words:?}"),
            };
            let env = if resolved.env.is_empty() {
                String::new()
            } else {
                format!(" {:?}", resolved.env)
            };
            let files = resolved.secret_files.iter();
            let files: String = files.map(|file| format!(" secret file {}", file.name)).collect();
            format!("step {} {} {command}{env}{files}", name(job), at(step))
        }
        Action::StopStep { job, step, stop, reason } => {
            let how = if *stop == Stop::Now { "kill" } else { "stop" };
            format!("{how} {} {} {reason:?}", name(job), at(step))
        }
        Action::AbortStart { job } => format!("abort {}", name(job)),
        Action::SealJob { job, step, network } => {
            let mut text = format!("seal {}", name(job));
            let _ = step.map(|step| write!(text, " after {step}"));
            let _ = network.map(|step| write!(text, " with the network of {}", at(&step)));
            text
        }
        Action::DropStates { job } => format!("drop states of {}", name(job)),
        Action::ArmTimer { timer: which, after } => format!("arm {} {after:?}", timer(which)),
        Action::DisarmTimer(which) => format!("disarm {}", timer(which)),
        Action::FinishJob { job, collect, .. } => {
            let mut text = format!("finish {}", name(job));
            for artifacts in &collect.artifacts {
                let _ = write!(
                    text,
                    " artifacts {:?} optional {}",
                    artifacts.paths, artifacts.optional
                );
            }
            for glob in &collect.junit {
                let _ = write!(text, " junit {glob}");
            }
            for cache in &collect.caches {
                let _ = write!(text, " cache {}", cache.key);
            }
            text
        }
        Action::JobEnded { job, conclusion } => format!("ended {} {conclusion}", name(job)),
        Action::RunEnded { conclusion } => format!("run {conclusion}"),
    }
}

/// What a script of events does to a run, and how its jobs stand at the end.
pub(crate) fn transcript(yaml: &str, settings: Settings, script: &str) -> String {
    let plan = planned(yaml);
    let mut run = Run::new(Arc::clone(&plan), settings).unwrap();
    let mut out = String::from("> begin\n");
    let mut write = |title: Option<&str>, actions: &[Action]| {
        if let Some(title) = title {
            let _ = writeln!(out, "> {title}");
        }
        for action in actions {
            let _ = writeln!(out, "  {}", show(&plan, action));
        }
    };
    write(None, &run.start());
    for line in script.split(';').map(str::trim).filter(|line| !line.is_empty()) {
        let event = event(&run, line);
        let actions = run.handle(event);
        write(Some(line), &actions);
    }
    for job in run.jobs() {
        let _ = write!(out, "{}: ", job.planned.id);
        match (job.conclusion, job.reason) {
            (Some(conclusion), Some(reason)) => {
                let _ = write!(out, "{conclusion}, {reason}");
            }
            _ => {
                let _ = write!(out, "{:?} {:?}", job.phase, job.waiting);
            }
        }
        if job.allowed {
            out.push_str(", allowed");
        }
        if job.is_flaky() {
            out.push_str(", flaky");
        }
        out.push('\n');
    }
    out
}

/// Cases: a name, a pipeline, and what happens.
macro_rules! check {
    ($($name:ident: $yaml:expr, $script:expr;)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!($crate::transcript::transcript(
                $yaml,
                $crate::transcript::settings(),
                $script
            ));
        }
    )*};
}
pub(crate) use check;
