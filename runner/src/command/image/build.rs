//! `cofferdam image build`.

use std::{collections::BTreeMap, fs, path::Path, pin::pin, sync::Arc};

use cofferdam_jobs::{Configuration, dockerfile, state::Stop};
use cofferdam_sandbox::{
    Network, Sandbox,
    cache::Caches,
    image::{Image, Platform, Reference, Store},
    spawner::Spawner,
};
use tokio::sync::mpsc;

use super::{document, reference, tell};
use crate::{
    build::{
        BuildCaches, Engine,
        dockerfile::{Progress, Project, Request, build, wanted},
    },
    cli::{BuildImage, SecretArgument, SecretSource},
    execute::CACHE_SIZE,
    exit::Exit,
    image_bounds,
    images::{self, Wanted},
    limits,
    log::{needles::Needles, secret::Secret},
    network, print,
    problem::Problem,
    scratch,
    supervise::Interrupts,
    variables,
};

/// Stages that are built at the same time.
const SIDE_BY_SIDE: usize = 4;

/// Builds an image; returns the status that this process shall end with.
pub(in crate::command) async fn run(
    arguments: BuildImage,
    configuration: &Configuration,
    state: &Path,
    spawner: Spawner,
) -> Result<u8, Problem> {
    let names = arguments.tag.iter().map(|name| reference(name));
    let names = names.collect::<Result<Vec<Reference>, Problem>>()?;
    let secrets = secrets(&arguments.secret)?;
    let needles = Needles::new(secrets.values())
        .map_err(|error| Problem::new(Exit::Usage, error.to_string()))?;
    let request = Request {
        selection: dockerfile::Request {
            target: arguments.target.clone(),
            arguments: values(&arguments.build_arg)?,
            platform: Platform::host().to_string(),
        },
        network: reach(&arguments)?,
        limits: limits::of_arguments(&arguments.limits, configuration)?,
        side_by_side: SIDE_BY_SIDE,
        names: names.clone(),
        secrets,
    };
    let file = arguments.file.clone().unwrap_or_else(|| arguments.context.join("Dockerfile"));
    let project = Project::read(&file, &arguments.context)?;
    let selection = project.select(&request.selection)?;
    let mut interrupts = Interrupts::new().map_err(|error| {
        Problem::new(Exit::System, "failed to watch for signals").because(error)
    })?;
    let mut needed = Wanted::default();
    for name in wanted(&project, &selection) {
        needed.add(&name, arguments.pull.into());
    }
    let images =
        images::take(&Store::open(state)?, state, configuration, needed, &mut interrupts).await?;
    let sandbox = Sandbox::open_with(spawner, state, &limits::policy(configuration))?;
    limits::tell_missing(&sandbox);
    let scratch = scratch::kind(arguments.limits.scratch, configuration);
    let scope = fs::canonicalize(&file).unwrap_or_default().display().to_string();
    let caches = BuildCaches::new(Caches::open(state, CACHE_SIZE)?, &scope);
    let engine = Engine::new(sandbox.clone(), state.to_owned(), scratch)
        .afresh(arguments.no_cache)
        .with_caches(caches);
    let progress = Progress::new(arguments.quiet, Arc::new(needles));
    let (tell, stop) = mpsc::unbounded_channel();
    let built = {
        let mut building =
            pin!(build(engine, project, &selection, images, request, progress, stop));
        let mut next = Stop::Gently;
        loop {
            tokio::select! {
                built = &mut building => break built,
                () = interrupts.next() => {
                    // It may have ended just now.
                    tell.send(std::mem::replace(&mut next, Stop::Now)).ok();
                }
            }
        }
    };
    let residue = sandbox.close().await;
    for left in &residue {
        print::standard_error(format_args!("cofferdam: left behind: {left}"));
    }
    let image = built.image.map_err(|failure| failure.problem)?;
    image_bounds::tidy(&Store::open(state)?, configuration);
    show(&arguments, &names, &image)?;
    Ok(if residue.is_empty() { Exit::Passed } else { Exit::System }.code())
}

fn show(arguments: &BuildImage, names: &[Reference], image: &Arc<Image>) -> Result<(), Problem> {
    let Some(name) = names.first() else {
        return match (arguments.json, arguments.quiet) {
            (true, _) => print::standard_output(document(None, image)),
            (false, true) => print::standard_output(&image.digest),
            (false, false) => {
                print::standard_error(format_args!("built {}", image.digest));
                print::standard_error(format_args!(
                    "it has no name, so it goes with the next `cofferdam image gc`; `--tag NAME` \
                     gives it one"
                ));
                Ok(())
            }
        };
    };
    if arguments.json {
        print::standard_output(document(Some(name), image))
    } else if arguments.quiet {
        print::standard_output(&image.digest)
    } else {
        tell("built", name, image);
        Ok(())
    }
}

/// `NAME=VALUE`, or `NAME` with the caller's value.
fn values(arguments: &[String]) -> Result<BTreeMap<String, String>, Problem> {
    let mut values = BTreeMap::new();
    for argument in arguments {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), std::env::var(argument).ok()),
        };
        if name.is_empty() || argument.contains('\0') {
            let message = format!("`--build-arg {argument}` has no name before the `=`");
            return Err(Problem::new(Exit::Usage, message).remedy("write `--build-arg NAME=VALUE`"));
        }
        // As with docker, one that the caller does not have is not given at all.
        if let Some(value) = value {
            values.insert(name.to_owned(), value);
        }
    }
    Ok(values)
}

/// The secrets that the caller gives, which are not seen in core files either.
fn secrets(arguments: &[String]) -> Result<BTreeMap<String, Secret>, Problem> {
    if !arguments.is_empty() {
        variables::hide_memory()?;
    }
    let mut secrets = BTreeMap::new();
    for argument in arguments {
        let SecretArgument { id, source } = argument.parse().map_err(|why| {
            let remedy = "write `--secret id=NAME,src=FILE` or `--secret id=NAME,env=VARIABLE`";
            Problem::new(Exit::Usage, format!("a `--secret` cannot be read: {why}")).remedy(remedy)
        })?;
        let secret = match &source {
            SecretSource::Variable(name) => {
                variables::secret(&id, variables::secret_from_environment(name)?)
            }
            SecretSource::File(path) => variables::secret_from_file(&id, path),
        }?;
        if secrets.insert(id.clone(), secret).is_some() {
            let message = format!("the secret `{id}` is given twice");
            return Err(Problem::new(Exit::Usage, message).remedy("give it once"));
        }
    }
    Ok(secrets)
}

fn reach(arguments: &BuildImage) -> Result<Network, Problem> {
    let asked = arguments.network.0.clone();
    if matches!(asked, Network::Learn { .. }) {
        let message = "`--network learn` is for `cofferdam exec`";
        return Err(Problem::new(Exit::Usage, message)
            .remedy("run the command with `cofferdam exec --network learn` once"));
    }
    network::with_bandwidth(asked, arguments.limits.bandwidth)
}
