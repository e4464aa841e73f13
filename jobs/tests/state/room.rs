//! Jobs that wait for room: for what, for whom, and what could never start.

use cofferdam_jobs::state::{
    Action, Capacity, Demand, Elsewhere, Event, Kept, Resource, Run, Settings, Upcoming, WaitingFor,
};

use crate::transcript::{planned, transcript};

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
