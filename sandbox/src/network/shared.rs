//! A network that containers share: a job's and those of its services.

use std::sync::Arc;

use super::{Network, NetworkUse, connection::Connection, namespace::Namespace};
use crate::{
    error::{Error, Result},
    in_use::InUse,
    sandbox::Shared,
    spawner::Namespaces,
};

/// Names that a network may have.
const NAMES: usize = 256;

/// A network namespace for containers, and its way out where it has one.
///
/// The containers in it reach each other on loopback and see nothing else of each other. It stays
/// until the last of them is gone, and this.
#[derive(Clone, Debug)]
pub struct SharedNetwork(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    network: Network,
    names: Vec<String>,
    // In the order of their undoing.
    connection: Option<Connection>,
    namespace: Namespace,
    #[expect(dead_code, reason = "the sandbox's end waits for the network's")]
    in_use: InUse<Shared>,
}

/// Where a container's programs find each other and the world.
#[derive(Clone, Debug)]
pub enum ContainerNetwork {
    /// Loopback of its own, and what this says.
    Own(Network),
    /// That of others too.
    Shared(SharedNetwork),
}

impl ContainerNetwork {
    /// Whether other containers can be in it.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Shared(_))
    }

    /// What can be reached from it.
    pub fn policy(&self) -> &Network {
        match self {
            Self::Own(network) => network,
            Self::Shared(network) => &network.0.network,
        }
    }
}

impl Default for ContainerNetwork {
    fn default() -> Self {
        Self::Own(Network::None)
    }
}

impl From<Network> for ContainerNetwork {
    fn from(network: Network) -> Self {
        Self::Own(network)
    }
}

impl From<SharedNetwork> for ContainerNetwork {
    fn from(network: SharedNetwork) -> Self {
        Self::Shared(network)
    }
}

impl SharedNetwork {
    pub(super) fn new(
        network: Network,
        names: Vec<String>,
        connection: Option<Connection>,
        namespace: Namespace,
        in_use: InUse<Shared>,
    ) -> Self {
        Self(Arc::new(Inner { network, names, connection, namespace, in_use }))
    }

    /// Names that mean its own loopback, in each of its containers.
    pub(crate) fn names(&self) -> &[String] {
        &self.0.names
    }

    /// Whether there is anything but loopback.
    pub(crate) fn is_connected(&self) -> bool {
        self.0.connection.is_some()
    }

    /// What a container's init is put into.
    pub(crate) fn namespaces(&self) -> Namespaces<'_> {
        self.0.namespace.joined()
    }

    /// What its containers did so far; `None` where there is nothing but loopback.
    ///
    /// # Errors
    /// When the kernel's counters cannot be read.
    pub fn used(&self) -> Result<Option<NetworkUse>> {
        let used = self.0.connection.as_ref().map(Connection::used).transpose();
        used.map_err(|error| Error::system("read the use of the network", error))
    }
}

/// Refuses what is no host name (RFC 1123, section 2.1, and `_`): they are written to `/etc/hosts`.
pub(super) fn check_names(names: &[String]) -> Result<()> {
    let doing = "name the containers of a network";
    if names.len() > NAMES {
        return Err(Error::pipeline(doing, format!("more than {NAMES} names")));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match names.iter().find(|name| !(1..=253).contains(&name.len()) || !name.bytes().all(plain)) {
        Some(name) => Err(Error::pipeline(doing, format!("`{name}` is not a host name"))
            .remedy("use letters, digits, `-`, `_` and `.`")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_host_names() {
        for (name, passes) in [
            ("db", true),
            ("my-db_1.local", true),
            ("", false),
            ("a b", false),
            ("a\n0.0.0.0 b", false),
            ("#", false),
            (&"a".repeat(254), false),
        ] {
            assert_eq!(check_names(&[name.to_owned()]).is_ok(), passes, "{name:?}");
        }
        check_names(&vec!["a".to_owned(); NAMES]).unwrap();
        check_names(&vec!["a".to_owned(); NAMES + 1]).unwrap_err();
    }
}
