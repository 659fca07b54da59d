//! One outgoing HTTP/1.1 connection for one request, with TLS if need be, and the hand-over of upgraded connections.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use machinery::ApiError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::audit::Ending;
use crate::body::{Body, RequestBody};
use crate::server::{KubeletClient, StartError};

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// No more than this of an error's text is passed on.
pub(super) const ERROR_TEXT_BYTES: usize = 16 * 1024;

/// The server's side of TLS with kubelets.
pub(crate) struct KubeletTls(TlsConnector);

impl KubeletTls {
    /// Proves itself by the client certificate, trusts the given authorities.
    ///
    /// # Errors
    /// The certificates cannot be used.
    pub(crate) fn new(client: KubeletClient) -> Result<Self, StartError> {
        let mut roots = RootCertStore::empty();
        for authority in client.authorities {
            roots.add(authority)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(client.identity.chain, client.identity.key)?;
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// What makes the connection.
    pub(super) fn connector(&self) -> &TlsConnector {
        &self.0
    }
}

/// TLS with pods and services: their certificates are their own affair, and the connection is no safer than the pod
/// network is. No credentials of the server travel on it.
pub(super) static ANY_CERTIFICATE: LazyLock<TlsConnector> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(AnyCertificate(provider.signature_verification_algorithms));
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
});

/// Believes every certificate.
#[derive(Debug)]
pub(crate) struct AnyCertificate(pub(crate) WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Where a request goes.
pub(super) struct Outgoing<'a> {
    pub(super) address: SocketAddr,
    /// With it the connection is TLS.
    pub(super) tls: Option<&'a TlsConnector>,
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Outgoing<'_> {
    /// Sends the request; the connection lives as long as the answer.
    ///
    /// # Errors
    /// 502 or 500: the far end cannot be reached.
    pub(super) async fn send(self, body: RequestBody) -> Result<Response<Incoming>, ApiError> {
        let address = self.address;
        let connected = tokio::time::timeout(CONNECT_DEADLINE, self.connect()).await;
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(dial_error(address, told(&error))),
            Err(_) => return Err(dial_error(address, "i/o timeout")),
        };
        let failed = |error: hyper::Error| dial_error(address, error);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a proxied connection ended");
            }
        });
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self
            .path
            .parse()
            .map_err(|_| ApiError::bad_request("invalid path"))?;
        *request.headers_mut() = self.headers;
        let host = HeaderValue::from_str(&address.to_string());
        request
            .headers_mut()
            .insert(header::HOST, host.map_err(ApiError::internal)?);
        sender.send_request(request).await.map_err(failed)
    }

    async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        match self.tls {
            None => Ok(Box::new(stream)),
            Some(connector) => {
                let name = ServerName::IpAddress(self.address.ip().into());
                Ok(Box::new(connector.connect(name, stream).await?))
            }
        }
    }
}

/// An error of the system as Go programs tell it.
fn told(error: &std::io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error().and(text.split_once(" (os error")) {
        Some((what, _)) => format!("connect: {}", what.to_lowercase()),
        None => text,
    }
}

fn dial_error(address: SocketAddr, error: impl std::fmt::Display) -> ApiError {
    ApiError::new(
        500,
        "InternalError",
        format!("error dialing backend: dial tcp {address}: {error}"),
    )
}

/// The headers of a request that travel on: not the client's credentials, and nothing that is about this connection.
pub(crate) fn forwarded_headers(headers: &HeaderMap) -> HeaderMap {
    const OWN: [HeaderName; 8] = [
        header::AUTHORIZATION,
        header::PROXY_AUTHORIZATION,
        header::CONNECTION,
        header::HOST,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    let is_own = |name: &HeaderName| {
        OWN.contains(name)
            || matches!(name.as_str(), "keep-alive" | "proxy-connection")
            || name.as_str().starts_with("x-remote-")
    };
    headers
        .iter()
        .filter(|(k, _)| !is_own(k))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

/// The same for an upgrade, which is about the connection.
pub(crate) fn upgrade_headers(headers: &HeaderMap) -> HeaderMap {
    let mut forwarded = forwarded_headers(headers);
    if let Some(protocol) = headers.get(header::UPGRADE) {
        forwarded.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        forwarded.insert(header::UPGRADE, protocol.clone());
    }
    forwarded
}

/// Joins the two connections if the far end agreed to the upgrade; otherwise its answer is the end of both.
pub(crate) async fn join(
    answer: Response<Incoming>,
    near: Option<OnUpgrade>,
    ending: Ending,
) -> Result<Response<Body>, ApiError> {
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(refused(answer).await);
    }
    let near = near.ok_or_else(|| ApiError::bad_request("Upgrade request required"))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = answer.headers().clone();
    tokio::spawn(async move {
        let far = hyper::upgrade::on(answer);
        match tokio::try_join!(near, far) {
            Ok((near, far)) => {
                let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
                if let Err(error) = tokio::io::copy_bidirectional(&mut near, &mut far).await {
                    tracing::debug!(%error, "a tunnel ended");
                }
            }
            Err(error) => tracing::debug!(%error, "an upgrade did not happen"),
        }
        drop(ending);
    });
    Ok(response)
}

/// What the far end said instead of 101: its text is told, nothing else of the connection is ever used.
async fn refused(answer: Response<Incoming>) -> Response<Body> {
    let (parts, body) = answer.into_parts();
    let text = limited_text(body).await;
    let code = match parts.status {
        status if status.is_redirection() || status.is_success() => StatusCode::BAD_GATEWAY,
        status => status,
    };
    let mut response = crate::respond::text(code.as_u16(), text);
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The beginning of a body as text.
pub(super) async fn limited_text(mut body: Incoming) -> String {
    let mut out = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            out.extend_from_slice(&data);
        }
        if out.len() >= ERROR_TEXT_BYTES {
            out.truncate(ERROR_TEXT_BYTES);
            break;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Addresses that a proxy must not be talked into reaching (security lessons 2020-8562, 2022-3294).
pub(crate) fn check_proxyable(address: IpAddr) -> Result<(), ApiError> {
    let forbidden = match address.to_canonical() {
        IpAddr::V4(v4) => {
            v4.is_unspecified() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
        }
        IpAddr::V6(v6) => {
            v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_unicast_link_local()
                || v6.is_multicast()
        }
    };
    if forbidden {
        Err(ApiError::bad_request("address not allowed"))
    } else {
        Ok(())
    }
}
