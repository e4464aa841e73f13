//! The client: one event loop and one set of connections for all that is fetched.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use cofferdam_sandbox::{Error, Result, image::Reference};
use tokio::runtime::Runtime;

use super::{
    credentials::Environment,
    host::Host,
    repository::Repository,
    settings::{Place, Settings},
};

/// Speaks to registries. Its calls block, and may come from any thread that may block.
#[derive(Debug)]
pub(crate) struct Client {
    /// Taken when dropped: a runtime must not wait for its threads where nothing may block.
    runtime: Option<Runtime>,
    settings: Arc<Settings>,
    environment: Arc<Environment>,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
}

impl Client {
    /// Prepares a client; nothing is sent.
    ///
    /// # Errors
    /// Where the host gives it no thread.
    pub(crate) fn new(settings: Settings, environment: Environment) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("registry")
            .enable_all()
            .build()
            .map_err(|error| Error::system("start the registry client", error))?;
        Ok(Self {
            runtime: Some(runtime),
            settings: Arc::new(settings),
            environment: Arc::new(environment),
            hosts: Mutex::default(),
        })
    }

    /// The repository that `reference` names, with its mirrors.
    ///
    /// # Errors
    /// Where the settings of the registry do not hold.
    pub(crate) fn repository(&self, reference: &Reference) -> Result<Repository> {
        let runtime = self.runtime.as_ref().map(Runtime::handle);
        let runtime = runtime.ok_or_else(|| Error::system("reach a registry", "it is closed"))?;
        let place = self.settings.place(reference);
        let mut hosts = Vec::new();
        for place in self.settings.mirrors(&place).into_iter().chain([place.clone()]) {
            hosts.push((self.host(&place)?, place));
        }
        Ok(Repository::new(runtime.clone(), Arc::clone(&self.settings), place, hosts))
    }

    /// Where the image is that `reference` names.
    pub(super) fn place(&self, reference: &Reference) -> Place {
        self.settings.place(reference)
    }

    fn host(&self, place: &Place) -> Result<Arc<Host>> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.get(&place.registry) {
            return Ok(Arc::clone(host));
        }
        let (settings, environment) = (Arc::clone(&self.settings), Arc::clone(&self.environment));
        let host = Arc::new(Host::new(place, settings, environment)?);
        hosts.insert(place.registry.clone(), Arc::clone(&host));
        Ok(host)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
