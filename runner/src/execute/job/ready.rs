//! Finds out whether something that stays up is ready: a command is run beside it until it passes.
//!
//! What the command writes is not part of any log: it says the same thing many times. The last
//! lines of the last try are kept in memory, for the reason when it never passes.

use std::time::Duration;

use cofferdam_sandbox::{Container, Exit, Program, Streams, cgroup::Group, with_causes};
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    report::quantity::Elapsed,
    supervise::{Chunk, OutputPipes},
};

/// Bytes of a try's output that are kept.
const KEPT: usize = 4096;

/// A command that passes when something is ready.
#[derive(Debug)]
pub(in crate::execute) struct Probe {
    pub(in crate::execute) program: Program,
    /// How long it may take until the command passes.
    pub(in crate::execute) timeout: Duration,
    /// How long to wait between two tries.
    pub(in crate::execute) interval: Duration,
}

/// How one try went.
enum Try {
    Passed,
    Failed(String),
    /// It was still under way when the time was up.
    Cut,
}

impl Probe {
    /// Runs the command in `container` until it passes; an error is a sentence without a subject.
    pub(in crate::execute) async fn until_ready(
        self,
        container: &Container,
        group: &Group,
    ) -> Result<(), String> {
        let deadline = Instant::now() + self.timeout;
        let mut last = "did not end".to_owned();
        while Instant::now() < deadline {
            match self.once(container, group, deadline).await {
                Ok(Try::Passed) => return Ok(()),
                Ok(Try::Failed(why)) => last = why,
                // What one before it said tells more.
                Ok(Try::Cut) => {}
                Err(why) => return Err(format!("`ready` could not be run: {why}")),
            }
            sleep(self.interval.min(deadline.saturating_duration_since(Instant::now()))).await;
        }
        let waited = Elapsed(self.timeout);
        Err(format!("was not ready after {waited}: the last try of `ready` {last}"))
    }

    async fn once(
        &self,
        container: &Container,
        group: &Group,
        deadline: Instant,
    ) -> Result<Try, String> {
        let (mut pipes, stdout, stderr) = OutputPipes::new().map_err(|error| error.to_string())?;
        let streams = Streams::output(stdout, stderr);
        let mut process = container
            .start(self.program.clone(), streams, Some(group))
            .await
            .map_err(|error| with_causes(&error))?;
        let mut kept = Vec::new();
        let read = async {
            while let Ok(Some(chunk)) = pipes.next().await {
                if let Chunk::Bytes(_, bytes) = chunk {
                    kept.extend_from_slice(&bytes);
                    let surplus = kept.len().saturating_sub(KEPT);
                    kept.drain(..surplus);
                }
            }
            // Whatever the command left running must not hold this up: the exit decides.
            std::future::pending::<()>().await;
        };
        let exit = tokio::select! {
            exit = timeout_at(deadline, process.wait()) => exit,
            () = read => return Err("its output ended".to_owned()),
        };
        let Ok(exit) = exit else {
            // It may have ended just now.
            container.signal(&process, Signal::SIGKILL).ok();
            return Ok(Try::Cut);
        };
        let exit = exit.map_err(|error| with_causes(&error))?;
        // What was written just before the end is there to be read.
        while let Ok(Some(Chunk::Bytes(_, bytes))) = pipes.next_now() {
            kept.extend_from_slice(&bytes);
        }
        if exit.code() == Some(0) {
            return Ok(Try::Passed);
        }
        Ok(Try::Failed(told(exit, &kept)))
    }
}

/// How a try ended, with the last line that it wrote.
fn told(exit: Exit, output: &[u8]) -> String {
    let how = match (exit.code(), exit.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was killed by {signal}"),
        (None, None) => "ended".to_owned(),
    };
    let text = String::from_utf8_lossy(output);
    match text.lines().map(str::trim).rfind(|line| !line.is_empty()) {
        Some(line) => format!("{how}, saying: {line}"),
        None => how,
    }
}
