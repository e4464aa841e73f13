//! `cofferdam image ls`.

use cofferdam_sandbox::image::Store;
use serde_json::json;

use super::table;
use crate::{print, problem::Problem};

pub(super) fn run(store: &Store, json: bool) -> Result<(), Problem> {
    let images = store.list()?;
    if json {
        let entries: Vec<_> = images
            .iter()
            .map(|image| json!({ "name": image.reference.to_string(), "id": image.id.to_string() }))
            .collect();
        return print::standard_output(serde_json::Value::from(entries));
    }
    let mut table = table();
    table.set_header(["NAME", "ID"]);
    table.add_row(["host", "(this host's /usr, read-only)"]);
    for image in &images {
        table.add_row([image.reference.to_string(), image.id.to_string()]);
    }
    print::standard_output(table)
}
