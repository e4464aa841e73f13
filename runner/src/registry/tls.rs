//! Whom we believe: the certificates that this host trusts, and those that the operator adds for
//! one registry.

use std::{path::Path, sync::Arc};

use cofferdam_sandbox::{Error, Result};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// The configuration for one registry.
///
/// # Errors
/// Where the operator's file cannot be read or holds no certificate.
pub(super) fn configuration(ca: Option<&Path>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    // Certificates that cannot be read vouch for nobody; a host without any can still have `ca`.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        let doing = || format!("read the certificates `{}`", path.display());
        let remedy = "the `ca` of a registry is a file of certificates in PEM form";
        let found = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
            .map_err(|error| Error::system(doing(), error.to_string()).remedy(remedy))?;
        if found.is_empty() {
            return Err(Error::system(doing(), "it holds none").remedy(remedy));
        }
        for certificate in found {
            roots.add(certificate).map_err(|error| Error::system(doing(), error).remedy(remedy))?;
        }
    }
    // The provider is named, so that no other part of the process can choose another.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| Error::system("prepare TLS", error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
