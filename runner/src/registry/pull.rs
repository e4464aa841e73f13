//! Pulling: from a registry into the store.

use std::ops::ControlFlow;

use cofferdam_sandbox::{
    Error, Result,
    image::{Image, Progress, PullOptions, Reference, Store},
};

use super::Client;

/// Pulls the image that `reference` names, whether or not the store has it, and takes it for use.
/// Layers that the store has are not fetched again.
///
/// # Errors
/// Where it cannot be had, or is not what it should be; the store is then as it was.
pub(crate) fn pull(
    client: &Client,
    store: &Store,
    reference: &Reference,
    options: &PullOptions,
    progress: &(dyn Fn(Progress) -> ControlFlow<()> + Sync),
) -> Result<Image> {
    if reference.is_embedded() {
        let doing = format!("pull `{reference}`");
        let why = "the name `host` belongs to the embedded image, which is always there";
        return Err(Error::pipeline(doing, why));
    }
    let repository = client.repository(reference)?;
    let root = repository.root(reference)?;
    store.pull(&repository, root, reference, options, progress)
}
