//! Random pipelines, random runners: what must hold in every run.

#![expect(clippy::unwrap_used, reason = "the helpers of tests may panic as tests do")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use cofferdam_jobs::{
    Inputs, Sources, parse, plan,
    plan::Plan,
    state::{
        Action, Capacity, Conclusion, Demand, Elsewhere, End, Event, Fault, Kept, Limit, Part,
        Phase, Run, Settings, StepEnd, StepRef, Timer,
    },
};
use proptest::{prelude::*, sample::select};

fn step() -> impl Strategy<Value = String> {
    let flags = select(vec![
        "",
        ", if: always()",
        ", if: failure()",
        ", continue-on-error: true",
        ", timeout: 1s",
        ", background: true",
        ", network: full",
        ", background: true, ready: { run: probe }",
        ", env: { X: \"${{ fromJSON('[') }}\" }",
    ]);
    flags.prop_map(|flags| format!("{{ run: x{flags} }}"))
}

fn steps() -> impl Strategy<Value = String> {
    prop::collection::vec(step(), 1..4).prop_map(|steps| steps.join(", "))
}

fn job() -> impl Strategy<Value = String> {
    let flags = select(vec![
        "",
        "if: always(), ",
        "if: failure(), ",
        "if: \"false\", ",
        "allow-failure: true, ",
        "allow-failure: [1], ",
        "retry: { max: 2 }, ",
        "retry: { max: 1, on: [system, memory] }, ",
        "limits: { cpus: 2 }, ",
        "outputs: { o: \"${{ fromJSON('[') }}\" }, ",
    ]);
    let shape = select(vec![
        "",
        "parallel: 3, ",
        "parallel: 3, max-parallel: 1, ",
        "matrix: { a: [1, 2] }, fail-fast: true, ",
    ]);
    let cleanup = prop::option::of(steps());
    (flags, shape, steps(), cleanup).prop_map(|(flags, shape, steps, cleanup)| {
        // In `cleanup` these are refused or mean nothing.
        let cleanup = cleanup.map(|cleanup| {
            cleanup
                .replace(", background: true, ready: { run: probe }", "")
                .replace(", background: true", "")
        });
        let cleanup = cleanup.map_or_else(String::new, |steps| format!(", cleanup: [{steps}]"));
        let job = format!("{flags}{shape}steps: [{steps}]{cleanup}");
        // What stays up and a network of a step exclude each other.
        if job.contains("background") { job.replace(", network: full", "") } else { job }
    })
}

/// Whether others can start from a job, and after its first step.
fn is_start(job: &str) -> (bool, bool) {
    let single = !job.contains("parallel:") && !job.contains("matrix:");
    let first = job.split("run: x").nth(1).unwrap_or_default();
    let first = first.split('}').next().unwrap_or_default();
    (single, single && !first.contains("background"))
}

/// Jobs, each with a mask of the earlier ones that it needs, and perhaps one that it starts from.
fn pipeline() -> impl Strategy<Value = String> {
    prop::collection::vec((job(), any::<u8>(), any::<u8>()), 1..7).prop_map(|jobs| {
        let mut text = String::from("jobs:\n");
        for (index, (job, mask, fork)) in jobs.iter().enumerate() {
            let parent = usize::from(fork / 4).checked_rem(index);
            let start = parent.map(|parent| is_start(&jobs[parent].0));
            let from = match (fork % 4, parent, start) {
                (0, Some(parent), Some((true, _))) => format!("from: j{parent}, "),
                (1, Some(parent), Some((_, true))) => format!("from: j{parent}@first, "),
                _ => String::new(),
            };
            let job = job.replacen("run: x", "id: first, run: x", 1);
            let needs: Vec<String> = (0..index)
                .filter(|need| mask >> need & 1 == 1)
                .map(|need| format!("j{need}"))
                .collect();
            let _ = writeln!(text, "  j{index}: {{ {from}needs: [{}], {job} }}", needs.join(", "));
        }
        text
    })
}

fn planned(yaml: &str) -> Arc<Plan> {
    let mut sources = Sources::new();
    let file = sources.add("a.yml", yaml.as_bytes());
    let parsed = parse(&sources, file);
    assert!(!parsed.has_errors(), "{yaml}\n{:#?}", parsed.diagnostics);
    Arc::new(plan(&parsed.pipeline.unwrap(), &Inputs::default()).unwrap())
}

/// The limits of each container; by these, what it writes is in memory.
const MEMORY: u64 = 100;
const DISK: u64 = 150;

/// A runner that keeps what it owes, and watches over what must hold.
#[derive(Default)]
struct Runner {
    starting: BTreeSet<usize>,
    up: BTreeSet<usize>,
    steps: BTreeSet<(usize, StepRef)>,
    timers: BTreeSet<Timer>,
    /// Steps whose `ready` was answered.
    probed: BTreeSet<(usize, StepRef)>,
    finishing: BTreeSet<usize>,
    /// Jobs whose file system is being kept.
    sealing: BTreeSet<usize>,
    ended: BTreeSet<usize>,
    cancelled: bool,
    killed: bool,
    /// Bytes of memory that are kept of jobs, in this try and, until the next begins, the last.
    kept: BTreeMap<usize, u64>,
    over: Option<Conclusion>,
}

impl Runner {
    fn perform(&mut self, plan: &Plan, capacity: &Capacity, actions: Vec<Action>) {
        for action in actions {
            assert_eq!(self.over, None, "an action after the run ended: {action:?}");
            match action {
                Action::StartJob(start) => {
                    assert!(!self.cancelled, "a job starts after the cancel");
                    assert!(!self.ended.contains(&start.job), "a job starts after it ended");
                    let group = plan.group(plan.jobs[start.job].group).unwrap();
                    for need in &group.needs {
                        for needed in plan.group(need.group).unwrap().jobs.clone() {
                            assert!(
                                self.ended.contains(&needed),
                                "a job starts before what it needs ended"
                            );
                        }
                    }
                    if let Some(from) = &start.from {
                        assert!(
                            self.kept.contains_key(&from.job),
                            "nothing is kept of {}",
                            from.job
                        );
                    }
                    assert!(self.starting.insert(start.job));
                }
                Action::StartStep { job, step, .. } => {
                    assert!(self.up.contains(&job), "a step starts without its container");
                    assert!(!self.killed, "a step starts after the kill");
                    assert!(!self.sealing.contains(&job), "a step starts while it is kept");
                    assert!(
                        !self.cancelled || step.part == Part::Cleanup,
                        "a step starts after the cancel"
                    );
                    assert!(self.steps.insert((job, step)), "a step starts twice");
                }
                Action::StopStep { job, step, .. } => assert!(self.steps.contains(&(job, step))),
                Action::ArmTimer { timer, .. } => assert!(self.timers.insert(timer)),
                Action::DisarmTimer(timer) => {
                    assert!(self.timers.remove(&timer), "disarmed without being armed: {timer:?}");
                }
                Action::AbortStart { job } => assert!(self.starting.contains(&job)),
                Action::SealJob { job, .. } => {
                    assert!(self.up.contains(&job), "a container is kept that is not up");
                    assert!(self.steps.iter().all(|(of, _)| *of != job), "a step still runs");
                    assert!(self.sealing.insert(job));
                }
                Action::DropStates { job } => {
                    let starts = |other: &usize| {
                        plan.jobs[*other].from.as_ref().is_some_and(|from| from.job == job)
                    };
                    let first_of_retry = self.starting.contains(&job) || !self.ended.contains(&job);
                    assert!(
                        first_of_retry
                            || (0..plan.jobs.len())
                                .filter(starts)
                                .all(|other| self.ended.contains(&other)),
                        "what a job starts from is dropped"
                    );
                    self.kept.remove(&job);
                }
                Action::FinishJob { job, .. } => {
                    assert!(!self.sealing.contains(&job), "a container goes that is being kept");
                    assert!(self.up.remove(&job), "a container goes down that is not up");
                    assert!(self.steps.iter().all(|(of, _)| *of != job), "steps outlive their job");
                    assert!(self.finishing.insert(job));
                }
                Action::JobEnded { job, .. } => {
                    assert!(!self.holds(job), "a job ends while something of it is there");
                    assert!(self.ended.insert(job), "a job ends twice");
                }
                Action::RunEnded { conclusion } => {
                    assert_eq!(self.ended.len(), plan.jobs.len(), "the run ends before its jobs");
                    assert!(self.timers.is_empty(), "timers outlive the run: {:?}", self.timers);
                    self.over = Some(conclusion);
                }
            }
        }
        let places: Vec<usize> = (0..plan.jobs.len()).filter(|job| self.holds(*job)).collect();
        assert!(u32::try_from(places.len()).unwrap() <= capacity.jobs.unwrap());
        let cpus = places
            .iter()
            .map(|job| plan.jobs[*job].limits.millicpus.as_ref().map_or(1000, |m| m.value));
        assert!(cpus.sum::<u64>() <= capacity.millicpus.unwrap(), "more is used than there is");
        // A container may have filled its memory, whatever is kept of those before it.
        let memory = places.len() as u64 * MEMORY + self.kept.values().sum::<u64>();
        assert!(memory <= capacity.memory.unwrap(), "more memory is used than there is");
        for group in &plan.groups {
            let most = group.source.max_parallel.as_ref().map_or(u32::MAX, |most| most.value);
            let active = group.jobs.clone().filter(|job| self.holds(*job)).count();
            assert!(u32::try_from(active).unwrap() <= most, "`max-parallel` is passed");
        }
    }

    /// Whether a job has a container, or is about to, or not yet has none any more.
    fn holds(&self, job: usize) -> bool {
        self.starting.contains(&job)
            || self.sealing.contains(&job)
            || self.up.contains(&job)
            || self.finishing.contains(&job)
    }

    /// What can happen next; [`None`] when nothing is owed.
    fn next(&mut self, plan: &Plan, choice: u16, detail: u8) -> Option<Event> {
        if choice % 97 == 13 {
            let kill = detail.is_multiple_of(3);
            self.cancelled = true;
            self.killed |= kill;
            return Some(if kill { Event::KillRequested } else { Event::CancelRequested });
        }
        let owed =
            self.starting.len() + self.steps.len() + self.timers.len() + self.finishing.len();
        let owed = owed + self.sealing.len();
        if let Some(job) = self.up.iter().nth(usize::from(detail)).filter(|_| choice % 89 == 5) {
            return Some(Event::ServiceEnded { job: *job, message: "gone".to_owned() });
        }
        if owed == 0 {
            return None;
        }
        let mut at = usize::from(choice) % owed;
        if let Some(job) = self.starting.iter().nth(at).copied() {
            self.starting.remove(&job);
            let fault = match detail % 8 {
                0 => Fault::Pipeline,
                1 => Fault::System,
                _ => {
                    self.up.insert(job);
                    return Some(Event::JobStarted { job });
                }
            };
            return Some(Event::JobStartFailed { job, fault, message: "why".to_owned() });
        }
        at -= self.starting.len();
        if let Some((job, step)) = self.steps.iter().nth(at).copied() {
            let source = &plan.jobs[job].source;
            let probes = step.part == Part::Steps && source.steps[step.index].ready.is_some();
            if probes && !detail.is_multiple_of(3) && self.probed.insert((job, step)) {
                let ready = if detail % 3 == 1 { Ok(()) } else { Err("not up".to_owned()) };
                return Some(Event::StepReady { job, step, ready });
            }
            self.steps.remove(&(job, step));
            self.probed.remove(&(job, step));
            let end = match detail % 8 {
                0 => End::Exit(1),
                1 => End::Exit(2),
                2 => End::Signal(9),
                3 => End::Limit(Limit::Memory),
                4 if detail > 200 => End::System,
                _ => End::Exit(0),
            };
            return Some(Event::StepEnded { job, step, end: StepEnd::new(end) });
        }
        at -= self.steps.len();
        if let Some(timer) = self.timers.iter().nth(at).copied() {
            self.timers.remove(&timer);
            return Some(Event::TimerFired(timer));
        }
        at -= self.timers.len();
        if let Some(job) = self.sealing.iter().nth(at).copied() {
            self.sealing.remove(&job);
            let failed = (Fault::System, "no room".to_owned());
            let sealed =
                if detail.is_multiple_of(4) { Err(failed) } else { Ok(self.keep(job, choice)) };
            return Some(Event::JobSealed { job, sealed });
        }
        at -= self.sealing.len();
        let job = self.finishing.iter().nth(at).copied()?;
        self.finishing.remove(&job);
        let kept = self.keep(job, choice);
        let fault = match detail % 16 {
            0 => Some((Fault::Pipeline, "missing".to_owned())),
            1 => Some((Fault::System, "stuck".to_owned())),
            _ => None,
        };
        Some(Event::JobFinished { job, fault, kept })
    }

    /// Keeps of a job what it can have written since, at most the rest of its disk.
    fn keep(&mut self, job: usize, choice: u16) -> Kept {
        let kept = self.kept.entry(job).or_default();
        let memory = (1 + u64::from(choice) % MEMORY).min(DISK - *kept);
        *kept += memory;
        Kept { memory, disk: 0 }
    }
}

/// Tells the run what others hold: nothing where `choice` is 0.
fn offer(run: &mut Run, runner: &mut Runner, plan: &Plan, capacity: &Capacity, choice: u16) {
    let used = Demand {
        jobs: u32::from(choice % 3),
        millicpus: u64::from(choice % 5) * 1000,
        ..Demand::default()
    };
    let first = (choice % 7 == 3).then(|| "other".to_owned());
    let turn = first.is_none();
    let runs = if used == Demand::default() { vec![] } else { vec!["other".to_owned()] };
    let before = *run.used();
    let actions = run.handle(Event::Room(Elsewhere { used, runs, first, stuck: false }));
    let started = actions.iter().any(|action| matches!(action, Action::StartJob(_)));
    assert!(turn || !started, "a job starts out of turn");
    let mut all = *run.used();
    all.add(&used);
    let nothing = Demand::default();
    assert!(
        *run.used() == before || all.lacks(&nothing, capacity).is_none(),
        "more is taken than the machine has: {all:?}"
    );
    assert!(!run.is_crowded() || choice != 0, "crowded where nobody else is");
    runner.perform(plan, capacity, actions);
}

/// Runs to the end, by `choices` while there are any and then by the first thing that is owed; where
/// the machine is shared, other runs come and go in between.
fn walk(yaml: &str, choices: &[(u16, u8)], shared: bool) {
    let plan = planned(yaml);
    let capacity = Capacity {
        jobs: Some(3),
        millicpus: Some(4000),
        memory: Some(3 * MEMORY + DISK),
        ..Capacity::default()
    };
    let machine = if shared { capacity } else { Capacity::default() };
    let mut settings = Settings { capacity, machine, ..Settings::default() };
    let limit = |most| Some(cofferdam_jobs::Spanned::new(most, cofferdam_jobs::Span::default()));
    settings.limits.millicpus = limit(1000);
    settings.limits.memory = limit(MEMORY);
    settings.limits.disk = limit(DISK);
    let mut run = Run::new(Arc::clone(&plan), settings).unwrap();
    let mut runner = Runner::default();
    let first = run.start();
    runner.perform(&plan, &capacity, first);
    if shared {
        offer(&mut run, &mut runner, &plan, &capacity, 0);
    }
    let mut choices = choices.iter().copied();
    for count in 0.. {
        assert!(count < 10_000, "the run does not end");
        // No cancel and no failure in what is left.
        let (choice, detail) = choices.next().unwrap_or((0, 7));
        let mut event = runner.next(&plan, choice, detail);
        if event.is_none() && shared {
            // The others have gone.
            offer(&mut run, &mut runner, &plan, &capacity, 0);
            event = runner.next(&plan, 0, 7);
        }
        let Some(event) = event else { break };
        let actions = run.handle(event);
        if shared {
            let starts = |action: &Action| matches!(action, Action::StartJob(_));
            assert!(!actions.iter().any(starts), "a job starts without asking for room");
        }
        runner.perform(&plan, &capacity, actions);
        if shared {
            offer(&mut run, &mut runner, &plan, &capacity, choice);
        }
    }
    assert!(runner.over.is_some(), "nothing is owed, and the run has not ended");
    assert_eq!(run.conclusion(), runner.over);
    for job in run.jobs() {
        assert_eq!(job.phase, Phase::Ended);
        assert!(job.conclusion.is_some() && job.reason.is_some());
        assert!(job.waiting.is_none());
    }
    let failed = run.jobs().any(|job| {
        !job.allowed
            && matches!(
                job.conclusion,
                Some(Conclusion::Failed | Conclusion::TimedOut | Conclusion::System)
            )
    });
    if run.conclusion() == Some(Conclusion::Passed) {
        assert!(!failed, "a run passed in which a job failed");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(400), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_run_ends_and_keeps_its_promises(
        yaml in pipeline(),
        choices in prop::collection::vec(any::<(u16, u8)>(), 0..120),
    ) {
        walk(&yaml, &choices, false);
    }

    #[test]
    fn so_it_does_beside_others(
        yaml in pipeline(),
        choices in prop::collection::vec(any::<(u16, u8)>(), 0..120),
    ) {
        walk(&yaml, &choices, true);
    }
}
