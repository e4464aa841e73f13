//! Registries: Debian's `docker-registry` on loopback, and what lies between it and us.

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

use std::path::Path;

use crate::binary::{Cofferdam, file};
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

/// An instance that is told this of registries.
pub(crate) fn told(directory: &Path, configuration: &str) -> Cofferdam {
    let path = file(directory, "config.yml", configuration);
    Cofferdam::new().variable("COFFERDAM_CONFIG", &path.display().to_string())
}

/// An instance that speaks to these registries without encryption.
pub(crate) fn trusting(directory: &Path, names: &[String]) -> Cofferdam {
    let entries: Vec<_> =
        names.iter().map(|name| format!("'{name}': {{ insecure: true }}")).collect();
    let configuration = format!(
        "registries: {{ {} }}\ndownloads: {{ idle: 2s, attempts: 4 }}\n",
        entries.join(", ")
    );
    told(directory, &configuration)
}
