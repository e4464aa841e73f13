//! Long chains of jobs take no stack.

use std::fmt::Write as _;

use cofferdam_jobs::state::{Action, Conclusion, End, Event, Kept, Run, Settings, StepEnd};

use crate::transcript::planned;

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
