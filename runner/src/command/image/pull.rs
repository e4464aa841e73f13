//! `cofferdam image pull`.

use cofferdam_jobs::Configuration;
use cofferdam_sandbox::image::{ImportLimits, Platform, PullOptions, Store};

use super::{document, reference, stop::until_interrupted, tell};
use crate::{
    cli::PullImage,
    print,
    problem::Problem,
    registry::{self, Client, Environment, Settings},
    report::layers::Pulls,
};

pub(super) fn run(
    store: &Store,
    configuration: &Configuration,
    arguments: PullImage,
) -> Result<(), Problem> {
    let name = reference(&arguments.name)?;
    let client = Client::new(Settings::from(&configuration.registries), Environment::read())?;
    let options = PullOptions {
        platform: arguments.platform.unwrap_or_else(Platform::host),
        limits: ImportLimits::default(),
    };
    let pulls = Pulls::new(arguments.quiet || arguments.json);
    let layers = pulls.image(&arguments.name);
    let doing = format!("pulling `{name}`");
    let pulled = until_interrupted(&doing, &layers, Problem::from, |progress| {
        registry::pull(&client, store, &name, &options, progress)
    });
    drop(layers);
    pulls.finish();
    let image = pulled?;
    if arguments.json {
        print::standard_output(document(Some(&name), &image))
    } else if arguments.quiet {
        print::standard_output(&image.digest)
    } else {
        tell("pulled", &name, &image);
        Ok(())
    }
}
