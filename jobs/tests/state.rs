//! The life of a run: events in, actions out.
//!
//! Each case is a pipeline and a script of events; the snapshot is the transcript, an event and
//! below it the actions that it causes.

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
        Action, Capacity, Conclusion, Demand, Elsewhere, End, Event, Fault, KeepStates, Kept,
        Limit, Part, ResolvedCommand, Resource, Run, Settings, StepEnd, StepRef, Stop, Timer,
        Upcoming, WaitingFor,
    },
};

fn planned(yaml: &str) -> Arc<Plan> {
    let mut sources = Sources::new();
    let file = sources.add("a.yml", yaml.as_bytes());
    let parsed = parse(&sources, file);
    assert!(!parsed.has_errors(), "{:#?}", parsed.diagnostics);
    Arc::new(plan(&parsed.pipeline.unwrap(), &Inputs::default()).unwrap())
}

fn settings() -> Settings {
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
fn transcript(yaml: &str, settings: Settings, script: &str) -> String {
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

macro_rules! check {
    ($($name:ident: $yaml:expr, $script:expr;)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(transcript($yaml, settings(), $script));
        }
    )*};
}

#[test]
fn what_is_kept_takes_room_until_the_last_job_that_starts_from_it_has_ended() {
    let capacity = Capacity { memory: Some(100), ..Capacity::default() };
    let yaml = "defaults: { limits: { memory: 40B } }\njobs: { a: { steps: [{ run: x }] }, b: { from: a, steps: [{ run: x }] }, c: { from: a, limits: { memory: 80B }, if: always(), steps: [{ run: x }] } }";
    let settings = Settings { capacity, ..settings() };
    insta::assert_snapshot!(transcript(
        yaml,
        settings,
        "up a; end a 0 0; kept a 30; up b; end b 0 0; down b"
    ));
}

/// What is kept of a job while it runs has its place from the start, and is not counted twice.
#[test]
fn what_a_job_keeps_on_its_way_is_asked_for() {
    let settings = |memory| {
        let capacity = Capacity { memory: Some(memory), ..Capacity::default() };
        Settings { capacity, ..settings() }
    };
    let yaml = "defaults: { limits: { memory: 40B, disk: 60B } }\njobs: { a: { steps: [{ id: one, run: x }, { run: y }] }, b: { from: a@one, steps: [{ run: x }] }, c: { limits: { memory: 30B }, steps: [{ run: x }] } }";
    // Its memory and once as much, as a container can have no more in memory; then what it was.
    insta::assert_snapshot!(transcript(
        yaml,
        settings(100),
        "up a; end a 0 0; sealed a 25; end a 1 0; kept a 5; up b; end b 0 0; down b; up c; end c 0 0; down c"
    ));
    let exceeds = |yaml: &str, memory| {
        let refused = Run::new(planned(yaml), settings(memory));
        refused.map(drop).map_err(|faults| faults[0].help.concat())
    };
    let kept = "up to 40B of what it writes is kept in memory on its way";
    assert!(exceeds(yaml, 79).unwrap_err().contains(kept));
    assert_eq!(exceeds(yaml, 80), Ok(()));
    // On its own account, for a step with another network and back again; never more than its disk.
    let switched = "defaults: { limits: { memory: 40B, disk: 60B } }\njobs: { a: { steps: [{ run: x, network: full }, { run: y }] } }";
    assert!(exceeds(switched, 99).is_err());
    assert_eq!(exceeds(switched, 100), Ok(()));
    // Where files are on disk, nothing of it is in memory.
    let on_disk = switched.replace("60B", "81B");
    assert_eq!(exceeds(&on_disk, 40), Ok(()));
}

/// A container goes after each step but the last one, whose end is the job's.
#[test]
fn states_of_all_steps_are_kept() {
    let yaml = "images: { i: { from: host, steps: [{ run: x }, { run: y }] } }\n\
                jobs: { a: { image: i, steps: [{ run: one }, { run: two, if: failure() }, { run: three }] }, b: { needs: a, steps: [{ run: x }], cleanup: [{ run: y }] } }";
    let settings = Settings { keep_states: KeepStates::Steps, ..settings() };
    insta::assert_snapshot!(transcript(
        yaml,
        settings,
        "up image~i; end image~i 0 0; end image~i 1 0; down image~i; up a; end a 0 0; sealed a; end a 2 0; kept a 30; up b; end b 0 1; sealed b; end b c0 0; down b"
    ));
}

check! {
    a_failed_image_fails_what_uses_it:
        "env: { A: b }\nimages: { over: { from: tool, steps: [{ run: x }] }, tool: { from: host, steps: [{ run: one }, { run: two, env: { C: d } }] } }\njobs: { a: { image: over, if: always(), steps: [{ run: x }] }, b: { image: tool, if: 'false', steps: [{ run: x }] }, c: { needs: a, steps: [{ run: x }] }, d: { steps: [{ run: '${{ needs }}' }] } }",
        "up image~tool; end image~tool 0 0; end image~tool 1 3; down image~tool; up d; end d 0 0; down d";
    images_of_skipped_jobs_are_not_made:
        "images: { over: { from: tool, steps: [{ run: x }] }, tool: { from: host, steps: [{ run: x }] } }\njobs: { a: { steps: [{ run: x }], outputs: { n: '1' } }, b: { needs: a, if: 'needs.a.outputs.n == 2', image: over, steps: [{ run: x }] }, c: { needs: b, image: tool, if: 'false', steps: [{ run: x }] } }",
        "up a; end a 0 0; down a";
    images_of_jobs_that_run_are_made:
        "images: { over: { from: tool, steps: [{ run: x }] }, tool: { from: host, steps: [{ run: x }] } }\njobs: { a: { steps: [{ run: x }], outputs: { n: '2' } }, b: { needs: a, if: 'needs.a.outputs.n == 2', image: over, steps: [{ run: x }] }, c: { needs: b, image: tool, if: 'false', steps: [{ run: x }] } }",
        "up a; end a 0 0; down a; up image~tool; end image~tool 0 0; down image~tool; up image~over; end image~over 0 0; down image~over; up b; end b 0 0; down b";
    an_image_that_nobody_waits_for_ends_with_a_cancel:
        "images: { tool: { from: host, steps: [{ run: x }] } }\njobs: { a: { steps: [{ run: x }] }, b: { needs: a, if: always(), image: tool, steps: [{ run: x }] } }",
        "up a; cancel; end a 0 143; down a";
    a_made_image_lets_go_of_those_that_wait:
        "images: { tool: { from: host, steps: [{ run: one, network: full }] } }\njobs: { a: { image: tool, steps: [{ run: x }] } }",
        "up image~tool; end image~tool 0 0; down image~tool; up a; end a 0 0; down a";
    one_job_from_start_to_end:
        "jobs: { a: { steps: [{ run: one }, { exec: [two, 'x y'], timeout: 5s }], artifacts: { paths: [out] }, results: { junit: ['*.xml'] } } }",
        "up a; end a 0 0; end a 1 0; down a";
    a_failed_step_skips_the_rest_and_what_needs_it:
        "jobs: { a: { steps: [{ run: one }, { run: two }, { run: three, if: failure() }], artifacts: [{ paths: [x] }, { paths: [core], when: failure }] }, b: { needs: a, steps: [{ run: x }] }, c: { needs: b, steps: [{ run: x }] }, d: { needs: c, if: failure(), steps: [{ run: x }] }, e: { needs: a, if: success(), steps: [{ run: x }] } }",
        "up a; end a 0 3; end a 2 0; down a; up d; end d 0 0; down d";
    an_allowed_failure_is_none:
        "jobs: { a: { allow-failure: [3], steps: [{ run: one }] }, b: { needs: a, steps: [{ run: 'echo ${{ needs.a.result }}' }] } }",
        "up a; end a 0 3; down a; up b; end b 0 0; down b";
    another_code_is_not_allowed:
        "jobs: { a: { allow-failure: [3], steps: [{ run: one }] } }",
        "up a; end a 0 4; down a";
    outputs_reach_later_steps_and_jobs:
        "jobs: { a: { steps: [{ id: v, run: one }, { run: two, env: { N: '${{ steps.v.outputs.n }}' } }], outputs: { n: 'v${{ steps.v.outputs.n }}' } }, b: { needs: a, steps: [{ run: x, env: { N: '${{ needs.a.outputs.n }}' } }] } }",
        "up a; end a 0 0 n=7; end a 1 0; down a; up b; end b 0 0; down b";
    env_layers_and_secrets:
        "env: { A: top, B: top }\nsecrets: [TOKEN, OTHER]\njobs: { a: { secrets: [TOKEN, { name: OTHER, as: file }], env: { B: 'job-${{ env.A }}', C: 'x${{ secrets.TOKEN }}' }, steps: [{ run: one, env: { A: step } }, { run: two }] } }",
        "up a; end a 0 0 LATE=s3cr3t-value!; end a 1 0; down a";
    a_secret_never_becomes_part_of_a_command:
        "secrets: [TOKEN]\njobs: { a: { env: { T: '${{ secrets.TOKEN }}' }, steps: [{ run: 'echo ${{ env.T }}' }] } }",
        "up a; down a";
    a_step_that_takes_too_long:
        "jobs: { a: { steps: [{ run: one, timeout: 5s }, { run: two }], cleanup: [{ run: clean }] } }",
        "up a; timeout a 0; end a 0 143; end a c0 0; down a";
    a_job_that_takes_too_long:
        "jobs: { a: { timeout: 1m, steps: [{ run: one }, { run: two, if: always() }], cleanup: [{ run: clean }, { run: more }] } }",
        "up a; timeout a; end a 0 0; end a c0 1; end a c1 0; down a";
    cleanup_has_its_own_time:
        "jobs: { a: { steps: [{ run: one }], cleanup: [{ run: clean }, { run: more }] } }",
        "up a; end a 0 0; cleanup-timeout a; end a c0 143; down a";
    a_cancel_runs_cleanup_and_nothing_else:
        "jobs: { a: { steps: [{ run: one }, { run: two, if: always() }], cleanup: [{ run: clean }] }, b: { needs: a, if: always(), steps: [{ run: x }] }, c: { steps: [{ run: x }] } }",
        "up a; cancel; up c; end a 0 143; end a c0 0; down a; down c";
    a_second_cancel_kills:
        "jobs: { a: { steps: [{ run: one }], cleanup: [{ run: clean }], artifacts: { paths: [x], when: always } }, b: { steps: [{ run: x }], cleanup: [{ run: clean }] } }",
        "up a; up b; cancel; end b 0 143; kill; end a 0 137; end b c0 137; down a; down b";
    fail_fast_cancels_the_rest_of_the_matrix:
        "jobs: { m: { matrix: { n: [1, 2, 3] }, max-parallel: 2, fail-fast: true, steps: [{ run: 'run ${{ matrix.n }}' }] }, other: { steps: [{ run: x }] } }",
        "up m~1; up m~2; up other; end m~1 0 1; down m~1; end m~2 0 143; down m~2; end other 0 0; down other";
    retry_by_cause_keeps_every_try:
        "jobs: { a: { retry: { max: 2, on: [memory, 'exit:7'], backoff: 10s }, steps: [{ run: one }] } }",
        "up a; oom a 0; down a; retry a; up a; end a 0 7; down a; retry a; up a; end a 0 0; down a";
    retry_ends_with_its_count_and_its_causes:
        "jobs: { a: { retry: { max: 1, on: system }, steps: [{ run: one }] }, b: { retry: { max: 3, on: system }, steps: [{ run: one }] } }",
        "lost a; retry a; up a; broken a 0; down a; up b; end b 0 1; down b";
    a_cancel_ends_the_wait_for_another_try:
        "jobs: { a: { retry: { max: 1 }, steps: [{ run: one }] } }",
        "up a; end a 0 1; down a; cancel; retry a";
    a_job_that_cannot_start:
        "jobs: { a: { steps: [{ run: one }] }, b: { needs: a, steps: [{ run: x }] } }",
        "nostart a";
    files_that_are_missing_fail_the_job:
        "jobs: { a: { steps: [{ run: one }], artifacts: { paths: [x] } } }",
        "up a; end a 0 0; missing a";
    continue_on_error_shows_the_outcome:
        "jobs: { a: { steps: [{ id: s, run: one, continue-on-error: true }, { run: two, if: \"steps.s.outcome == 'failed' && steps.s.conclusion == 'passed'\" }] } }",
        "up a; end a 0 5; end a 1 0; down a";
    a_service_that_ends_stops_its_job:
        "secrets: [TOKEN]\njobs: { a: { services: { db: { image: x, env: { P: '${{ secrets.TOKEN }}' } } }, steps: [{ run: one }, { run: two }], cleanup: [{ run: sweep }] } }",
        "up a; service a; end a 0 143; end a c0 0; down a";
    a_cancel_gives_up_what_is_being_put_up:
        "jobs: { a: { steps: [{ run: one }] } }",
        "cancel; nostart a";
    jobs_start_from_the_end_of_another_and_from_its_middle:
        "jobs: { a: { steps: [{ run: one, id: one }, { run: two }] }, b: { from: a, steps: [{ run: x }] }, c: { from: a@one, steps: [{ run: x }] }, d: { from: b, steps: [{ run: x }] } }",
        "up a; end a 0 0; sealed a; end a 1 0; down a; up b; up c; end b 0 0; down b; end c 0 0; down c; up d; end d 0 0; down d";
    a_step_with_a_network_of_its_own_has_a_container_of_its_own:
        "jobs: { a: { steps: [{ run: one, network: full }, { run: two, network: none, if: failure() }, { run: three }], cleanup: [{ run: x, network: full }] } }",
        "up a; sealed a; end a 0 0; sealed a; end a 2 0; sealed a; end a c0 0; down a";
    a_state_that_cannot_be_kept_ends_the_job:
        "jobs: { a: { steps: [{ run: one, id: one }, { run: two }] }, b: { from: a@one, steps: [{ run: x }] } }",
        "up a; end a 0 0; unsealed a; down a";
    a_kill_waits_for_a_state_that_is_being_kept:
        "jobs: { a: { steps: [{ run: one, id: one }, { run: two }], cleanup: [{ run: x }] }, b: { from: a@one, steps: [{ run: x }] } }",
        "up a; end a 0 0; kill; sealed a; down a";
    there_is_nothing_to_start_from_where_nothing_ran:
        "jobs: { z: { steps: [{ run: one }] }, a: { needs: z, steps: [{ run: one, id: one }] }, b: { from: a, if: always(), steps: [{ run: x }] }, c: { from: a@one, if: always(), steps: [{ run: x }] } }",
        "nostart z";
    a_background_step_that_ends_before_it_is_ready_has_failed:
        "jobs: { a: { steps: [{ run: server, background: true, ready: { run: probe } }, { run: test }] } }",
        "up a; end a 0 0; down a";
    secrets_as_files_go_to_the_steps_that_see_them:
        "secrets: [TOKEN]\njobs: { a: { secrets: [{ name: TOKEN, as: file }], steps: [{ run: one }] }, b: { steps: [{ run: one, secrets: [{ name: TOKEN, as: file }] }, { run: two }] } }",
        "up a; up b; end b 0 0";
    background_steps_stay_up_until_the_last_step_ended:
        "jobs: { a: { steps: [{ run: server, background: true, ready: { run: probe } }, { run: other, background: true }, { run: test }] } }",
        "up a; ready a 0; end a 2 0; end a 1 143; end a 0 143; down a";
    a_background_step_that_does_not_get_ready:
        "jobs: { a: { steps: [{ run: server, background: true, ready: { run: probe } }, { run: test }] } }",
        "up a; unready a 0; end a 0 143; down a";
    a_background_step_that_ends_early_fails_its_job:
        "jobs: { a: { steps: [{ run: server, background: true }, { run: test }, { run: more }] } }",
        "up a; end a 0 1; end a 1 0; down a";
    conditions_of_jobs:
        "params: { deploy: { default: 'no' } }\njobs: { a: { if: \"params.deploy == 'yes'\", steps: [{ run: x }] }, b: { if: '${{ true }}', steps: [{ run: x }] }, c: { if: \"contains(fromJSON('['), 1)\", steps: [{ run: x }] }, d: { needs: a, if: always(), steps: [{ run: 'was ${{ needs.a.result }}' }] } }",
        "up b; end b 0 0; down b; up d; end d 0 0; down d";
    the_longest_way_to_the_end_starts_first:
        "jobs: { short: { steps: [{ run: x }] }, long: { steps: [{ run: x }] }, after: { needs: long, steps: [{ run: x }] } }",
        "";
    events_that_do_not_fit_change_nothing:
        "jobs: { a: { steps: [{ run: one }] } }",
        "down a; end a 0 0; timeout a; up a; up a; ready a 0; end a 0 0; end a 0 1; timeout a; down a; down a; cancel; kill";
}

#[test]
fn jobs_wait_for_room_and_say_for_what() {
    let yaml = "jobs: { big: { limits: { cpus: 3, memory: 1GiB }, steps: [{ run: x }] }, \
                next: { limits: { cpus: 2 }, steps: [{ run: x }] }, \
                small: { limits: { cpus: 1 }, steps: [{ run: x }] } }";
    let capacity = Capacity { millicpus: Some(4000), memory: Some(1 << 30), ..Capacity::default() };
    let settings = Settings { capacity, ..Settings::default() };
    insta::assert_snapshot!(transcript(yaml, settings.clone(), "up big; end big 0 0"));
    insta::assert_snapshot!(transcript(yaml, settings, "up big; end big 0 0; down big; up next"));
    let places = Settings {
        capacity: Capacity { jobs: Some(1), ..Capacity::default() },
        ..Settings::default()
    };
    insta::assert_snapshot!(transcript(yaml, places, "nostart big"));
}

#[test]
fn the_next_jobs_are_those_that_only_wait_for_room() {
    let yaml = "images: { tool: { from: host, steps: [{ run: x }] } }\n\
                defaults: { workspace: none }\njobs: { a: { steps: [{ run: x }] }, \
                m: { parallel: 3, max-parallel: 1, steps: [{ run: x }] }, \
                k: { steps: [{ run: x }] }, forked: { from: k, steps: [{ run: x }] }, \
                later: { needs: a, steps: [{ run: x }] }, \
                cached: { cache: [{ key: k, paths: [/c] }], steps: [{ run: x }] }, \
                served: { services: { d: { image: host, run: x } }, steps: [{ run: x }] }, \
                stepped: { steps: [{ run: x, image: other }] }, \
                made: { image: tool, steps: [{ run: x }] } }";
    let capacity = Capacity { jobs: Some(1), ..Capacity::default() };
    let mut run = Run::new(planned(yaml), Settings { capacity, ..Settings::default() }).unwrap();
    let mut first = None;
    for action in run.start() {
        if let Action::StartJob(start) = action {
            first = Some(start.job);
        }
    }
    let upcoming = |run: &Run| -> String {
        let name = |next: Upcoming| {
            let id = run.plan().jobs[next.job].id.clone();
            if next.keep { format!("{id} kept") } else { id }
        };
        run.upcoming().map(name).collect::<Vec<_>>().join(", ")
    };
    let first = first.unwrap();
    insta::assert_snapshot!(
        format!("{} | {}", run.plan().jobs[first].id, upcoming(&run)),
        @"image~tool | a, k kept, m~1, m~2, m~3"
    );
    run.handle(Event::CancelRequested);
    assert_eq!(upcoming(&run), "");
}

#[test]
fn what_could_never_start_is_refused() {
    let yaml = "jobs: { big: { limits: { memory: 4GiB }, steps: [{ run: x }] } }";
    let capacity = Capacity { memory: Some(1 << 30), ..Capacity::default() };
    let refused = Run::new(planned(yaml), Settings { capacity, ..Settings::default() });
    let faults = refused.map(|_| ()).unwrap_err();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].message.contains("asks for more memory"), "{:?}", faults[0]);
    // What is held for all jobs counts for each.
    let capacity = Capacity { memory: Some(5 << 30), ..Capacity::default() };
    let mut run = Run::new(planned(yaml), Settings { capacity, ..Settings::default() }).unwrap();
    assert!(run.hold(Kept { memory: 1 << 30, disk: 0 }).is_ok());
    assert_eq!(run.used().memory, 1 << 30);
    assert_eq!(run.hold(Kept { memory: 1, disk: 0 }).map_err(|faults| faults.len()), Err(1));
}

#[test]
fn a_chain_of_jobs_that_fail_at_once_needs_no_stack() {
    let mut yaml = String::from(
        "jobs:\n  j0: { env: { X: \"${{ fromJSON('[') }}\" }, steps: [{ run: x }] }\n",
    );
    for job in 1..5000 {
        let _ = writeln!(
            yaml,
            "  j{job}: {{ needs: j{}, if: always(), env: {{ X: \"${{{{ fromJSON('[') }}}}\" }}, steps: [{{ run: x }}] }}",
            job - 1
        );
    }
    let mut run = Run::new(planned(&yaml), Settings::default()).unwrap();
    let actions = run.start();
    assert_eq!(actions.last(), Some(&Action::RunEnded { conclusion: Conclusion::Failed }));
    assert_eq!(actions.len(), 5001);
}

/// Read, checked, planned and run to its end with less stack than any thread has by itself.
#[test]
fn a_chain_of_a_thousand_jobs_needs_no_stack() {
    let mut yaml = String::from("jobs:\n  j0: { steps: [{ run: x }] }\n");
    for job in 1..1000 {
        let (above, start) = (job - 1, if job % 2 == 0 { "needs" } else { "from" });
        let _ = writeln!(yaml, "  j{job}: {{ {start}: j{above}, steps: [{{ run: x }}] }}");
    }
    let through = move || {
        let mut run = Run::new(planned(&yaml), Settings::default()).unwrap();
        let mut ended = Vec::new();
        let mut actions = std::collections::VecDeque::from(run.start());
        while let Some(action) = actions.pop_front() {
            let event = match action {
                Action::StartJob(start) => Event::JobStarted { job: start.job },
                Action::StartStep { job, step, .. } => {
                    Event::StepEnded { job, step, end: StepEnd::new(End::Exit(0)) }
                }
                Action::FinishJob { job, .. } => {
                    Event::JobFinished { job, fault: None, kept: Kept::default() }
                }
                Action::SealJob { job, .. } => {
                    Event::JobSealed { job, sealed: Ok(Kept::default()) }
                }
                Action::JobEnded { job, .. } => {
                    ended.push(job);
                    continue;
                }
                _ => continue,
            };
            actions.extend(run.handle(event));
        }
        assert_eq!(run.conclusion(), Some(Conclusion::Passed));
        assert!(ended.is_sorted() && ended.len() == 1000);
    };
    std::thread::Builder::new().stack_size(256 << 10).spawn(through).unwrap().join().unwrap();
}

/// What other runs hold is told with the reason to wait, and so is whose turn it is.
#[test]
fn jobs_wait_for_other_runs_and_say_for_which() {
    let yaml = "jobs:\n  big: { limits: { cpus: 3, memory: 1GiB }, steps: [{ run: x }] }\n  \
                small: { limits: { cpus: 1, memory: 1GiB }, steps: [{ run: x }] }\n";
    let machine = Capacity { millicpus: Some(4000), ..Capacity::default() };
    let elsewhere = |millicpus: u64, first: Option<&str>| Elsewhere {
        used: Demand { jobs: 1, millicpus, ..Demand::default() },
        runs: vec!["other".to_owned()],
        first: first.map(str::to_owned),
        stuck: false,
    };
    let check = |held: Elsewhere, started: &[usize], waiting: [Option<WaitingFor>; 2]| {
        let mut run = Run::new(planned(yaml), Settings { machine, ..Settings::default() }).unwrap();
        assert_eq!(run.start(), [], "before anything is known of others");
        let starts = run.handle(Event::Room(held)).into_iter().filter_map(|action| match action {
            Action::StartJob(start) => Some(start.job),
            _ => None,
        });
        assert_eq!(starts.collect::<Vec<_>>(), started);
        let told = [0, 1].map(|job| run.job(job).unwrap().waiting);
        assert_eq!(
            run.is_crowded(),
            told.iter()
                .any(|it| matches!(it, Some(WaitingFor::Machine { .. } | WaitingFor::Turn(_))))
        );
        assert_eq!(told, waiting);
    };
    let lacks = |wanted, held| {
        let runs = vec!["other".to_owned()];
        Some(WaitingFor::Machine { resource: Resource::Processors, wanted, held, runs })
    };
    check(elsewhere(0, None), &[0, 1], [None, None]);
    check(elsewhere(1000, None), &[0], [None, lacks(1000, 1000)]);
    check(elsewhere(2000, None), &[1], [lacks(3000, 2000), None]);
    check(elsewhere(4000, None), &[], [lacks(3000, 4000), lacks(1000, 4000)]);
    let turn = || Some(WaitingFor::Turn("first".to_owned()));
    check(elsewhere(1000, Some("first")), &[], [turn(), turn()]);
    check(elsewhere(2000, Some("first")), &[], [lacks(3000, 2000), turn()]);
    let most = Capacity { memory: Some(1 << 29), ..machine };
    let refused = Run::new(planned(yaml), Settings { machine: most, ..Settings::default() });
    assert_eq!(refused.map(drop).unwrap_err().len(), 2, "more than the machine has");
}
