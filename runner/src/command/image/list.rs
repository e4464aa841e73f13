//! `cofferdam image ls`.

use cofferdam_sandbox::image::{ImageSummary, Store};
use serde_json::json;

use super::{inspect::short, table};
use crate::{print, problem::Problem, report::quantity::Bytes};

pub(super) fn run(store: &Store, json: bool) -> Result<(), Problem> {
    let images = store.list()?;
    let bytes = |image: &ImageSummary| -> Result<u64, Problem> {
        // It may go while the list is made.
        let details = store.details(&image.reference.to_string())?;
        Ok(details.map_or(0, |details| details.layers.iter().map(|layer| layer.bytes).sum()))
    };
    if json {
        let mut entries = Vec::new();
        for image in &images {
            let (name, id) = (image.reference.to_string(), image.id.to_string());
            entries.push(json!({ "name": name, "id": id, "bytes": bytes(image)? }));
        }
        return print::standard_output(serde_json::Value::from(entries));
    }
    let mut table = table();
    table.set_header(["NAME", "ID", "SIZE"]);
    table.add_row(["host", "", "this host's /usr, read-only"]);
    for image in &images {
        let (name, size) = (image.reference.to_string(), Bytes(bytes(image)?).to_string());
        table.add_row([name, short(&image.id), size]);
    }
    print::standard_output(table)
}
