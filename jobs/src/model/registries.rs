//! What an operator says about registries of images.

use std::time::Duration;

use crate::source::Spanned;

/// All that is said of registries; what is left out is for the defaults of the client.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Registries {
    /// The registry that names without one are of.
    pub default: Option<Spanned<String>>,
    /// Single registries, by host and port.
    pub named: Vec<Registry>,
    /// How long a connection may be silent.
    pub idle: Option<Spanned<Duration>>,
    /// How often something is tried that fails for reasons that may pass.
    pub attempts: Option<Spanned<u32>>,
}

/// What is said of one registry.
#[derive(Clone, Debug, PartialEq)]
pub struct Registry {
    /// Host, and port where it has one.
    pub name: Spanned<String>,
    /// Spoken to without encryption.
    pub insecure: Option<Spanned<bool>>,
    /// Asked first, in this order.
    pub mirrors: Vec<Spanned<String>>,
    /// A file of certificates that vouch for it, as an absolute path.
    pub ca: Option<Spanned<String>>,
}
