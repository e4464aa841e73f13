//! What large pipelines take: time and memory of reading and planning them, and of deciding what
//! comes next in their runs.
//!
//! A plain program, because peak memory counts as much as time. It prints the median of some rounds,
//! in one process. `cargo bench -p cofferdam-jobs --bench scale`

#![expect(clippy::print_stdout, reason = "the figures are the output")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run ends")]

use std::{
    collections::VecDeque,
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use cofferdam_jobs::{
    Inputs, Plan, Sources, parse, plan,
    state::{Action, Capacity, Conclusion, End, Event, Kept, Run, Settings, StepEnd},
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const ROUNDS: usize = 7;

fn main() {
    // `cargo test --benches` passes no `--bench`; there is nothing to test here.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let names = ["file KiB", "read ms", "plan ms", "peak kB", "run ms", "µs a job"];
    println!("{:<20} {}", "", names.map(|name| format!("{name:>9}")).join(" "));
    row("5 000 jobs", &layers(5000, 50));
    row("one matrix of 256", &matrix(1));
    row("16 matrices of 256", &matrix(16));
    row("a chain of 1 000", &layers(1000, 1));
    row("a chain of 5 000", &layers(5000, 1));
    row("2 000 trivial jobs", &layers(2000, 2000));
    row("5 000 with caches", &cached(5000));
}

/// Jobs in layers of this width, each after two of the layer before, with what jobs usually say.
fn layers(jobs: usize, width: usize) -> String {
    let mut text = String::from("env: { LEVEL: \"1\" }\njobs:\n");
    for job in 0..jobs {
        let _ = write!(text, "  job-{job:04}: {{ ");
        if let Some(above) = job.checked_sub(width) {
            let beside = above - above % width + (above + 1) % width;
            let _ = match beside == above {
                true => write!(text, "needs: [job-{above:04}], "),
                false => write!(text, "needs: [job-{above:04}, job-{beside:04}], "),
            };
            text.push_str("if: \"success() || cancelled()\", ");
        }
        text.push_str("env: { RUN: \"${{ run.id }}\" }, ");
        text.push_str("steps: [{ run: make }, { run: make test }] }\n");
    }
    text
}

/// Jobs that all wait for room, and of which none can be made ready before its turn.
fn cached(jobs: usize) -> String {
    let mut text = String::from("jobs:\n");
    for job in 0..jobs {
        let _ = writeln!(
            text,
            "  job-{job}: {{ cache: [{{ key: all, paths: [target] }}], steps: [{{ run: make }}] }}"
        );
    }
    text
}

fn matrix(jobs: usize) -> String {
    let values: Vec<String> = (0..16).map(|value| value.to_string()).collect();
    let values = values.join(", ");
    let mut text = String::from("jobs:\n");
    for job in 0..jobs {
        let _ = writeln!(
            text,
            "  job-{job}: {{ name: \"on ${{{{ matrix.a }}}} and ${{{{ matrix.b }}}}\", \
             matrix: {{ a: [{values}], b: [{values}] }}, steps: [{{ run: make }}] }}"
        );
    }
    text
}

fn row(name: &str, text: &str) {
    let (mut read, mut planned, mut ran) = (Vec::new(), Vec::new(), Vec::new());
    let (mut peak, mut jobs) = (0, 0);
    for _ in 0..ROUNDS {
        MEMORY.reset_peak_usage();
        let (before, began) = (MEMORY.current_usage(), Instant::now());
        let mut sources = Sources::new();
        let file = sources.add("cofferdam.yml", text.as_bytes());
        let pipeline = parse(&sources, file).pipeline.unwrap();
        read.push(began.elapsed());
        let began = Instant::now();
        let plan = Arc::new(plan(&pipeline, &Inputs::default()).unwrap());
        planned.push(began.elapsed());
        peak = peak.max(MEMORY.peak_usage() - before);
        jobs = u32::try_from(plan.jobs.len()).unwrap();
        ran.push(run(plan));
    }
    let milliseconds = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[ROUNDS / 2].as_secs_f64() * 1e3
    };
    let (read, planned, ran) = (milliseconds(read), milliseconds(planned), milliseconds(ran));
    let (kib, peak, each) = (text.len() / 1024, peak / 1000, ran * 1e3 / f64::from(jobs));
    println!("{name:<20} {kib:>9} {read:>9.1} {planned:>9.1} {peak:>9} {ran:>9.1} {each:>9.1}");
}

/// Passes all jobs of a plan, eight at a time, and says how long deciding what comes next took.
fn run(plan: Arc<Plan>) -> Duration {
    let capacity = Capacity { jobs: Some(8), ..Capacity::default() };
    let began = Instant::now();
    let mut run = Run::new(plan, Settings { capacity, ..Settings::default() }).unwrap();
    let mut events = VecDeque::new();
    let mut actions = run.start();
    loop {
        events.extend(actions.into_iter().filter_map(|action| match action {
            Action::StartJob(start) => Some(Event::JobStarted { job: start.job }),
            Action::StartStep { job, step, .. } => {
                Some(Event::StepEnded { job, step, end: StepEnd::new(End::Exit(0)) })
            }
            Action::FinishJob { job, .. } => {
                Some(Event::JobFinished { job, fault: None, kept: Kept::default() })
            }
            _ => None,
        }));
        drop(run.newly_waiting());
        run.upcoming().take(4).count();
        let Some(event) = events.pop_front() else { break };
        actions = run.handle(event);
    }
    assert_eq!(run.conclusion(), Some(Conclusion::Passed));
    began.elapsed()
}
