//! `cofferdam image push`.

use cofferdam_jobs::Configuration;
use cofferdam_sandbox::image::Store;
use serde_json::json;

use super::{missing, reference};
use crate::{
    cli::PushImage,
    print,
    problem::Problem,
    registry::{self, Client, Environment, Settings},
    report::layers::Pulls,
};

pub(super) fn run(
    store: &Store,
    configuration: &Configuration,
    arguments: PushImage,
) -> Result<(), Problem> {
    let name = reference(&arguments.name)?;
    if store.find(&arguments.name)?.is_none() || name.is_embedded() {
        return Err(missing(&arguments.name));
    }
    let target = match &arguments.target {
        Some(target) => reference(target)?,
        None => name.clone(),
    };
    let client = Client::new(Settings::from(&configuration.registries), Environment::read())?;
    let shown = Pulls::new(arguments.quiet || arguments.json);
    let layers = shown.begin(&format!("pushing {target}"), "pushed");
    let packing = arguments.compression.into();
    let pushed = registry::push(&client, store, &name, &target, packing, &layers);
    drop(layers);
    shown.finish();
    let digest = pushed?;
    if arguments.json {
        let document = json!({ "name": target.to_string(), "digest": digest.to_string() });
        print::standard_output(document)
    } else if arguments.quiet {
        print::standard_output(digest)
    } else {
        print::standard_error(format_args!("pushed `{target}` ({digest})"));
        Ok(())
    }
}
