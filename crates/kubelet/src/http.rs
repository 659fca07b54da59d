//! A small HTTP client for probes and hooks: one request, no certificates checked, nothing kept.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use pod_lifecycle::service_env::join_host_port;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// How much of an answer is read.
const MAX_BODY: usize = 10 << 10;
/// How many redirects are followed.
const MAX_REDIRECTS: usize = 10;

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Get {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// With the query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    /// It is a redirect to another host, which was not followed.
    pub(crate) left: bool,
}

impl Get {
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let place = join_host_port(&self.host, i32::from(self.port));
        format!("{scheme}://{place}{}", self.path)
    }

    /// The same host by another path, or `None` if the address is elsewhere.
    fn redirected(&self, location: &str) -> Option<Get> {
        let mut next = self.clone();
        if location.starts_with('/') && !location.starts_with("//") {
            next.path = location.to_owned();
            return Some(next);
        }
        let uri: hyper::Uri = location.parse().ok()?;
        let host = uri.host()?.trim_matches(['[', ']']);
        if host != self.host {
            return None;
        }
        next.tls = uri.scheme_str() == Some("https");
        next.port = uri.port_u16().unwrap_or(if next.tls { 443 } else { 80 });
        next.path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
        Some(next)
    }
}

/// Opens a connection; the error is in the words of Go.
pub(crate) async fn dial(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, String> {
    let place = join_host_port(host, i32::from(port));
    match tokio::time::timeout(timeout, TcpStream::connect((host, port))).await {
        Err(_) => Err(format!("dial tcp {place}: i/o timeout")),
        Ok(Err(error)) => Err(format!("dial tcp {place}: connect: {}", io_text(&error))),
        Ok(Ok(stream)) => Ok(stream),
    }
}

fn io_text(error: &std::io::Error) -> String {
    use std::io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable};
    match error.kind() {
        ConnectionRefused => "connection refused".to_owned(),
        ConnectionReset => "connection reset by peer".to_owned(),
        HostUnreachable => "no route to host".to_owned(),
        _ => error.to_string(),
    }
}

/// Asks, following redirects on the same host.
pub(crate) async fn get(get: &Get, timeout: Duration) -> Result<Answer, String> {
    let mut get = get.clone();
    for _ in 0..MAX_REDIRECTS {
        let (answer, location) = once(&get, timeout).await?;
        let redirect = (300..400).contains(&answer.status);
        let Some(location) = location.filter(|_| redirect) else {
            return Ok(answer);
        };
        match get.redirected(&location) {
            Some(next) => get = next,
            None => {
                return Ok(Answer {
                    left: true,
                    ..answer
                });
            }
        }
    }
    Err("stopped after 10 redirects".to_owned())
}

async fn once(get: &Get, timeout: Duration) -> Result<(Answer, Option<String>), String> {
    let stream = dial(&get.host, get.port, timeout).await?;
    if !get.tls {
        return exchange(get, stream).await;
    }
    let name = ServerName::try_from(get.host.clone()).map_err(|e| e.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(trusting_config()?);
    match connector.connect(name, stream).await {
        Ok(stream) => exchange(get, stream).await,
        Err(error) if error.to_string().contains("InvalidContentType") => {
            Err("http: server gave HTTP response to HTTPS client".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

async fn exchange(
    get: &Get,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<(Answer, Option<String>), String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| http_text(&e))?;
    let asked = async {
        let answer = sender
            .send_request(request(get)?)
            .await
            .map_err(|e| http_text(&e))?;
        let status = answer.status().as_u16();
        let location = answer.headers().get("location");
        let location = location.and_then(|l| l.to_str().ok()).map(str::to_owned);
        let body = Limited::new(answer.into_body(), MAX_BODY).collect().await;
        // A long body is cut: what matters is that it came.
        let body = body.map(|b| b.to_bytes()).unwrap_or_default();
        let answer = Answer {
            status,
            body: String::from_utf8_lossy(&body).into_owned(),
            left: false,
        };
        Ok((answer, location))
    };
    let asked = std::pin::pin!(asked);
    match futures::future::select(asked, std::pin::pin!(connection)).await {
        futures::future::Either::Left((answer, _)) => answer,
        futures::future::Either::Right((_, asked)) => asked.await,
    }
}

fn request(get: &Get) -> Result<Request<Empty<Bytes>>, String> {
    let mut builder = Request::get(&get.path);
    let mut has_host = false;
    for (name, value) in &get.headers {
        has_host |= name.eq_ignore_ascii_case("host");
        builder = builder.header(name, value);
    }
    if !has_host {
        builder = builder.header("Host", join_host_port(&get.host, i32::from(get.port)));
    }
    let built = builder.header("Connection", "close").body(Empty::new());
    built.map_err(|e| e.to_string())
}

fn http_text(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return "EOF".to_owned();
    }
    cri::chain(error)
}

fn trusting_config() -> Result<Arc<rustls::ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Probes do not ask whether the certificate of a pod is any good.
#[derive(Debug)]
struct Trusting(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
