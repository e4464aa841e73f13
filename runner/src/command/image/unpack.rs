//! `cofferdam image unpack` and `cofferdam image tag`.

use std::path::Path;

use cofferdam_sandbox::image::Store;

use super::{found, missing, reference};
use crate::{
    exit::Exit,
    print,
    problem::Problem,
    report::quantity::{Bytes, count},
};

pub(super) fn unpack(store: &Store, name: &str, directory: &Path) -> Result<(), Problem> {
    let image = found(store.find(name)?, name)?;
    if !image.host_mounts.is_empty() {
        return Err(Problem::new(Exit::Usage, "`host` is this machine, not an image of the store"));
    }
    let written = image.write_out(directory)?;
    print::standard_error(format_args!(
        "unpacked `{name}` to `{}` ({}, {})",
        directory.display(),
        count(written.entries, "file"),
        Bytes(written.bytes)
    ));
    Ok(())
}

pub(super) fn tag(store: &Store, name: &str, new: &str) -> Result<(), Problem> {
    let new = reference(new)?;
    if !store.tag(name, &new)? {
        return Err(missing(name));
    }
    print::standard_error(format_args!("`{new}` is `{name}` now"));
    Ok(())
}
