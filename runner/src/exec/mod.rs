//! `cofferdam exec`: one command in one throwaway container.

mod description;
mod outcome;
mod show;
mod terminal;

use std::{os::fd::OwnedFd, path::Path, sync::Arc, time::Duration};

use cofferdam_jobs::Configuration;
use cofferdam_sandbox::{
    Container, End, Network, Process, Residue, Sandbox, Streams,
    export::{self, Export, ExportLimits},
    image::{Image, Store},
    spawner::Spawner,
};
use nix::sys::signal::Signal;
use tokio::{task::JoinHandle, time::Instant};

use crate::{
    cli,
    exit::Exit,
    images::{self, Wanted},
    limits, network, print,
    problem::Problem,
    report::style::one_line,
    supervise::{Ended, GRACE, Interrupts, LAST_WORDS, OutputPipes, judge},
};
use description::Description;
use outcome::Outcome;
use show::Show;

/// Runs the command; returns the status that this process shall end with.
pub(crate) async fn run(
    arguments: cli::Exec,
    configuration: &Configuration,
    state: &Path,
    spawner: Spawner,
) -> Result<u8, Problem> {
    let mut interrupts = Interrupts::new().map_err(|error| {
        Problem::new(Exit::NotStarted, "failed to watch for signals").because(error)
    })?;
    let report = outcome::Target::open(arguments.json.as_deref())?;
    // Before anything else touches the state directory: it says whose that is.
    let store = Store::open(state).map_err(|error| Problem::sandbox(Exit::NotStarted, error))?;
    let needs_no_network = !arguments.network.0.is_connected();
    let opening = open(spawner, state, configuration, usize::from(needs_no_network));
    let image = image(&arguments, configuration, (&store, state), &mut interrupts).await;
    let described = image.and_then(|image| Description::new(arguments, configuration, image));
    let sandbox = opening.await.unwrap_or_else(|error| {
        Err(Problem::new(Exit::NotStarted, "failed to open the sandbox").because(error))
    });
    let (description, sandbox) = match (described, sandbox) {
        (Ok(description), Ok(sandbox)) => (description, sandbox),
        (Err(problem), Ok(sandbox)) => {
            tell_residue(&sandbox.close().await);
            return Err(problem);
        }
        (Err(problem), Err(_)) | (Ok(_), Err(problem)) => return Err(problem),
    };
    let network = description.container.network.policy().clone();
    let container = &description.container;
    sandbox.expect_scratch(container.scratch, std::slice::from_ref(&container.limits));
    limits::tell_missing(&sandbox);
    let result = run_in(&sandbox, description, interrupts).await;
    let residue = sandbox.close().await;
    tell_residue(&residue);
    let outcome = result?.with_residue(&residue);
    if let Some(report) = report {
        report.write(&outcome)?;
    }
    if let Some(sentence) = &outcome.cause {
        print::standard_error(format_args!("cofferdam: {sentence}"));
    }
    tell_network(&network, &outcome);
    if !residue.is_empty() {
        print::standard_error("cofferdam: `cofferdam gc` tries again to remove it");
    }
    Ok(outcome.status)
}

/// Opens the sandbox, and has it begin as many containers, beside the search for the image: neither
/// needs the other.
fn open(
    spawner: Spawner,
    state: &Path,
    configuration: &Configuration,
    containers: usize,
) -> JoinHandle<Result<Sandbox, Problem>> {
    let (state, policy) = (state.to_owned(), limits::policy(configuration));
    tokio::task::spawn_blocking(move || {
        let sandbox = Sandbox::open_with(spawner, &state, &policy)
            .map_err(|error| Problem::sandbox(Exit::NotStarted, error))?;
        sandbox.expect(containers);
        Ok(sandbox)
    })
}

fn tell_residue(residue: &[Residue]) {
    for left in residue {
        print::standard_error(format_args!("cofferdam: left behind: {left}"));
    }
}

/// The image, pulled where it has to be.
async fn image(
    arguments: &cli::Exec,
    configuration: &Configuration,
    (store, state): (&Store, &Path),
    interrupts: &mut Interrupts,
) -> Result<Arc<Image>, Problem> {
    let mut wanted = Wanted::default();
    wanted.add(&arguments.image, arguments.pull.into());
    let taken = images::take(store, state, configuration, wanted, interrupts).await;
    let taken = taken.map(|mut images| images.remove(&arguments.image));
    let not_started = |problem: Problem| match problem.exit() {
        Exit::Cancelled => problem,
        _ => problem.ending(Exit::NotStarted),
    };
    taken.map_err(not_started)?.ok_or_else(|| {
        Problem::new(Exit::NotStarted, format!("the image `{}` was lost", arguments.image))
    })
}

/// What was refused, where the command failed, and what a learning command has learnt.
fn tell_network(network: &Network, outcome: &Outcome) {
    let Some(used) = &outcome.network else { return };
    if outcome.status != 0 {
        let lost = used.lost.as_deref().map(network::loss);
        let refused = network::refusals(network::why_refused(network), &used.denied);
        for sentence in lost.into_iter().chain(refused) {
            print::standard_error(format_args!("cofferdam: the command {sentence}"));
        }
    }
    if matches!(network, Network::Learn { .. }) {
        let (list, unlisted) = network::allow_list(&used.reached);
        for destination in unlisted.iter().take(network::SHOWN) {
            let destination = one_line(destination);
            print::standard_error(format_args!(
                "cofferdam: it reached {destination}, and no list can name it"
            ));
        }
        if !list.is_empty() {
            print::standard_error(format_args!("cofferdam: it needs `--network {list}`"));
        } else if unlisted.is_empty() {
            print::standard_error("cofferdam: it needs no network");
        }
    }
}

async fn run_in(
    sandbox: &Sandbox,
    description: Description,
    mut interrupts: Interrupts,
) -> Result<Outcome, Problem> {
    let started = Instant::now();
    let container = sandbox
        .create(description.container.clone())
        .await
        .map_err(|error| Problem::sandbox(Exit::NotStarted, error))?;
    let mut show = Show::new(description.needles.clone(), description.container.limits.logs);
    let ended = if description.terminal {
        terminal::run(&container, &description, &mut interrupts).await
    } else {
        run_plain(&container, &description, &mut interrupts, &mut show).await
    };
    let (ended, end) = match ended {
        Ok(it) => it,
        Err(problem) => {
            container.end().await?;
            return Err(problem);
        }
    };
    let exported = take_artifacts(&container, &description);
    container.end().await?;
    let artifacts = exported?;
    let limits = &description.container.limits;
    let verdict = judge(ended, &end, limits, &description.command_line);
    let outcome = Outcome::new(ended, verdict, end, started.elapsed(), artifacts);
    Ok(outcome.masked(&description.needles))
}

/// Runs the command with pipes, and passes on what it says.
async fn run_plain(
    container: &Container,
    description: &Description,
    interrupts: &mut Interrupts,
    show: &mut Show,
) -> Result<(Ended, End), Problem> {
    let io_problem = |doing: &'static str| {
        move |error: std::io::Error| {
            Problem::new(Exit::NotStarted, format!("failed to {doing}")).because(error)
        }
    };
    let (mut pipes, stdout, stderr) =
        OutputPipes::new().map_err(io_problem("make the output pipes"))?;
    let (streams, input) = if description.interactive {
        let (reader, writer) = std::io::pipe().map_err(io_problem("make the input pipe"))?;
        (Streams::Plain { stdin: Some(reader.into()), stdout, stderr }, Some(OwnedFd::from(writer)))
    } else {
        (Streams::output(stdout, stderr), None)
    };
    let mut process = start(container, description, streams).await?;
    if let Some(input) = input {
        show::pass_input(input);
    }
    let mut wait = Wait::new(description.container.limits.timeout);
    let ended = loop {
        tokio::select! {
            ended = wait.next(container, &mut process, interrupts) => {
                if let Some(ended) = ended? {
                    break ended;
                }
            }
            chunk = pipes.next(), if !show.is_finished() => {
                if !show.take(chunk).await? {
                    // As with any filter, that is the end.
                    break Ended::Unread;
                }
            }
        }
    };
    let end = container.stop().await?;
    let rest = async {
        while !show.is_finished() {
            show.take(pipes.next().await).await?;
        }
        Ok::<(), Problem>(())
    };
    if let Ok(result) = tokio::time::timeout(LAST_WORDS, rest).await {
        result?;
    }
    show.finish().await?;
    Ok((ended, end))
}

/// Starts the command, or says why not with docker's exit statuses.
async fn start(
    container: &Container,
    description: &Description,
    streams: Streams,
) -> Result<Process, Problem> {
    container.start(description.program.clone(), streams, None).await.map_err(|error| {
        let errno = std::error::Error::source(&error)
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .and_then(std::io::Error::raw_os_error);
        let starting = error.doing().starts_with("start ");
        let exit = match errno {
            Some(nix::libc::ENOENT | nix::libc::ENOTDIR) if starting => Exit::NotFound,
            Some(_) if starting => Exit::NotExecutable,
            _ => Exit::NotStarted,
        };
        Problem::sandbox(exit, error)
    })
}

/// Waiting for a program's end with a deadline and a user.
#[derive(Debug)]
pub(super) struct Wait {
    timeout: Duration,
    deadline: Instant,
    /// Why it is being ended, once it is.
    ending: Option<Ended>,
}

impl Wait {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, deadline: Instant::now() + timeout, ending: None }
    }

    /// Waits for the next thing to happen and does what it asks for; returns the end. Cancel-safe.
    pub(super) async fn next(
        &mut self,
        container: &Container,
        process: &mut Process,
        interrupts: &mut Interrupts,
    ) -> Result<Option<Ended>, Problem> {
        tokio::select! {
            exit = process.wait() => {
                let natural = exit.map_or(Ended::Killed, Ended::Exited);
                return Ok(Some(self.ending.unwrap_or(natural)));
            }
            () = tokio::time::sleep_until(self.deadline) => {
                self.end(container, process, Ended::TimedOut(self.timeout), Signal::SIGTERM)?;
            }
            () = interrupts.next() => {
                self.end(container, process, Ended::Cancelled, Signal::SIGINT)?;
            }
        }
        Ok(None)
    }

    /// The first time politely, then for good.
    fn end(
        &mut self,
        container: &Container,
        process: &Process,
        why: Ended,
        signal: Signal,
    ) -> Result<(), Problem> {
        if self.ending.is_some() {
            container.kill()?;
        } else {
            self.ending = Some(why);
            container.signal(process, signal)?;
        }
        self.deadline = Instant::now() + GRACE;
        Ok(())
    }
}

fn take_artifacts(
    container: &Container,
    description: &Description,
) -> Result<Vec<export::Exported>, Problem> {
    let Some(artifacts) = &description.artifacts else { return Ok(Vec::new()) };
    let base = Path::new(&description.program.workdir);
    let inside = base.strip_prefix(cofferdam_sandbox::WORKSPACE);
    let (root, base) = match inside {
        Ok(inside) => (container.workspace(), inside),
        Err(_) => (container.root(), base),
    };
    let selected = |path: &Path| artifacts.globs.is_match(path);
    let Export { files, left_out } =
        export::export(root, base, &selected, &artifacts.target, ExportLimits::default())?;
    if files.is_empty() {
        print::standard_error(format_args!(
            "cofferdam: no file matches `--artifact {}`",
            artifacts.written
        ));
    }
    if left_out.count() > 0 {
        let what = description.needles.mask_text(&format!("not taken as artifacts: {left_out}"));
        print::standard_error(format_args!("cofferdam: {what}"));
    }
    Ok(files)
}
