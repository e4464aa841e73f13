//! `cofferdam image rm`.

use cofferdam_sandbox::image::Store;
use serde_json::json;

use super::{missing, reference};
use crate::{print, problem::Problem, report::quantity::count};

pub(super) fn run(store: &Store, names: &[String], json: bool) -> Result<(), Problem> {
    for name in names {
        let swept = store.remove(&reference(name)?)?.ok_or_else(|| missing(name))?;
        if json {
            print::standard_output(json!({
                "name": name,
                "images": swept.images,
                "layers": swept.layers,
                "bytes": swept.bytes,
                "layers_in_use": swept.layers_in_use,
            }))?;
            continue;
        }
        let in_use = match swept.layers_in_use {
            0 => String::new(),
            number => format!("; {number} in use stay until the run has ended"),
        };
        let layers = count(swept.layers as u64, "layer");
        print::standard_error(format_args!("removed `{name}` ({layers}{in_use})"));
    }
    Ok(())
}
