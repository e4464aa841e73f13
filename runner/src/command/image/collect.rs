//! `cofferdam image gc`.

use std::time::Duration;

use cofferdam_jobs::Configuration;
use cofferdam_sandbox::image::{Collected, Keep, Store};
use serde_json::json;

use crate::{
    image_bounds, print,
    problem::Problem,
    report::quantity::{Bytes, count},
};

pub(super) fn run(
    store: &Store,
    configuration: &Configuration,
    asked: Option<u64>,
    dry_run: bool,
    json: bool,
) -> Result<(), Problem> {
    let keep = match asked {
        Some(bytes) => Keep { bytes, free: 0, used_within: Duration::ZERO },
        None => image_bounds::of(configuration),
    };
    let collected = store.collect(keep, dry_run)?;
    let Collected { names, steps, states, swept } = &collected;
    if json {
        return print::standard_output(json!({
            "dry_run": dry_run,
            "names": names.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "build_steps": steps,
            "job_states": states,
            "images": swept.images,
            "layers": swept.layers,
            "bytes": swept.bytes,
            "layers_in_use": swept.layers_in_use,
            "left": swept.left,
        }));
    }
    let done = if dry_run { "would remove" } else { "removed" };
    for name in names {
        print::standard_output(format_args!("{done} `{name}`"))?;
    }
    if *steps > 0 {
        let steps = count(*steps as u64, "kept build step");
        print::standard_output(format_args!("{done} {steps}"))?;
    }
    if *states > 0 {
        let states = count(*states as u64, "kept state");
        print::standard_output(format_args!("{done} {states} of jobs"))?;
    }
    let layers = count(swept.layers as u64, "layer");
    print::standard_output(format_args!(
        "{done} {layers} ({}); {} are left",
        Bytes(swept.bytes),
        Bytes(swept.left)
    ))
}
