//! Who asks: names and passwords from the files and programs of docker and podman.
//!
//! They are looked for only when a registry asks, only under the name that people know the
//! registry by, and are sent to nobody else. They never stand on a command line or in a message.

mod file;
mod helper;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use cofferdam_sandbox::{Error, Result};

use self::file::Entry;
use super::settings::Place;

/// A text that is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Hidden(String);

impl Hidden {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// What a registry takes as proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    Password {
        user: String,
        password: Hidden,
    },
    /// What a token service gives tokens for (OAuth 2, "refresh token").
    Identity(Hidden),
}

/// The parts of the caller's environment that say where credentials are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// `REGISTRY_AUTH_FILE` of podman and skopeo, which stands for all other places.
    pub(crate) auth_file: Option<PathBuf>,
    pub(crate) docker_config: Option<PathBuf>,
    pub(crate) runtime: Option<PathBuf>,
    pub(crate) config: Option<PathBuf>,
    pub(crate) home: Option<PathBuf>,
}

impl Environment {
    /// That of this process.
    pub(crate) fn read() -> Self {
        let path = |name: &str| {
            std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        Self {
            auth_file: path("REGISTRY_AUTH_FILE"),
            docker_config: path("DOCKER_CONFIG"),
            runtime: path("XDG_RUNTIME_DIR"),
            config: path("XDG_CONFIG_HOME"),
            home: path("HOME"),
        }
    }

    /// The files that may hold credentials, in the order in which they are asked
    /// (containers-auth.json(5), docker-login(1)).
    fn files(&self) -> Vec<PathBuf> {
        if let Some(file) = &self.auth_file {
            return vec![file.clone()];
        }
        let below = |directory: &Option<PathBuf>, path: &str| {
            directory.as_deref().map(|directory: &Path| directory.join(path))
        };
        let config = self.config.clone().or_else(|| below(&self.home, ".config"));
        let docker = self.docker_config.clone().or_else(|| below(&self.home, ".docker"));
        [
            below(&self.runtime, "containers/auth.json"),
            below(&config, "containers/auth.json"),
            below(&docker, "config.json"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// The credentials for a repository, where there are any.
///
/// # Errors
/// Where a file is damaged, or a helper fails or hangs: going on without would only lead to a
/// refusal that is harder to understand.
pub(super) async fn find(environment: &Environment, place: &Place) -> Result<Option<Credentials>> {
    for path in environment.files() {
        let doing =
            || format!("look for credentials for `{}` in `{}`", place.registry, path.display());
        let entry = file::find(&path, place).map_err(|why| {
            Error::system(doing(), why)
                .remedy("mend the file, or log in again with the program that wrote it")
        })?;
        match entry {
            None => {}
            Some(Entry::Here(credentials)) => return Ok(Some(credentials)),
            Some(Entry::Helper(name)) => {
                let found = helper::ask(&name, &place.registry).await;
                if let Some(credentials) = found.map_err(|why| Error::system(doing(), why))? {
                    return Ok(Some(credentials));
                }
            }
        }
    }
    Ok(None)
}

/// What docker's files and helpers call Docker's own registry.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_printed_shows_a_password() {
        let credentials = Credentials::Password {
            user: "ci".to_owned(),
            password: Hidden::new("hunter22".to_owned()),
        };
        assert!(!format!("{credentials:?}").contains("hunter22"));
        let identity = Credentials::Identity(Hidden::new("hunter22".to_owned()));
        assert!(!format!("{identity:?}").contains("hunter22"));
    }

    #[test]
    fn files_are_asked_in_the_order_that_others_have() {
        let path = |text: &str| Some(PathBuf::from(text));
        let check = |environment: Environment, expect: &[&str]| {
            let files = environment.files();
            assert_eq!(files, expect.iter().map(PathBuf::from).collect::<Vec<_>>());
        };
        let home = Environment { home: path("/h"), ..Environment::default() };
        check(home.clone(), &["/h/.config/containers/auth.json", "/h/.docker/config.json"]);
        let all = Environment {
            docker_config: path("/d"),
            runtime: path("/r"),
            config: path("/c"),
            ..home
        };
        check(
            all.clone(),
            &["/r/containers/auth.json", "/c/containers/auth.json", "/d/config.json"],
        );
        check(Environment { auth_file: path("/a.json"), ..all }, &["/a.json"]);
        check(Environment::default(), &[]);
    }
}
