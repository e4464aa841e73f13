//! Runs the program of a step in a container of its own.

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use cofferdam_jobs::state::Stop;
use cofferdam_sandbox::{
    Container, ContainerSpec, End, Error, Layer, Process, Program, ProgramFile, State, Streams,
    image::Image,
};
use nix::sys::signal::Signal;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{Engine, Run};
use crate::{
    report::verdict::Verdict,
    supervise::{Ended, GRACE, judge},
};

/// How the program of a step ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// How.
    pub(crate) ended: Ended,
    /// Why it did not do what it should; [`None`] where it did.
    pub(crate) verdict: Option<Verdict>,
    /// What its container used.
    pub(crate) used: End,
}

/// A program that is to be run.
#[derive(Debug)]
pub(super) struct Start<'a> {
    pub(super) image: Image,
    /// Its caches.
    pub(super) layers: Vec<Layer>,
    pub(super) run: &'a Run,
    pub(super) env: Vec<(String, String)>,
    pub(super) files: Vec<ProgramFile>,
    pub(super) workdir: String,
    pub(super) user: String,
}

impl Start<'_> {
    /// Runs it to its end; what it has written, where it passed.
    pub(super) async fn run(
        self,
        engine: &Engine,
        streams: (OwnedFd, OwnedFd),
        stop: &mut mpsc::UnboundedReceiver<Stop>,
    ) -> Result<(Ran, Option<Arc<State>>), Error> {
        let limits = self.run.limits.clone();
        let spec = ContainerSpec {
            limits: limits.clone(),
            hostname: "build".to_owned(),
            keep: true,
            layers: self.layers,
            scratch: engine.scratch,
            network: self.run.network.clone().into(),
            ..ContainerSpec::new(Arc::new(self.image))
        };
        let container = Arc::new(engine.sandbox.create(spec).await?);
        let program = Program {
            argv: self.run.argv.clone(),
            env: self.env,
            workdir: self.workdir,
            user: self.user,
            files: self.files,
        };
        let command_line = program.argv.join(" ");
        // What could not be kept is said where the program has said the rest.
        let said = streams.1.try_clone().ok();
        let streams = Streams::output(streams.0, streams.1);
        let ended = match container.start(program, streams, None).await {
            Ok(mut process) => Ok(watch(&container, &mut process, stop, limits.timeout).await),
            Err(error) => Err(error),
        };
        let stopped = container.stop().await;
        let (ended, used) = match (ended, stopped) {
            (Ok(ended), Ok(used)) => (ended, used),
            (Err(error), _) | (_, Err(error)) => {
                container.end().await?;
                return Err(error);
            }
        };
        let verdict = judge(ended, &used, &limits, &command_line);
        if let (None, Some(caches)) = (&verdict, &engine.caches) {
            let used = self.run.caches.clone();
            caches.clone().keep(used, Arc::clone(&container), said).await;
        }
        let state = match verdict {
            None => Some(container.state()),
            Some(_) => None,
        };
        container.end().await?;
        Ok((Ran { ended, verdict, used }, state.transpose()?))
    }
}

/// Waits for the end of a program, which its time and `stop` may bring about.
async fn watch(
    container: &Container,
    process: &mut Process,
    stop: &mut mpsc::UnboundedReceiver<Stop>,
    timeout: Duration,
) -> Ended {
    let (mut deadline, mut why) = (Instant::now() + timeout, None);
    loop {
        tokio::select! {
            exit = process.wait() => {
                return why.unwrap_or_else(|| exit.map_or(Ended::Killed, Ended::Exited));
            }
            () = sleep_until(deadline) => {
                if why.is_some() {
                    container.kill().ok();
                }
                why.get_or_insert(Ended::TimedOut(timeout));
                container.signal(process, Signal::SIGTERM).ok();
                deadline = Instant::now() + GRACE;
            }
            Some(how) = stop.recv() => {
                why.get_or_insert(Ended::Cancelled);
                match how {
                    // It may have ended just now.
                    Stop::Gently => drop(container.signal(process, Signal::SIGTERM)),
                    Stop::Now => drop(container.kill()),
                }
                deadline = Instant::now() + GRACE;
            }
        }
    }
}
