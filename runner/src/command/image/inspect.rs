//! `cofferdam image inspect` and `cofferdam image history`.

use cofferdam_sandbox::image::{Digest, ImageDetails, Made, Store};
use serde_json::{Value, json};

use super::{found, table};
use crate::{
    print,
    problem::Problem,
    report::{
        quantity::{Bytes, count},
        style::one_line,
    },
};

pub(super) fn inspect(store: &Store, name: &str, json: bool) -> Result<(), Problem> {
    let image = found(store.details(name)?, name)?;
    if json {
        return print::standard_output(document(&image));
    }
    let list = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>().join("\n");
    let mut table = table();
    let mut row = |what: &str, value: String| {
        if !value.is_empty() {
            let lines: Vec<_> = value.lines().map(one_line).collect();
            table.add_row([what.to_owned(), lines.join("\n")]);
        }
    };
    let config = &image.config;
    row("id", image.id.to_string());
    row("names", list(&mut image.names.iter().map(ToString::to_string)));
    row("manifest", list(&mut image.manifests.iter().map(ToString::to_string)));
    row("platform", format!("{}/{}", config.os, config.architecture));
    row("created", config.created.clone().unwrap_or_default());
    row("user", config.user.clone());
    row("working directory", config.working_dir.clone());
    row("entry point", words(&config.entrypoint));
    row("command", words(&config.command));
    row("environment", list(&mut config.env.iter().map(|(name, value)| format!("{name}={value}"))));
    let bytes = image.layers.iter().map(|layer| layer.bytes).sum();
    row("size", format!("{} in {}", Bytes(bytes), count(image.layers.len() as u64, "layer")));
    for layer in &image.layers {
        let what = format!("{} ({} entries, {})", layer.diff_id, layer.entries, Bytes(layer.bytes));
        row("layer", what);
    }
    print::standard_output(table)
}

pub(super) fn history(store: &Store, name: &str, json: bool) -> Result<(), Problem> {
    let image = found(store.details(name)?, name)?;
    let steps = steps(&image);
    if json {
        let steps: Vec<_> = steps
            .iter()
            .map(|(made, layer)| {
                json!({
                    "created": made.created,
                    "created_by": made.created_by,
                    "author": made.author,
                    "comment": made.comment,
                    "layer": layer.map(|layer| layer.diff_id.to_string()),
                    "bytes": layer.map(|layer| layer.bytes),
                })
            })
            .collect();
        return print::standard_output(Value::from(steps));
    }
    let mut table = table();
    table.set_header(["CREATED", "SIZE", "LAYER", "MADE BY"]);
    for (made, layer) in steps.iter().rev() {
        let by = [&made.created_by, &made.author, &made.comment];
        let by: Vec<_> = by.into_iter().flatten().map(String::as_str).collect();
        table.add_row([
            made.created.as_deref().map(one_line).unwrap_or_default(),
            layer.map_or_else(String::new, |layer| Bytes(layer.bytes).to_string()),
            layer.map_or_else(String::new, |layer| short(&layer.diff_id)),
            one_line(&by.join(" · ")),
        ]);
    }
    print::standard_output(table)
}

type Step<'a> = (Made, Option<&'a cofferdam_sandbox::image::LayerDetails>);

/// What the image says of its making, each with its layer; layers of which it says nothing come
/// last.
fn steps(image: &ImageDetails) -> Vec<Step<'_>> {
    let mut layers = image.layers.iter();
    let mut steps: Vec<Step<'_>> = image
        .history
        .iter()
        .map(|made| (made.clone(), if made.empty_layer { None } else { layers.next() }))
        .collect();
    steps.extend(layers.map(|layer| (Made::default(), Some(layer))));
    steps
}

fn words(words: &[String]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    words.join(" ")
}

fn document(image: &ImageDetails) -> Value {
    let layers = image.layers.iter().map(|layer| {
        json!({
            "diff_id": layer.diff_id.to_string(),
            "entries": layer.entries,
            "bytes": layer.bytes,
        })
    });
    let texts = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>();
    json!({
        "id": image.id.to_string(),
        "names": texts(&mut image.names.iter().map(ToString::to_string)),
        "manifests": texts(&mut image.manifests.iter().map(ToString::to_string)),
        "layers": layers.collect::<Vec<_>>(),
        // As the image came with it.
        "configuration": serde_json::from_str::<Value>(&image.configuration).unwrap_or_default(),
    })
}

/// As much of a digest as people tell things apart by.
pub(super) fn short(digest: &Digest) -> String {
    digest.hex().chars().take(12).collect()
}
