//! An operator's file: refused with places, or values that a machine can be run by.

use cofferdam_jobs::{Sources, configuration};

use crate::diagnostics;

pub(crate) fn run(input: &[u8]) {
    let mut sources = Sources::new();
    let file = sources.add("/etc/cofferdam.yml", input);
    let configuration = match configuration::parse(&sources, file) {
        Ok(configuration) => configuration,
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without a reason");
            return diagnostics::check(&faults, &sources);
        }
    };
    let registries = &configuration.registries;
    let files = registries.named.iter().filter_map(|registry| registry.ca.as_ref());
    for path in configuration.state.iter().chain(files) {
        assert!(path.starts_with('/'), "{path:?} depends on where the command is started");
    }
    let capacity = configuration.capacity;
    assert!(capacity.jobs.is_none_or(|jobs| (1..=10_000).contains(&jobs)), "{capacity:?}");
    // With nothing of something, no job would ever start, and nobody would be told why.
    for most in [capacity.millicpus, capacity.memory, capacity.disk] {
        assert_ne!(most, Some(0), "{capacity:?}");
    }
}
