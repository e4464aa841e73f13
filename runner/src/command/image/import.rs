//! `cofferdam image import`.

use std::path::Path;

use cofferdam_sandbox::{
    Error, Fault,
    image::{ImportOptions, Store},
};

use super::{document, reference, stop::until_interrupted, tell};
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
    let failed = |error: Error| match error.fault() {
        // What was named is no image, or one that cannot be used.
        Fault::Pipeline => Problem::sandbox(Exit::Data, error),
        Fault::System => Problem::sandbox(Exit::System, error),
    };
    let doing = format!("importing `{name}`");
    let imported = until_interrupted(&doing, &layers, failed, |progress| {
        store.import(path, &name, &ImportOptions::default(), progress)
    });
    drop(layers);
    pulls.finish();
    let image = imported?;
    if json {
        print::standard_output(document(Some(&name), &image))
    } else {
        tell("imported", &name, &image);
        Ok(())
    }
}
