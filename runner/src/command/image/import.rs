//! `cofferdam image import`.

use std::path::Path;

use cofferdam_sandbox::Fault;
use cofferdam_sandbox::image::{ImportOptions, Store};

use super::{document, reference, tell};
use crate::{exit::Exit, print, problem::Problem, report::layers::Pulls};

pub(super) fn run(store: &Store, path: &Path, name: &str, json: bool) -> Result<(), Problem> {
    let name = reference(name)?;
    if !path.exists() {
        return Err(Problem::new(Exit::NoInput, format!("there is no `{}`", path.display()))
            .remedy(
                "name an OCI image layout, a `docker save` archive or a root file system tar",
            ));
    }
    let pulls = Pulls::new(json);
    let layers = pulls.begin(&format!("importing {name}"), "unpacked");
    let imported =
        store.import(path, &name, &ImportOptions::default(), &|event| layers.tell(event));
    drop(layers);
    pulls.finish();
    let image = imported.map_err(|error| match error.fault() {
        // What was named is no image, or one that cannot be used.
        Fault::Pipeline => Problem::sandbox(Exit::Data, error),
        Fault::System => Problem::sandbox(Exit::System, error),
    })?;
    if json {
        print::standard_output(document(Some(&name), &image))
    } else {
        tell("imported", &name, &image);
        Ok(())
    }
}
