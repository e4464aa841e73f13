//! A step while it runs, as the driver holds it: the tasks that run it, its output, and how it is
//! stopped.
//!
//! The driver begins a step in the time that it takes to start a task: files are opened in the step's
//! own. A thread of its own for them costs more than they do: with both processors busy it waits for its
//! turn, and a run of many short jobs took 15 % longer.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use cofferdam_jobs::state::{End as StepOutcome, Stop};
use tokio::sync::{mpsc, oneshot};

use super::JobContext;
use crate::{
    execute::{
        message::{Message, StepId, StepReport},
        output::{Drain, Output},
    },
    log::step_log::StepLog,
    supervise::OutputPipes,
};

/// A step that runs.
#[derive(Debug)]
pub(in crate::execute) struct RunningStep {
    /// How the driver stops it.
    pub(in crate::execute) stop: mpsc::UnboundedSender<Stop>,
    /// Its output, which ends with the job; none comes where it could not be opened.
    pub(in crate::execute) output: oneshot::Receiver<Output>,
}

/// What a step writes to: its standard output and standard error.
pub(in crate::execute) type Written = (OwnedFd, OwnedFd);

/// Opens the output of a step and has `run` do the rest, in a task of its own, which reports its end.
pub(in crate::execute) fn spawn<R>(
    id: StepId,
    log: PathBuf,
    context: Arc<JobContext>,
    run: impl FnOnce(Written, Drain, mpsc::UnboundedReceiver<Stop>) -> R + Send + 'static,
) -> RunningStep
where
    R: Future<Output = StepReport> + Send + 'static,
{
    let (stop, stopped) = mpsc::unbounded_channel();
    let (opened, output) = oneshot::channel();
    tokio::spawn(async move {
        let report = match open(id, &log, &context) {
            Ok((output, written)) => {
                let drain = output.drain();
                // Its job may have gone with the driver.
                opened.send(output).ok();
                // A task of its own, so that even its panic is an end that the driver hears of.
                tokio::spawn(run(written, drain, stopped)).await.unwrap_or_else(|error| {
                    StepReport::not_run(StepOutcome::System, error.to_string())
                })
            }
            Err(message) => StepReport::not_run(StepOutcome::System, message),
        };
        let message = Message::StepEnded { step: id, report: Box::new(report) };
        // When the driver has gone, the run is over and nobody asks.
        context.messages.send(message).await.ok();
    });
    RunningStep { stop, output }
}

/// Opens the log and the pipes of a step, and starts reading.
fn open(id: StepId, log: &Path, context: &JobContext) -> Result<(Output, Written), String> {
    let (needles, budget) = (Arc::clone(&context.needles), Arc::clone(&context.budget));
    let log = StepLog::create(log, needles, budget, SystemTime::now())
        .map_err(|error| error.to_string())?;
    let (pipes, stdout, stderr) =
        OutputPipes::new().map_err(|error| format!("failed to make pipes: {error}"))?;
    let shown = Some((id, context.outputs.clone()));
    Ok((Output::start(pipes, log, shown), (stdout, stderr)))
}
