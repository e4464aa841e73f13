//! How registries are reached: the operator's word, never a pipeline's.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use cofferdam_jobs::model::{self, Registries};
use cofferdam_sandbox::image::Reference;

/// What the operator says about registries, with defaults for the rest.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The registry that names without one are of.
    pub(crate) default: String,
    /// What is said of single registries, by host and port.
    pub(crate) registries: BTreeMap<String, Registry>,
    /// How long a connection may be silent before it counts as broken.
    pub(crate) idle: Duration,
    /// How often something is tried that fails for reasons that may pass.
    pub(crate) attempts: u32,
}

/// What is said of one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registry {
    /// Spoken to without encryption.
    pub(crate) insecure: bool,
    /// Asked first, in this order: hosts and ports that have the same repositories.
    pub(crate) mirrors: Vec<String>,
    /// Certificates (PEM) that vouch for it, beside those that the host trusts.
    pub(crate) ca: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default: DOCKER_HUB.to_owned(),
            registries: BTreeMap::new(),
            idle: Duration::from_secs(30),
            attempts: 5,
        }
    }
}

/// The name of Docker's registry, which is served by a host of another name.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// Where an image is: the registry as people name it, and the repository there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) registry: String,
    pub(crate) repository: String,
}

impl Place {
    /// Host and port that answer for the registry.
    pub(super) fn host(&self) -> &str {
        if self.registry == DOCKER_HUB { DOCKER_HUB_HOST } else { &self.registry }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)
    }
}

impl From<&Registries> for Settings {
    fn from(said: &Registries) -> Self {
        let default = Self::default();
        let registry = |registry: &model::Registry| {
            let mirrors = registry.mirrors.iter().map(|mirror| mirror.value.clone()).collect();
            let settings = Registry {
                insecure: registry.insecure.as_ref().is_some_and(|insecure| insecure.value),
                mirrors,
                ca: registry.ca.as_ref().map(|ca| PathBuf::from(&ca.value)),
            };
            (registry.name.value.clone(), settings)
        };
        Self {
            default: said.default.as_ref().map_or(default.default, |it| it.value.clone()),
            registries: said.named.iter().map(registry).collect(),
            idle: said.idle.as_ref().map_or(default.idle, |idle| idle.value),
            attempts: said.attempts.as_ref().map_or(default.attempts, |it| it.value),
        }
    }
}

impl Settings {
    /// Where the image is that `reference` names.
    pub(crate) fn place(&self, reference: &Reference) -> Place {
        let registry = match reference.registry() {
            None => self.default.as_str(),
            Some("index.docker.io" | "registry-1.docker.io") => DOCKER_HUB,
            Some(registry) => registry,
        };
        let repository = reference.repository();
        // Docker's own images lie in a folder that nobody writes.
        let official = registry == DOCKER_HUB && !repository.contains('/');
        let folder = if official { "library/" } else { "" };
        Place { registry: registry.to_owned(), repository: format!("{folder}{repository}") }
    }

    /// Where else the repository of `place` is, to be asked first.
    pub(super) fn mirrors(&self, place: &Place) -> Vec<Place> {
        let mirrors = self.registries.get(&place.registry).map(|registry| &registry.mirrors);
        let mirror =
            |host: &String| Place { registry: host.clone(), repository: place.repository.clone() };
        mirrors.into_iter().flatten().map(mirror).collect()
    }

    /// What is said of a registry.
    pub(super) fn registry(&self, name: &str) -> Registry {
        self.registries.get(name).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_a_registry() {
        let mut settings = Settings::default();
        let check = |settings: &Settings, name: &str, expect: &str, host: &str| {
            let place = settings.place(&name.parse().unwrap());
            assert_eq!((place.to_string().as_str(), place.host()), (expect, host), "{name}");
        };
        check(&settings, "debian:12", "docker.io/library/debian", "registry-1.docker.io");
        check(&settings, "team/app", "docker.io/team/app", "registry-1.docker.io");
        check(&settings, "docker.io/debian", "docker.io/library/debian", "registry-1.docker.io");
        check(&settings, "index.docker.io/a/b", "docker.io/a/b", "registry-1.docker.io");
        check(&settings, "localhost/app", "localhost/app", "localhost");
        check(&settings, "r.example:5000/a/b:1", "r.example:5000/a/b", "r.example:5000");
        "r.example".clone_into(&mut settings.default);
        check(&settings, "debian:12", "r.example/debian", "r.example");
    }

    #[test]
    fn mirrors_have_the_same_repositories() {
        let mut settings = Settings::default();
        let mirrors = vec!["mirror.example".to_owned(), "localhost:5000".to_owned()];
        let registry = Registry { mirrors, ..Registry::default() };
        settings.registries.insert("docker.io".to_owned(), registry);
        let place = settings.place(&"debian".parse().unwrap());
        let mirrors: Vec<_> = settings.mirrors(&place).iter().map(Place::to_string).collect();
        assert_eq!(mirrors, ["mirror.example/library/debian", "localhost:5000/library/debian"]);
    }
}
