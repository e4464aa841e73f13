//! What people hear of a run while it goes on.

use std::{
    io,
    time::{Duration, Instant},
};

use cofferdam_jobs::state::{Conclusion, Part, Resource, WaitingFor};

use super::Driver;
use crate::{
    execute::{
        message::{StepId, StepOutput},
        record,
    },
    exit::Exit,
    problem::Problem,
    report::{
        display::{self, Display},
        quantity::{Bytes, count, cpus},
    },
};

/// Why a job waits, where that does not show by itself.
fn waits(waiting: &WaitingFor) -> Option<String> {
    match waiting {
        WaitingFor::Room(what) => {
            Some(format!("waits: the running jobs leave {}", what.too_little()))
        }
        WaitingFor::Machine { resource, wanted, held, runs } => {
            let amount = |amount: u64| match resource {
                Resource::Jobs => count(amount, "job"),
                Resource::Processors => match cpus(amount).as_str() {
                    "1" => "1 cpu".to_owned(),
                    more => format!("{more} cpus"),
                },
                Resource::Memory => format!("{} of memory", Bytes(amount)),
                Resource::Disk => format!("{} of disk", Bytes(amount)),
            };
            let (wanted, held) = (amount(*wanted), amount(*held));
            let who = match runs.as_slice() {
                [run] => format!("run {run} holds"),
                runs => format!("{} hold", count(runs.len() as u64, "other run")),
            };
            Some(format!("waits for {wanted}: {who} {held} of the machine"))
        }
        WaitingFor::Turn(run) => Some(format!("waits: it is the turn of run {run}")),
        _ => None,
    }
}

impl Driver {
    /// Tells of jobs that wait for the machine; that others have the places shows by itself.
    pub(super) fn tell_waiting(&mut self) {
        for (job, waiting) in self.state.newly_waiting() {
            if let Some(reason) = waits(&waiting) {
                self.screen.act(0, move |display| {
                    display.show(display::Event::JobQueued { job, reason: &reason })
                });
            }
        }
    }

    pub(super) fn tell_step_ended(&mut self, step: StepId) {
        let told = self.state.job(step.job).and_then(|view| {
            let records = match step.step.part {
                Part::Steps => view.steps,
                Part::Cleanup => view.cleanup,
            };
            let record = records.get(step.step.index)?;
            let tolerated = record.outcome != record.conclusion;
            let why = record.reason.as_ref().map(|reason| match tolerated {
                true => format!("{reason}; `continue-on-error` lets the job go on"),
                false => reason.to_string(),
            });
            Some((record.outcome?, why))
        });
        if let Some((conclusion, why)) = told {
            let conclusion = record::conclusion(conclusion);
            let why = why.map(|why| self.surroundings.needles.mask_text(&why));
            // What it wrote before comes first, as far as the display can take it.
            while self.screen.has_room()
                && let Some(output) = self.written.next_now()
            {
                self.show_output(output);
            }
            self.screen.act(0, move |display| {
                let why = why.as_deref();
                display.show(display::Event::StepEnded { job: step.job, conclusion, why })
            });
        }
    }

    pub(super) fn job_ended(&mut self, job: usize, conclusion: Conclusion) {
        let elapsed = self.started.get(&job).map_or(Duration::ZERO, Instant::elapsed);
        let why = self.state.job(job).and_then(|view| {
            let reason = view.reason?.to_string();
            (conclusion != Conclusion::Passed).then(|| self.surroundings.needles.mask_text(&reason))
        });
        let conclusion = record::conclusion(conclusion);
        self.screen.act(0, move |display| {
            let why = why.as_deref();
            display.show(display::Event::JobEnded { job, conclusion, elapsed, why })
        });
    }

    pub(super) fn show_output(&mut self, output: StepOutput) {
        let StepOutput { step, stream, bytes } = output;
        self.screen.act(bytes.len(), move |display| {
            display.show(display::Event::Output { job: step.job, stream, bytes: &bytes })
        });
    }

    pub(super) fn take_failure(&mut self, failed: Option<io::Error>) -> Result<(), Problem> {
        match failed {
            None => Ok(()),
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.unread = true;
                self.screen.act(0, |display| {
                    *display = Display::plain(Box::new(io::sink()), false);
                    Ok(())
                });
                Ok(())
            }
            Some(error) => {
                Err(Problem::new(Exit::System, "failed to show the progress of the run")
                    .because(error))
            }
        }
    }
}
