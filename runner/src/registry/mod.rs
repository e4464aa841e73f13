//! The client of registries (OCI distribution specification).
//!
//! A registry is hostile: whatever it says is bounded in size and time, what it sends counts for
//! nothing until the store has verified it, and nobody but the registry itself, or the token
//! service that it names, gets to see a credential.
//!
//! ```text
//! settings, credentials   what the operator and the user's files say
//! request, answer         what is asked of a registry, and what comes back
//! host                    requests to one registry: proof, redirects, further tries
//! repository, download    documents and layers of one image, from mirrors or the registry itself
//! pull                    from there into the store
//! push, upload            from the store to a registry
//! ```

mod address;
mod answer;
mod challenge;
mod client;
mod credentials;
mod download;
mod failure;
mod host;
mod pull;
mod push;
mod redirect;
mod repository;
mod request;
mod retry;
mod settings;
mod tls;
mod token;
mod upload;

pub(crate) use client::Client;
pub(crate) use credentials::Environment;
pub(crate) use pull::pull;
pub(crate) use push::push;
pub(crate) use settings::Settings;

/// A hostile text as part of a message: escaped, and cut after 200 characters.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(200).flat_map(char::escape_debug).collect();
    if text.chars().nth(200).is_some() {
        shown.push('…');
    }
    shown
}
