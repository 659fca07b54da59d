//! A serving certificate that may be replaced while it is used.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::Error;

/// The certificate that is shown; without one, no connection comes about.
#[derive(Debug, Default)]
pub struct Certificate(ArcSwapOption<CertifiedKey>);

impl Certificate {
    /// None yet.
    pub fn none() -> Arc<Self> {
        Arc::default()
    }

    /// This one, PEM.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Arc<Self>, Error> {
        let own = Self::none();
        own.set(certificate, key)?;
        Ok(own)
    }

    /// One that nobody has signed, for as long as the process runs. Clients that check cannot trust it.
    ///
    /// # Errors
    /// A name cannot stand in a certificate.
    pub fn self_signed(names: &[String]) -> Result<Arc<Self>, Error> {
        let key = KeyPair::generate().map_err(Error::Make)?;
        let mut parameters = CertificateParams::new(names.to_vec()).map_err(Error::Make)?;
        let name = names.first().map_or("localhost", String::as_str);
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = parameters.self_signed(&key).map_err(Error::Make)?;
        Self::from_pem(&certificate.pem(), &key.serialize_pem())
    }

    /// Shows this one from now on, PEM.
    ///
    /// # Errors
    /// It cannot be used; the one before stays.
    pub fn set(&self, certificate: &str, key: &str) -> Result<(), Error> {
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().map_err(Error::Pem)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(Error::Pem)?;
        let provider = rustls::crypto::ring::default_provider();
        let key = CertifiedKey::from_der(chain, key, &provider).map_err(Error::Tls)?;
        self.0.store(Some(Arc::new(key)));
        Ok(())
    }

    /// Whether there is one.
    pub fn is_there(&self) -> bool {
        self.0.load().is_some()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}
