//! `cofferdam image unpack` and `cofferdam image tag`.

use std::path::Path;

use cofferdam_sandbox::image::Store;
use serde_json::json;

use super::{found, host, missing, reference};
use crate::{
    print,
    problem::Problem,
    report::quantity::{Bytes, count},
};

pub(super) fn unpack(
    store: &Store,
    name: &str,
    directory: &Path,
    json: bool,
) -> Result<(), Problem> {
    let image = found(store.find(name)?, name)?;
    if !image.host_mounts.is_empty() {
        return Err(host());
    }
    let written = image.write_out(directory)?;
    if json {
        return print::standard_output(json!({
            "name": name,
            "id": image.digest.to_string(),
            "path": directory.display().to_string(),
            "entries": written.entries,
            "bytes": written.bytes,
        }));
    }
    print::standard_error(format_args!(
        "unpacked `{name}` to `{}` ({}, {})",
        directory.display(),
        count(written.entries, "file"),
        Bytes(written.bytes)
    ));
    Ok(())
}

pub(super) fn tag(store: &Store, name: &str, new: &str, json: bool) -> Result<(), Problem> {
    let new = reference(new)?;
    if !store.tag(name, &new)? {
        return Err(missing(name));
    }
    if json {
        let image = found(store.find(&new.to_string())?, name)?;
        let document = json!({ "name": new.to_string(), "id": image.digest.to_string() });
        return print::standard_output(document);
    }
    print::standard_error(format_args!("`{new}` is `{name}` now"));
    Ok(())
}
