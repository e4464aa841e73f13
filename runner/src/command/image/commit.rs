//! `cofferdam image commit`: a name for what a job has written.

use std::path::Path;

use cofferdam_sandbox::image::Store;

use super::{document, found, kept, missing, reference, tell};
use crate::{cli::CommitImage, print, problem::Problem};

/// The image is there since the run: all that it gets is a name, so it is the same however often.
pub(super) fn run(store: &Store, state: &Path, arguments: &CommitImage) -> Result<(), Problem> {
    let name = reference(&arguments.name)?;
    let what = kept::find(store, state, &arguments.run, &arguments.job)?;
    let before = store.find(&name.to_string()).ok().flatten();
    let id = what.state.image.digest.to_string();
    if !store.tag(&id, &name)? {
        return Err(missing(&id));
    }
    let image = found(store.find(&name.to_string())?, &arguments.name)?;
    if arguments.json {
        return print::standard_output(document(Some(&name), &image));
    }
    tell(&format!("{} is", what.name), &name, &image);
    if let Some(before) = before.filter(|before| before.digest != image.digest) {
        print::standard_error(format_args!(
            "before, `{name}` was {0}; to name that: cofferdam image tag {0} NAME",
            before.digest
        ));
    }
    Ok(())
}
