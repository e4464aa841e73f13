//! One stage: its instructions one after the other, from its base to its image.

use std::{collections::HashMap, pin::pin, sync::Arc};

use cofferdam_jobs::{
    Sources,
    dockerfile::{self, Base, Instruction as Line, Kind, Selected, parse_trigger},
    state::Stop,
};
use cofferdam_sandbox::{image::Image, network::Network};
use tokio::sync::{mpsc, watch};

use super::{
    drive::{Common, Failure, Finished},
    files,
    lower::Lowering,
    progress::{ANNOUNCED_AFTER, Ending, Shown},
    variables::Variables,
};
use crate::{
    build::{Io, Outcome, Ran, Stage, Step},
    exit::Exit,
    problem::Problem,
    report::verdict::Verdict,
    supervise::{Chunk, LAST_WORDS, OutputPipes},
};

/// Bytes of output that are looked through for why a program failed.
const TAIL: usize = 16 * 1024;

/// Builds a stage; `made` has what it needs.
pub(super) async fn build(
    common: Common,
    selected: Selected,
    made: HashMap<usize, Finished>,
    is_target: bool,
    mut stopped: watch::Receiver<u32>,
) -> Result<Finished, Failure> {
    let project = Arc::clone(&common.given.project);
    let Some(description) = project.dockerfile.stages.get(selected.stage) else {
        return Err(Problem::new(Exit::System, "a stage was lost while building").into());
    };
    let name = name_of(description, selected.stage, is_target);
    let base = match &selected.base {
        Base::Scratch => None,
        Base::Stage(number) => Some(made.get(number).map(|made| Arc::clone(&made.image))),
        Base::Image(name) => Some(common.given.images.get(name).map(Arc::clone)),
    };
    let stage = match base {
        None => common.engine.begin_empty(&name),
        Some(Some(image)) => common.engine.begin(&name, &image),
        Some(None) => {
            let message = "what a stage starts from was not made";
            return Err(Problem::new(Exit::System, message).into());
        }
    };
    let mut stage = stage.map_err(|error| project.failed(description.span, error))?;
    let inherited = match &selected.base {
        Base::Stage(number) => made.get(number).map(|made| made.arguments.clone()),
        _ => None,
    };
    let variables = Variables::new(
        &common.given.arguments,
        project.dockerfile.escape,
        &stage.configuration().env(),
        &inherited.unwrap_or_default(),
    );
    let images: HashMap<usize, Arc<Image>> =
        made.into_iter().map(|(number, made)| (number, made.image)).collect();
    let mut lowering = Lowering::new(
        &common.given,
        common.engine.state(),
        variables,
        stage.configuration(),
        images,
    );
    let mut lines = triggers(&stage.take_triggers())?;
    lines.extend(description.instructions.iter().cloned());
    let of = lines.len();
    for (number, line) in lines.into_iter().enumerate() {
        let label = label((number, of), &name, common.stages);
        let shown = common.progress.step(label, &line.text, common.given.request.limits.logs);
        shown.begin().await;
        let (again, result) =
            one(lowering, &mut stage, &line, &shown, &mut stopped, &common).await?;
        lowering = again;
        match result {
            Ok(ending) => shown.end(ending).await,
            Err(failure) => {
                shown.end(Ending::Failed).await;
                return Err(failure);
            }
        }
    }
    let names = if is_target { common.given.request.names.as_slice() } else { &[] };
    let image = stage.finish(names).map_err(|error| project.failed(description.span, error))?;
    Ok(Finished { image, arguments: lowering.variables.inherited().to_vec() })
}

/// What messages call a stage.
pub(super) fn name_of(stage: &dockerfile::Stage, number: usize, is_target: bool) -> String {
    let name = stage.name.as_ref().map(|name| name.value.clone());
    name.unwrap_or_else(|| if is_target { "target".to_owned() } else { number.to_string() })
}

/// What the output calls an instruction of a stage, one of `stages`: `[build 2/5]`.
pub(super) fn label((number, of): (usize, usize), name: &str, stages: usize) -> String {
    match stages {
        1 => format!("[{}/{of}]", number + 1),
        _ => format!("[{name} {}/{of}]", number + 1),
    }
}

/// What the base image has for images that are built on it.
pub(super) fn triggers(texts: &[String]) -> Result<Vec<Line>, Problem> {
    let mut lines = Vec::new();
    for text in texts {
        let mut sources = Sources::new();
        let id = sources.add("ONBUILD of the base image", text.as_bytes());
        let (line, faults) = parse_trigger(&sources, id);
        files::draw(&sources, &faults);
        let Some(line) = line else {
            let why = "an `ONBUILD` instruction of the base image cannot be read";
            return Err(Problem::new(Exit::Data, why).remedy("build on another image"));
        };
        lines.push(line);
    }
    Ok(lines)
}

type Ended = Result<Ending, Failure>;

/// One instruction. The lowering is handed to a thread that may wait for the disk, and back.
async fn one(
    mut lowering: Lowering,
    stage: &mut Stage,
    line: &Line,
    shown: &Shown<'_>,
    stopped: &mut watch::Receiver<u32>,
    common: &Common,
) -> Result<(Lowering, Ended), Problem> {
    if *stopped.borrow() > 0 {
        return Ok((lowering, Err(cancelled().into())));
    }
    let (owned, configuration) = (line.clone(), stage.configuration().clone());
    let lowered = tokio::task::spawn_blocking(move || {
        let steps = lowering.steps(&owned, &configuration);
        (lowering, steps)
    });
    let (lowering, steps) = lowered.await.map_err(|error| {
        Problem::new(Exit::System, "failed to read an instruction").because(error)
    })?;
    let steps = match steps {
        Ok(steps) => steps,
        Err(problem) => return Ok((lowering, Err(problem.into()))),
    };
    let mut ending = Ending::Done;
    for step in &steps {
        match perform(stage, step, line, shown, stopped, common).await {
            Ok(ended) => ending = ended,
            Err(failure) => return Ok((lowering, Err(failure))),
        }
    }
    Ok((lowering, Ok(ending)))
}

/// One step, with its output shown while it runs.
async fn perform(
    stage: &mut Stage,
    step: &Step,
    line: &Line,
    shown: &Shown<'_>,
    stopped: &mut watch::Receiver<u32>,
    common: &Common,
) -> Ended {
    let failed =
        |error| Problem::new(Exit::System, "failed to make the output pipes").because(error);
    let (mut pipes, streams) = match common.progress.streams().map_err(failed)? {
        Some(streams) => (None, streams),
        None => {
            let (pipes, stdout, stderr) = OutputPipes::new().map_err(failed)?;
            (Some(pipes), (stdout, stderr))
        }
    };
    let (tell, stop) = mpsc::unbounded_channel();
    let mut tail = Vec::new();
    let outcome = {
        let mut performing = pin!(stage.perform(step, Io { streams, stop }));
        let mut open = pipes.is_some();
        let mut waited = false;
        loop {
            tokio::select! {
                outcome = &mut performing => break outcome,
                chunk = next(&mut pipes), if open => open = take(chunk, shown, &mut tail)?,
                () = tokio::time::sleep(ANNOUNCED_AFTER), if !waited => {
                    waited = true;
                    shown.announce();
                }
                Ok(()) = stopped.changed() => {
                    let level = *stopped.borrow();
                    // It may have ended just now.
                    tell.send(if level > 1 { Stop::Now } else { Stop::Gently }).ok();
                }
            }
        }
    };
    let rest = async {
        while take(next(&mut pipes).await, shown, &mut tail)? {}
        Ok::<(), Problem>(())
    };
    if let Ok(read) = tokio::time::timeout(LAST_WORDS, rest).await {
        read?;
    }
    match outcome {
        Ok(Outcome::Kept) => Ok(Ending::Cached),
        Ok(Outcome::Made(ran)) => {
            common.used(ran.map(|ran| ran.used));
            Ok(Ending::Done)
        }
        Ok(Outcome::Stopped) => Err(cancelled().into()),
        Ok(Outcome::Failed(ran)) => {
            let problem = failure(&ran, line, &tail, common);
            common.used(Some(ran.used.clone()));
            Err(Failure { problem, ran: Some(Box::new(ran)) })
        }
        Err(error) => Err(common.given.project.failed(line.span, error).into()),
    }
}

/// What programs write, where it comes this way.
async fn next(pipes: &mut Option<OutputPipes>) -> std::io::Result<Option<Chunk>> {
    match pipes {
        Some(pipes) => pipes.next().await,
        None => Ok(None),
    }
}

/// Shows a piece of output; `false` when there is no more.
fn take(
    chunk: std::io::Result<Option<Chunk>>,
    shown: &Shown<'_>,
    tail: &mut Vec<u8>,
) -> Result<bool, Problem> {
    let chunk = chunk.map_err(|error| {
        Problem::new(Exit::System, "failed to read the output of a step").because(error)
    })?;
    match chunk {
        None => return Ok(false),
        Some(Chunk::Closed(_)) => {}
        Some(Chunk::Bytes(stream, bytes)) => {
            shown.output(stream, &bytes);
            let start = bytes.len().saturating_sub(TAIL);
            tail.extend_from_slice(bytes.get(start..).unwrap_or_default());
            let over = tail.len().saturating_sub(TAIL);
            tail.drain(..over);
        }
    }
    Ok(true)
}

fn cancelled() -> Problem {
    Problem::new(Exit::Cancelled, "cancelled while building")
}

/// What it means that a program did not do what it should.
fn failure(ran: &Ran, line: &Line, tail: &[u8], common: &Common) -> Problem {
    let at = common.given.project.at(line.span);
    let exit = match &ran.verdict {
        Some(Verdict::Timeout { .. }) => Exit::TimedOut,
        Some(Verdict::Cancelled { .. }) => return cancelled(),
        Some(Verdict::Lost) => Exit::System,
        _ => Exit::Failed,
    };
    let sentence = ran.verdict.as_ref().map(|verdict| verdict.sentence("the command"));
    let why = sentence.unwrap_or_else(|| "the command failed".to_owned());
    let problem = Problem::new(exit, format!("{at}: {why}"));
    let Kind::Run(_) = &line.kind else { return problem };
    match (&common.given.request.network, misses_network(tail)) {
        (Network::None, true) => problem.remedy(
            "builds have no network unless they are given one: `--network HOST:PORT,…` names what \
             may be reached, `--network full` is all of it",
        ),
        (Network::Allow { .. }, true) => problem
            .remedy("only what `--network` names can be reached; `--network learn` tells more"),
        _ => problem,
    }
}

/// Whether the last words of a program say that it wanted a network.
fn misses_network(tail: &[u8]) -> bool {
    const SIGNS: [&str; 12] = [
        "could not resolve",
        "temporary failure resolving",
        "temporary failure in name resolution",
        "name or service not known",
        "name does not resolve",
        "network is unreachable",
        "network unreachable",
        "bad address",
        "enotfound",
        "eai_again",
        "failed to lookup address",
        "no such host",
    ];
    let text = String::from_utf8_lossy(tail).to_ascii_lowercase();
    SIGNS.iter().any(|sign| text.contains(sign))
}
