//! Certificates and keys of one measurement.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The files that a server is given, and what a client needs.
pub(super) struct Pki {
    pub(super) directory: PathBuf,
    authority: CertificateDer<'static>,
    client: (CertificateDer<'static>, Vec<u8>),
}

impl Pki {
    /// Makes them.
    pub(super) fn create(directory: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let write = |name: &str, text: String| std::fs::write(directory.join(name), text);
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "bench");
        let certificate = params.self_signed(&key)?;
        write("ca.crt", certificate.pem())?;
        let authority = certificate.der().clone();
        let issuer = Issuer::new(params, key);
        let signed = |names: Vec<String>, subject: &[(DnType, &str)], usage| {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new(names)?;
            params.distinguished_name = rcgen::DistinguishedName::new();
            for (kind, value) in subject {
                params.distinguished_name.push(kind.clone(), *value);
            }
            params.extended_key_usages = vec![usage];
            let certificate = params.signed_by(&key, &issuer)?;
            anyhow::Ok((certificate, key))
        };
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let subject = [(DnType::CommonName, "kube-apiserver")];
        let (certificate, key) = signed(names, &subject, ExtendedKeyUsagePurpose::ServerAuth)?;
        write("server.crt", certificate.pem())?;
        write("server.key", key.serialize_pem())?;
        let subject = [
            (DnType::OrganizationName, "system:masters"),
            (DnType::CommonName, "admin"),
        ];
        let (certificate, key) = signed(Vec::new(), &subject, ExtendedKeyUsagePurpose::ClientAuth)?;
        // Upstream reads keys of tokens in this form only.
        let tokens = KeyPair::generate()?;
        write("sa.key", tokens.serialize_pem())?;
        write("sa.pub", tokens.public_key_pem())?;
        Ok(Self {
            directory: directory.to_owned(),
            authority,
            client: (certificate.der().clone(), key.serialize_der()),
        })
    }

    /// How a client speaks: as an administrator, by this protocol.
    pub(super) fn client(&self, protocol: &[u8]) -> anyhow::Result<Arc<rustls::ClientConfig>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.clone())?;
        let (certificate, key) = &self.client;
        let key = PrivateKeyDer::try_from(key.clone()).map_err(anyhow::Error::msg)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate.clone()], key)
            .context("the client certificate cannot be used")?;
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Arc::new(config))
    }
}
