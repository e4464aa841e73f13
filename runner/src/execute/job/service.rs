//! A service of a job: a container of its own in the job's network, from its start to its end.
//!
//! One task has all of it, so that whatever ends it (the job, the user, the service itself) its
//! container goes and its log is kept. Nothing of the project is in its container, and what it
//! writes is not shown while the run goes on: it is in its log.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use cofferdam_jobs::state::{Event, Fault, ResolvedCommand, ResolvedService};
use cofferdam_sandbox::{
    Container, ContainerSpec, End, Limits, Process, Program, Sandbox, ScratchKind, Streams,
    cgroup::{Group, StepLimits},
    image::Image,
    network::SharedNetwork,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Duration, Instant},
};

use super::{fault_of, in_words, ready::Probe};
use crate::{
    execute::{
        message::Message,
        output::Output,
        step::{environment, program},
    },
    log::{
        needles::Needles,
        reader::last_lines,
        recorder::{Kept, LogBudget},
        step_log::StepLog,
    },
    supervise::{Ended, LAST_WORDS, OutputPipes, judge},
};

/// Lines of its log that the reason quotes when a service ended.
const QUOTED_LINES: usize = 3;
/// Where its scripts are in its container.
const SCRIPTS: &str = "/run/cofferdam";

/// A service that is to be put up.
#[derive(Debug)]
pub(in crate::execute) struct ServiceStart {
    pub(in crate::execute) sandbox: Sandbox,
    pub(in crate::execute) resolved: ResolvedService,
    pub(in crate::execute) image: Arc<Image>,
    pub(in crate::execute) limits: Limits,
    pub(in crate::execute) scratch: ScratchKind,
    pub(in crate::execute) network: SharedNetwork,
    pub(in crate::execute) log: PathBuf,
    pub(in crate::execute) needles: Arc<Needles>,
}

/// A service that is up, or about to be. Dropping it ends it.
#[derive(Debug)]
pub(in crate::execute) struct Service {
    stop: oneshot::Sender<()>,
    task: JoinHandle<ServiceReport>,
}

/// What there is to tell of a service that has ended.
#[derive(Clone, Debug, Default)]
pub(in crate::execute) struct ServiceReport {
    pub(in crate::execute) name: String,
    /// The name of its image, and the digest.
    pub(in crate::execute) image: (String, String),
    pub(in crate::execute) exit_code: Option<i32>,
    pub(in crate::execute) signal: Option<i32>,
    pub(in crate::execute) log: Option<Kept>,
    pub(in crate::execute) end: Option<End>,
}

/// Whether a service is up.
pub(in crate::execute) type Ready = Result<(), (Fault, String)>;

/// What ended a service.
enum Cause {
    /// The job.
    Stopped,
    /// Itself, or the kernel.
    Ended(Ended),
    /// It could not be started, or was not ready in time.
    Failed(Fault, String),
}

impl Service {
    /// Ends it, if it has not ended.
    pub(in crate::execute) async fn stop(self) -> Result<ServiceReport, String> {
        // It may have ended just now.
        self.stop.send(()).ok();
        self.task.await.map_err(|error| error.to_string())
    }
}

impl ServiceStart {
    /// Puts it up in a task of its own. When it ends by itself after it was ready, the run hears of
    /// it through `messages`.
    pub(in crate::execute) fn spawn(
        self,
        job: usize,
        messages: mpsc::Sender<Message>,
    ) -> (Service, oneshot::Receiver<Ready>) {
        let (stop, stopped) = oneshot::channel();
        let (up, ready) = oneshot::channel();
        let task = tokio::spawn(self.run(up, stopped, job, messages));
        (Service { stop, task }, ready)
    }

    async fn run(
        self,
        up: oneshot::Sender<Ready>,
        mut stopped: oneshot::Receiver<()>,
        job: usize,
        messages: mpsc::Sender<Message>,
    ) -> ServiceReport {
        let mut up = Some(up);
        let mut report = ServiceReport {
            name: self.resolved.name.clone(),
            image: crate::execute::job::image_identity(&self.image),
            ..ServiceReport::default()
        };
        let created = tokio::select! {
            created = self.sandbox.create(self.spec()) => created,
            _ = &mut stopped => return report,
        };
        let told = match created {
            Err(error) => Some((fault_of(&error), in_words(&error))),
            Ok(container) => self.serve(container, &mut up, &mut stopped, &mut report).await,
        };
        let Some((fault, mut why)) = told else { return report };
        let quoted = report.log.as_ref().and_then(|log| last_lines(&log.path, QUOTED_LINES).ok());
        let quoted: Vec<_> = quoted.into_iter().flatten().map(|line| format!("`{line}`")).collect();
        if !quoted.is_empty() {
            why = format!("{why}; its last lines: {}", quoted.join(", "));
        }
        let message = self.needles.mask_text(&format!("service `{}`: {why}", report.name));
        // Whoever waited may have gone.
        match up {
            Some(up) => drop(up.send(Err((fault, message)))),
            None => {
                let event = Message::Event(Event::ServiceEnded { job, message });
                messages.send(event).await.ok();
            }
        }
        report
    }

    fn spec(&self) -> ContainerSpec {
        ContainerSpec {
            limits: self.limits.clone(),
            hostname: self.resolved.name.clone(),
            scratch: self.scratch,
            network: self.network.clone().into(),
            ..ContainerSpec::new(Arc::clone(&self.image))
        }
    }

    /// Runs its program in `container` to the end of both; returns what is to be told about that.
    async fn serve(
        &self,
        container: Container,
        up: &mut Option<oneshot::Sender<Ready>>,
        stopped: &mut oneshot::Receiver<()>,
        report: &mut ServiceReport,
    ) -> Option<(Fault, String)> {
        let (cause, output) = match self.begin(&container, stopped).await {
            Ok(Some((mut process, group, output))) => {
                let cause = self.wait(&container, (&mut process, &group), up, stopped).await;
                (cause, Some(output))
            }
            Ok(None) => (Cause::Stopped, None),
            Err((fault, why)) => (Cause::Failed(fault, why), None),
        };
        let stopped = container.stop().await;
        let patience = if stopped.is_ok() { LAST_WORDS } else { Duration::ZERO };
        if let Some(output) = output {
            report.log = output.end(Instant::now() + patience).await.ok();
        }
        report.end = container.end().await.ok();
        match cause {
            Cause::Stopped => stopped.err().map(|error| (Fault::System, in_words(&error))),
            Cause::Failed(fault, why) => Some((fault, why)),
            Cause::Ended(ended) => {
                if let Ended::Exited(exit) = ended {
                    report.exit_code = exit.code();
                    report.signal = exit.signal().map(|signal| signal as i32);
                }
                let used = report.end.clone().unwrap_or_default();
                let verdict = judge(ended, &used, &self.limits, "");
                let what = verdict.map_or_else(
                    || "it ended with exit code 0".to_owned(),
                    |verdict| verdict.sentence("it"),
                );
                let when = if up.is_some() { "before it was ready" } else { "before its job" };
                Some((Fault::Pipeline, format!("{what}, {when}")))
            }
        }
    }

    /// Starts its program; `None` when it is stopped meanwhile.
    async fn begin(
        &self,
        container: &Container,
        stopped: &mut oneshot::Receiver<()>,
    ) -> Result<Option<(Process, Group, Output)>, (Fault, String)> {
        let failed = |error: &cofferdam_sandbox::Error| (fault_of(error), in_words(error));
        let system = |message: String| (Fault::System, message);
        let budget = LogBudget::new(self.limits.logs);
        let now = SystemTime::now();
        let log = StepLog::create(&self.log, Arc::clone(&self.needles), budget, now)
            .map_err(|error| system(error.to_string()))?;
        let (pipes, stdout, stderr) =
            OutputPipes::new().map_err(|error| system(format!("failed to make pipes: {error}")))?;
        let output = Output::start(pipes, log, None);
        let program = self.program()?;
        let group =
            container.step_group("1", &StepLimits::default()).map_err(|error| failed(&error))?;
        let process = tokio::select! {
            process = container.start(program, Streams::output(stdout, stderr), Some(&group)) => process,
            _ = stopped => return Ok(None),
        };
        let process = process.map_err(|error| failed(&error))?;
        Ok(Some((process, group, output)))
    }

    async fn wait(
        &self,
        container: &Container,
        (process, group): (&mut Process, &Group),
        up: &mut Option<oneshot::Sender<Ready>>,
        stopped: &mut oneshot::Receiver<()>,
    ) -> Cause {
        let ready = async {
            match self.probe() {
                Some(probe) => probe.until_ready(container, group).await,
                None => Ok(()),
            }
        };
        tokio::pin!(ready);
        loop {
            tokio::select! {
                exit = process.wait() => {
                    return Cause::Ended(exit.map_or(Ended::Killed, Ended::Exited));
                }
                _ = &mut *stopped => return Cause::Stopped,
                ready = &mut ready, if up.is_some() => match ready {
                    Ok(()) => drop(up.take().map(|up| up.send(Ok(())))),
                    Err(why) => return Cause::Failed(Fault::Pipeline, why),
                },
            }
        }
    }

    fn program(&self) -> Result<Program, (Fault, String)> {
        let config = &self.image.config;
        match &self.resolved.command {
            Some(command) => Ok(self.of_command(command, "service")),
            None if config.entrypoint.is_empty() && config.command.is_empty() => {
                let why = "its image has no command of its own: give it `run` or `exec`";
                Err((Fault::Pipeline, why.to_owned()))
            }
            None => {
                let words = config.entrypoint.iter().chain(&config.command).cloned();
                Ok(self.of_command(&ResolvedCommand::Exec(words.collect()), "service"))
            }
        }
    }

    fn probe(&self) -> Option<Probe> {
        let ready = self.resolved.ready.as_ref()?;
        Some(Probe {
            program: self.of_command(&ready.command, "ready"),
            timeout: ready.timeout,
            interval: ready.interval,
        })
    }

    fn of_command(&self, command: &ResolvedCommand, script: &str) -> Program {
        let config = &self.image.config;
        let (argv, files) = program::command(command, format!("{SCRIPTS}/{script}"));
        Program {
            argv,
            env: environment::of_service(&config.env, &self.resolved.env),
            workdir: config.working_dir.clone(),
            user: self.resolved.user.clone().unwrap_or_else(|| config.user.clone()),
            files,
        }
    }
}
