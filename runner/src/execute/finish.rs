//! The end of a run: its jobs are driven to it, the results are written and told, and nothing is left.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use cofferdam_jobs::{
    Plan,
    state::{Conclusion, Run},
};
use indicatif::ProgressDrawTarget;

use super::{
    driver::{Driver, Surroundings, room::Room},
    job::keeping,
    pipeline::PipelineFile,
    record::{self, Records, learned, timestamp},
};
use crate::{
    cli,
    exit::Exit,
    print,
    problem::Problem,
    report::{
        display::{ControlEchoOff, Display},
        junit,
        learned::render,
        record::{PipelineRecord, RecordError, RunRecord, SCHEMA},
        style::wants_colour,
        summary,
    },
    supervise::Interrupts,
};

/// What the end of a run needs to know of its beginning.
pub(super) struct Finished<'a> {
    pub(super) arguments: &'a cli::Run,
    pub(super) file: &'a PipelineFile,
    pub(super) plan: Arc<Plan>,
    pub(super) directory: PathBuf,
    pub(super) started: SystemTime,
    pub(super) run_id: String,
    pub(super) without_limits: Vec<String>,
}

impl Finished<'_> {
    /// Runs the jobs to their end and writes the results; returns the status of the process.
    pub(super) async fn drive(
        &self,
        surroundings: Surroundings,
        machine: (Run, Option<Room>),
        mut interrupts: Interrupts,
    ) -> Result<u8, Problem> {
        // From now on, the directory is known to be that of a run.
        self.record().write(&self.directory).map_err(not_written)?;
        let needles = Arc::clone(&surroundings.needles);
        let sandbox = surroundings.sandbox.clone();
        let mut driver = Driver::new(surroundings, machine, display(self.arguments.json));
        let conclusion = driver.run(&mut interrupts).await;
        let records = Records {
            state: driver.state(),
            ledger: &driver.ledger,
            directory: &self.directory,
            needles: &needles,
        };
        let (jobs, tests) = records.jobs();
        let learned = self
            .arguments
            .learn_network
            .then(|| learned::learned(driver.state(), &driver.ledger, &needles));
        let (unread, busy) = (driver.is_unread(), driver.busy());
        let screen = driver.into_screen();
        let residue = sandbox.close().await;
        screen.finish().await;
        let told = |_: &Problem| {
            for left in &residue {
                print::standard_error(format_args!("left behind: {left}"));
            }
        };
        let conclusion = match conclusion.inspect_err(told)? {
            _ if !residue.is_empty() => Conclusion::System,
            other => other,
        };
        let record = RunRecord {
            ended: Some(timestamp(SystemTime::now())),
            conclusion: Some(record::conclusion(conclusion)),
            jobs,
            learned,
            scheduling_ms: Some(record::milliseconds(busy)),
            residue: residue.iter().map(ToString::to_string).collect(),
            ..self.record()
        };
        self.write(&record, &tests)?;
        if self.arguments.keep_state.is_some() {
            keeping::tell(&record);
        }
        let exit = match conclusion {
            Conclusion::Cancelled if unread => Exit::Unread,
            other => exit(other),
        };
        Ok(exit.code())
    }

    /// The record as it is while the run goes on.
    fn record(&self) -> RunRecord {
        RunRecord {
            schema: SCHEMA,
            cofferdam: env!("CARGO_PKG_VERSION").to_owned(),
            id: self.run_id.clone(),
            pipeline: PipelineRecord {
                name: self.plan.name.clone(),
                file: self.arguments.file.display().to_string(),
                digest: self.file.digest.clone(),
            },
            started: timestamp(self.started),
            ended: None,
            conclusion: None,
            jobs: Vec::new(),
            scheduling_ms: None,
            without_limits: self.without_limits.clone(),
            learned: None,
            residue: Vec::new(),
        }
    }

    fn write(&self, record: &RunRecord, tests: &[junit::write::JobTests]) -> Result<(), Problem> {
        let tail = summary::log_tail(&self.directory);
        let written = record.write(&self.directory).and_then(|()| {
            junit::write::write(&self.directory, record, tests, &|step| tail(step).join("\n"))
        });
        written.map_err(not_written)?;
        let colour = wants_colour(&io::stdout());
        if self.arguments.json {
            let text = serde_json::to_string_pretty(record).unwrap_or_default();
            print::standard_output(text)?;
        } else {
            print::standard_output(summary::render(record, &self.directory, colour, &tail))?;
            if let Some(learned) = &record.learned {
                print::standard_output(format_args!("\n{}", render(learned).trim_end()))?;
            }
        }
        Ok(())
    }
}

fn not_written(error: RecordError) -> Problem {
    Problem::new(Exit::System, "failed to write the results").because(error)
}

fn exit(conclusion: Conclusion) -> Exit {
    match conclusion {
        Conclusion::Passed | Conclusion::Skipped => Exit::Passed,
        Conclusion::Failed => Exit::Failed,
        Conclusion::TimedOut => Exit::TimedOut,
        Conclusion::Cancelled => Exit::Cancelled,
        Conclusion::System => Exit::System,
    }
}

/// Spinners on a terminal, plain lines otherwise; with `--json`, standard output is for that.
fn display(json: bool) -> Display {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    if stderr.is_terminal() && (json || stdout.is_terminal()) {
        let echo = ControlEchoOff::on(&stderr);
        Display::live(ProgressDrawTarget::stderr(), wants_colour(&stderr), echo)
    } else if json {
        let colour = wants_colour(&stderr);
        Display::plain(Box::new(stderr), colour)
    } else {
        let colour = wants_colour(&stdout);
        Display::plain(Box::new(stdout), colour)
    }
}
