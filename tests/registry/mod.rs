//! Registries: Debian's `docker-registry` on loopback, and what lies between it and us.

mod docker;
mod engine;
mod faults;
mod interrupted;
pub(crate) mod picture;
mod policy;
mod proxy;
mod pull;
mod push;
mod server;
mod token;
mod ways;

use std::{fs, path::Path};

use crate::binary::{self, Cofferdam, file};
use server::Server;

/// What the tests of this folder need.
macro_rules! needs_registry {
    () => {
        $crate::host::needs!(
            $crate::host::Need::Busybox,
            $crate::host::Need::Program("docker-registry"),
            $crate::host::Need::Program("skopeo"),
            $crate::host::Need::Program("htpasswd"),
            $crate::host::Need::Program("openssl"),
        )
    };
}
pub(crate) use needs_registry;

/// An instance that is told this of registries, beside what all tests are told.
pub(crate) fn told(directory: &Path, configuration: &str) -> Cofferdam {
    let given = fs::read_to_string(binary::configuration()).expect("the tests' configuration");
    let path = file(directory, "config.yml", given + configuration);
    Cofferdam::new().variable("COFFERDAM_CONFIG", &path.display().to_string())
}

/// An instance that speaks to these registries without encryption, and waits for them longer than a
/// busy machine keeps anyone waiting.
pub(crate) fn trusting(directory: &Path, names: &[String]) -> Cofferdam {
    trusting_for(directory, names, "1m")
}

/// As [`trusting`], with this as the longest that a registry may say nothing.
pub(crate) fn trusting_for(directory: &Path, names: &[String], idle: &str) -> Cofferdam {
    let entries: Vec<_> =
        names.iter().map(|name| format!("'{name}': {{ insecure: true }}")).collect();
    let configuration = format!(
        "registries: {{ {} }}\ndownloads: {{ idle: {idle}, attempts: 4 }}\n",
        entries.join(", ")
    );
    told(directory, &configuration)
}
