//! A graph of jobs, which the bytes draw: planned in an order that respects `needs`, or refused
//! where there is a circle, and nowhere else.
//!
//! Whether there is a circle is found here in another way than the planner's: by taking away jobs
//! that need nothing that is left, until nothing changes.

use std::{collections::HashSet, fmt::Write as _};

use cofferdam_jobs::{Code, Inputs, Plan, Sources, parse, plan};

use crate::diagnostics;

/// As many as two hexadecimal digits name.
const JOBS_MAX: usize = 256;

/// A job: how many copies it has, and the jobs that it needs.
struct Job {
    copies: u8,
    needs: Vec<usize>,
}

/// Two bytes of head for each job (its copies, how many needs it has), then a byte for each need.
fn jobs(input: &[u8]) -> Vec<Job> {
    let mut bytes = input.iter().copied();
    let mut jobs = Vec::new();
    while let (Some(copies), Some(count)) = (bytes.next(), bytes.next()) {
        let needs = bytes.by_ref().take(usize::from(count % 16)).map(usize::from).collect();
        jobs.push(Job { copies: copies % 4, needs });
        if jobs.len() == JOBS_MAX {
            break;
        }
    }
    let count = jobs.len();
    for job in &mut jobs {
        job.needs.iter_mut().for_each(|need| *need %= count);
        let mut seen = HashSet::new();
        job.needs.retain(|need| seen.insert(*need));
    }
    jobs
}

fn is_circular(jobs: &[Job]) -> bool {
    let mut left: HashSet<usize> = (0..jobs.len()).collect();
    loop {
        let free = |index: &usize| {
            jobs.get(*index).is_some_and(|job| job.needs.iter().all(|need| !left.contains(need)))
        };
        let ready: Vec<usize> = left.iter().copied().filter(free).collect();
        if ready.is_empty() {
            return !left.is_empty();
        }
        left.retain(|index| !ready.contains(index));
    }
}

fn written(jobs: &[Job]) -> String {
    let mut text = String::from("jobs:\n");
    for (index, job) in jobs.iter().enumerate() {
        let needs: Vec<String> = job.needs.iter().map(|need| format!("j{need:02x}")).collect();
        let copies = match job.copies {
            0 => String::new(),
            copies => format!("parallel: {copies}, "),
        };
        let needs = needs.join(", ");
        let _ = writeln!(text, "  j{index:02x}: {{ {copies}needs: [{needs}], steps: [run: x] }}");
    }
    text
}

pub(crate) fn run(input: &[u8]) {
    let jobs = jobs(input);
    if jobs.is_empty() {
        return;
    }
    let text = written(&jobs);
    let mut sources = Sources::new();
    let file = sources.add("cofferdam.yml", text.as_bytes());
    let parsed = parse(&sources, file);
    diagnostics::check(&parsed.diagnostics, &sources);
    let circular = is_circular(&jobs);
    let told = |fault: &cofferdam_jobs::Diagnostic| fault.code == Code::NeedsCycle;
    assert_eq!(parsed.diagnostics.iter().any(told), circular, "{text}");
    let Some(pipeline) = parsed.pipeline else {
        assert!(circular, "refused for something else: {text}");
        return;
    };
    match plan(&pipeline, &Inputs::default()) {
        Ok(plan) => {
            ordered(&plan);
            assert_eq!(plan.groups.len(), jobs.len(), "{text}");
            let copies: usize = jobs.iter().map(|job| usize::from(job.copies).max(1)).sum();
            assert_eq!(plan.jobs.len(), copies, "{text}");
        }
        Err(faults) => assert!(faults.is_empty(), "cannot be planned: {faults:?}\n{text}"),
    }
}

/// What holds for every plan.
pub(crate) fn ordered(plan: &Plan) {
    let mut next = 0;
    for (index, group) in plan.groups.iter().enumerate() {
        assert_eq!(group.jobs.start, next, "the jobs of a group follow those of the one before");
        assert!(!group.jobs.is_empty(), "the group `{}` has no jobs", group.id);
        next = group.jobs.end;
        let named = group.source.needs.iter().map(|need| need.job.as_str());
        let named: HashSet<&str> =
            named.chain(group.source.from.iter().map(|from| from.job.as_str())).collect();
        let written = group.needs.iter().filter(|need| !need.image).count();
        assert_eq!(named.len(), written, "`{}` needs more or fewer", group.id);
        for need in &group.needs {
            assert!(need.group < index, "`{}` comes before what it needs", group.id);
            // One that is not there weighs no more than this one, which is refused below.
            let before = plan.group(need.group).unwrap_or(group);
            let first = plan.jobs.get(before.jobs.start);
            let builds = first.is_some_and(|job| job.build.is_some());
            assert_eq!(builds, need.image, "`{}`: an image or a job", group.id);
            assert!(builds || named.contains(before.id.as_str()), "`{}`: another", group.id);
            // Who waits for it counts in how much is before it.
            assert!(before.weight > group.weight, "`{}`", group.id);
        }
    }
    assert_eq!(next, plan.jobs.len(), "every job is in a group");
    assert!(plan.jobs.len() <= 10_000);
    let mut ids = HashSet::new();
    for (index, job) in plan.jobs.iter().enumerate() {
        assert!(ids.insert(job.id.as_str()), "two jobs are called `{}`", job.id);
        assert!(plan.group(job.group).is_some_and(|group| group.jobs.contains(&index)));
        assert!((1..=job.total).contains(&job.index), "`{}`", job.id);
        assert!(job.from.as_ref().is_none_or(|from| from.job < index), "`{}`", job.id);
    }
}
