//! `cofferdam image`.

mod build;
mod collect;
mod commit;
mod diff;
mod export;
mod import;
mod inspect;
mod kept;
mod list;
mod pull;
mod push;
mod remove;
mod stop;
mod unpack;

use std::path::Path;

use cofferdam_jobs::Configuration;
use cofferdam_sandbox::image::{Image, Reference, Store};
use serde_json::{Value, json};

use crate::{
    cli::ImageCommand, exit::Exit, image_bounds, print, problem::Problem, report::quantity::count,
};

pub(super) use build::run as build;

/// Runs one of the image commands, but for the one that starts containers.
pub(super) fn run(
    command: ImageCommand,
    configuration: &Configuration,
    state: &Path,
) -> Result<u8, Problem> {
    let store = Store::open(state)?;
    match command {
        ImageCommand::Pull(arguments) => {
            pull::run(&store, configuration, arguments)?;
            image_bounds::tidy(&store, configuration);
        }
        ImageCommand::Import { path, name, json } => {
            import::run(&store, &path, &name, json)?;
            image_bounds::tidy(&store, configuration);
        }
        // `main` starts the spawner for it.
        ImageCommand::Build(_) => {
            return Err(Problem::new(Exit::System, "the spawner was not started"));
        }
        ImageCommand::Push(arguments) => push::run(&store, configuration, arguments)?,
        ImageCommand::Export(arguments) => export::run(&store, arguments)?,
        ImageCommand::Ls { json } => list::run(&store, json)?,
        ImageCommand::Inspect { name, json } => inspect::inspect(&store, &name, json)?,
        ImageCommand::History { name, json } => inspect::history(&store, &name, json)?,
        ImageCommand::Commit(arguments) => commit::run(&store, state, &arguments)?,
        ImageCommand::Diff { before, after, json } => {
            return diff::run(&store, state, (&before, after.as_deref()), json);
        }
        ImageCommand::Tag { name, new, json } => unpack::tag(&store, &name, &new, json)?,
        ImageCommand::Unpack { name, directory, json } => {
            unpack::unpack(&store, &name, &directory, json)?;
        }
        ImageCommand::Gc { keep, dry_run, json } => {
            collect::run(&store, configuration, keep, dry_run, json)?;
        }
        ImageCommand::Rm { name, json } => remove::run(&store, &name, json)?,
    }
    Ok(Exit::Passed.code())
}

/// Reads an image name; the message points at what is wrong with it.
fn reference(name: &str) -> Result<Reference, Problem> {
    name.parse().map_err(|error: cofferdam_sandbox::image::InvalidReference| {
        let span = error.span();
        let before = name.get(..span.start).unwrap_or_default().chars().count();
        let wrong = name.get(span).unwrap_or_default().chars().count();
        // A name of several lines, or none, has no place to point at.
        let picture = if wrong == 0 || name.chars().any(char::is_control) {
            String::new()
        } else {
            format!("\n  {name}\n  {}{}\n", " ".repeat(before), "^".repeat(wrong))
        };
        let why = error.why();
        Problem::new(
            Exit::Usage,
            format!("`{}` is not an image name: {why}{picture}", name.escape_debug()),
        )
        .remedy("image names look like `debian:12` or `registry.example:5000/team/app@sha256:…`")
    })
}

/// What the store found, or that it has no such image.
fn found<T>(found: Option<T>, name: &str) -> Result<T, Problem> {
    found.ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Problem {
    if name == "host" {
        return host();
    }
    Problem::new(Exit::NoInput, format!("there is no image `{}`", name.escape_debug()))
        .remedy("`cofferdam image ls` lists them")
}

/// The image `host` has no layers: it starts containers, and that is all.
fn host() -> Problem {
    Problem::new(Exit::Usage, "`host` is this machine, not an image of the store")
        .remedy("name an image of `cofferdam image ls`, or start a container from `host`")
}

/// A table without lines.
fn table() -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table
}

/// An image that was taken in, as `--json` prints it.
fn document(name: Option<&Reference>, image: &Image) -> Value {
    json!({
        "name": name.map(ToString::to_string),
        "id": image.digest.to_string(),
        "layers": image.layers.len(),
        "architecture": image.config.architecture,
        "os": image.config.os,
        "created": image.config.created,
    })
}

/// Says on standard error what was done, and what can be done next.
fn tell(done: &str, name: &Reference, image: &Image) {
    let layers = count(image.layers.len() as u64, "layer");
    print::standard_error(format_args!("{done} `{name}` ({layers}, {})", image.digest));
    print::standard_error(format_args!("try it: cofferdam exec {name} -- sh -c 'echo hello'"));
}
