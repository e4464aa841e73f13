//! What jobs write and others start from: when it is kept, what room it takes, and until when.

use cofferdam_jobs::state::{Capacity, KeepStates, Run, Settings};

use crate::transcript::{check, planned, settings, transcript};

check! {
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
