//! `cofferdam image pull`.

use cofferdam_jobs::Configuration;
use cofferdam_sandbox::image::{ImportLimits, Platform, PullOptions, Store};

use super::{document, reference, tell};
use crate::{
    cli::Pull,
    print,
    problem::Problem,
    registry::{self, Client, Environment, Settings},
    report::layers::Layers,
};

pub(super) fn run(
    store: &Store,
    configuration: &Configuration,
    arguments: Pull,
) -> Result<(), Problem> {
    let name = reference(&arguments.name)?;
    let client = Client::new(Settings::from(&configuration.registries), Environment::read())?;
    let options = PullOptions {
        platform: arguments.platform.unwrap_or_else(Platform::host),
        limits: ImportLimits::default(),
    };
    let layers = if arguments.quiet {
        Layers::silent()
    } else {
        Layers::new(&format!("pulling {name}"), arguments.json)
    };
    let pulled = registry::pull(&client, store, &name, &options, &|event| layers.tell(event));
    layers.finish();
    let image = pulled?;
    if arguments.json {
        print::standard_output(document(&name, &image))
    } else if arguments.quiet {
        print::standard_output(&image.digest)
    } else {
        tell("pulled", &name, &image);
        Ok(())
    }
}
