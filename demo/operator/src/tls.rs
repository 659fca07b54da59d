//! Certificates of one's own, and HTTPS with them.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A certificate, its key, and the authority that signed it; all PEM.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) authority: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Keys {
    /// New ones for these hosts.
    ///
    /// # Errors
    /// A host is none.
    pub(crate) fn make(hosts: &[String]) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate()?;
        let leaf = CertificateParams::new(hosts)?.signed_by(&key, &issuer)?;
        Ok(Self {
            authority,
            certificate: leaf.pem(),
            key: key.serialize_pem(),
        })
    }

    fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Answers requests, given their path and body, for ever.
///
/// # Errors
/// The port is taken.
pub(crate) async fn serve<A>(
    port: u16,
    keys: &Keys,
    answer: impl Fn(String, Bytes) -> A + Copy + Send + 'static,
) -> anyhow::Result<()>
where
    A: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let acceptor = keys.acceptor()?;
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("port {port} cannot be had"))?;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // Probes, scanners and clients that do not trust the certificate go away here.
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = service_fn(move |request: Request<Incoming>| async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await;
                let body = body.map(|body| body.to_bytes()).unwrap_or_default();
                Ok::<_, Infallible>(answer(path, body).await)
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            // The far end may leave at any time.
            let _ = builder
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// An answer of JSON.
pub(crate) fn json(body: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.to_string().into()));
    let kind = hyper::header::HeaderValue::from_static("application/json");
    let headers = response.headers_mut();
    headers.insert(hyper::header::CONTENT_TYPE, kind);
    response
}
