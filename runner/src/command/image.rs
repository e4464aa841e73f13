//! `cofferdam image`.

use std::{ops::ControlFlow, path::Path, time::Duration};

use cofferdam_sandbox::image::{ImportOptions, Progress, Reference, Store};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::{cli::ImageCommand, exit::Exit, print, problem::Problem};

/// Runs one of the image commands.
pub(super) fn run(command: ImageCommand, state: &Path) -> Result<u8, Problem> {
    let store = Store::open(state)?;
    match command {
        ImageCommand::Import { path, name, json } => import(&store, &path, &name, json)?,
        ImageCommand::Ls { json } => list(&store, json)?,
        ImageCommand::Rm { name } => {
            for name in name {
                remove(&store, &name)?;
            }
        }
    }
    Ok(Exit::Passed.code())
}

fn reference(name: &str) -> Result<Reference, Problem> {
    name.parse().map_err(|error: cofferdam_sandbox::image::InvalidReference| {
        Problem::new(Exit::Usage, format!("`{name}` is not an image name")).because(error)
    })
}

fn import(store: &Store, path: &Path, name: &str, json: bool) -> Result<(), Problem> {
    let name = reference(name)?;
    if !path.exists() {
        return Err(Problem::new(Exit::NoInput, format!("there is no `{}`", path.display()))
            .remedy(
                "name an OCI image layout, a `docker save` archive or a root file system tar",
            ));
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template(
        "{spinner} importing {msg} {bytes}/{total_bytes} {bytes_per_sec} {wide_bar}",
    );
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(name.to_string());
    bar.enable_steady_tick(Duration::from_millis(100));
    let totals = std::sync::Mutex::new(std::collections::BTreeMap::new());
    let progress = |event: Progress| {
        if let Progress::Read { layer, bytes, total } = event
            && let Ok(mut totals) = totals.lock()
        {
            totals.insert(layer, total);
            bar.set_length(totals.values().sum());
            bar.inc(bytes);
        }
        ControlFlow::Continue(())
    };
    let imported = store.import(path, &name, &ImportOptions::default(), &progress);
    bar.finish_and_clear();
    let image = imported?;
    let layers = image.layers.len();
    if json {
        let document = json!({
            "name": name.to_string(),
            "id": image.digest.to_string(),
            "layers": layers,
            "architecture": image.config.architecture,
            "os": image.config.os,
            "created": image.config.created,
        });
        print::standard_output(document)?;
    } else {
        let layers = crate::report::quantity::count(layers as u64, "layer");
        print::standard_error(format_args!("imported `{name}` ({layers}, {})", image.digest));
        print::standard_error(format_args!("try it: cofferdam exec {name} -- sh -c 'echo hello'"));
    }
    Ok(())
}

fn list(store: &Store, json: bool) -> Result<(), Problem> {
    let images = store.list()?;
    if json {
        let entries: Vec<_> = images
            .iter()
            .map(|image| json!({ "name": image.reference.to_string(), "id": image.id.to_string() }))
            .collect();
        return print::standard_output(serde_json::Value::from(entries));
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["NAME", "ID"]);
    table.add_row(["host", "(this host's /usr, read-only)"]);
    for image in &images {
        table.add_row([image.reference.to_string(), image.id.to_string()]);
    }
    print::standard_output(table)
}

fn remove(store: &Store, name: &str) -> Result<(), Problem> {
    let removed = store.remove(&reference(name)?)?;
    if !removed.name {
        return Err(Problem::new(Exit::NoInput, format!("there is no image `{name}`"))
            .remedy("`cofferdam image ls` lists them"));
    }
    let in_use = match removed.layers_in_use {
        0 => String::new(),
        number => format!("; {number} in use stay until the run has ended"),
    };
    print::standard_error(format_args!("removed `{name}` ({} layers{in_use})", removed.layers));
    Ok(())
}
