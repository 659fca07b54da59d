//! How components serve HTTPS of their own: certificates that may change, callers that are known, rights that the API
//! server decides about, and the usual paths for health and metrics.
//!
//! The kubelet's API stands on [`tls`], [`Certificate`] and [`Access`]; the other components have nothing to serve but
//! health, metrics and what they say of themselves, which is [`Endpoints`]. Not here: the API server's own road. Start with [`Access`].

mod access;
mod certificate;
pub mod configz;
mod endpoints;

pub use access::{Access, Caller, Refusal, Right, caller_of};
pub use access::{HOLDS, TOKEN_HOLDS};
pub use certificate::Certificate;
pub use endpoints::{Check, Endpoints, Page, Told};
pub use machinery::about;

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A certificate or key is not PEM.
    #[error("the serving certificate cannot be read")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// They do not fit together.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// A certificate cannot be made.
    #[error("a certificate cannot be made")]
    Make(#[source] rcgen::Error),
    /// The certificates of clients cannot be checked with this.
    #[error("the authority of clients cannot be used")]
    ClientAuthority(#[source] rustls::server::VerifierBuilderError),
}

/// The TLS configuration of a server. `client_authority` (PEM) signs clients' certificates: a client may show one, and
/// then it has to be good. An empty one: nobody is known by a certificate.
///
/// # Errors
/// The authority cannot be used.
pub fn tls(
    certificate: &Arc<Certificate>,
    client_authority: &str,
) -> Result<rustls::ServerConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(client_authority.as_bytes()) {
        let authority = authority.map_err(Error::Pem)?;
        roots.add(authority).map_err(Error::Tls)?;
    }
    let verifier = if roots.is_empty() {
        WebPkiClientVerifier::no_client_auth()
    } else {
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(Error::ClientAuthority)?
    };
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(certificate) as _);
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}
