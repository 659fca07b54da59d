//! Makes one connection: TCP, TLS, and what Go's client says when that does not come to pass.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::Error as ClientError;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::proxy::Proxy;
use super::{Cause, End, Key, Trust};
use crate::connect::client::{AnyCertificate, check_proxyable};
use crate::server::Identity;

const CONNECT_DEADLINE: Duration = Duration::from_secs(30);

/// The authorities that the host believes, read once.
static SYSTEM_ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
});

/// Makes connections to one end.
#[derive(Clone)]
pub(super) struct Dialer {
    end: End,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    proxy: Option<Arc<Proxy>>,
}

impl Dialer {
    /// To an end that calls itself by the host of its origin, or by another name that is known beforehand.
    ///
    /// # Errors
    /// The certificates cannot be used.
    pub(super) fn new(key: &Key) -> Result<Self, String> {
        let uri: Uri = key.origin.parse().map_err(|e| format!("{e}"))?;
        let mut dialer = Self {
            end: key.end.clone(),
            tls: None,
            proxy: key.proxy.clone(),
        };
        if uri.scheme_str() == Some("http") {
            return Ok(dialer);
        }
        let host = uri.host().unwrap_or("").trim_matches(['[', ']']);
        let host = key.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
        let identity = key.credentials.as_ref().map(|c| &*c.0);
        let mut config = client_config(&key.trust, identity).map_err(|e| tls_text(&e))?;
        config.alpn_protocols = match key.upgrades {
            true => vec![b"http/1.1".to_vec()],
            false => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        dialer.tls = Some((TlsConnector::from(Arc::new(config)), name));
        Ok(dialer)
    }

    async fn dial(self) -> Result<TokioIo<Wire>, DialError> {
        let late = |_| DialError(format!("dial tcp {}: i/o timeout", self.end));
        tokio::time::timeout(CONNECT_DEADLINE, self.dial_in_time())
            .await
            .map_err(late)?
    }

    async fn dial_in_time(&self) -> Result<TokioIo<Wire>, DialError> {
        let mut stream = self.tcp().await?;
        let asks_proxy = |proxy: &&Arc<Proxy>| self.tls.is_none() && proxy.takes_requests();
        let proxied = self.proxy.as_ref().filter(asks_proxy).is_some();
        if let (Some(proxy), false) = (&self.proxy, proxied) {
            let (host, port) = self.end.host_and_port();
            let passed = proxy.pass_on(&mut stream, &host, port).await;
            passed.map_err(|error| DialError(io_text(&error)))?;
        }
        let Some((connector, name)) = &self.tls else {
            return Ok(TokioIo::new(Wire {
                stream: Box::new(stream),
                h2: false,
                proxied,
            }));
        };
        let connected = connector.connect(name.clone(), stream).await;
        let stream = connected.map_err(|error| {
            let inner = error
                .get_ref()
                .and_then(|e| e.downcast_ref::<rustls::Error>());
            DialError(inner.map_or_else(|| io_text(&error), tls_text))
        })?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let stream = Box::new(stream);
        Ok(TokioIo::new(Wire {
            stream,
            h2,
            proxied,
        }))
    }

    async fn tcp(&self) -> Result<TcpStream, DialError> {
        let Some(proxy) = &self.proxy else {
            return connect(&self.end).await;
        };
        let proxy = End::Name(proxy.host.clone(), proxy.port);
        let failed = |error: DialError| DialError(format!("proxyconnect tcp: {}", error.0));
        connect(&proxy).await.map_err(failed)
    }
}

async fn connect(end: &End) -> Result<TcpStream, DialError> {
    let addresses: Vec<SocketAddr> = match end {
        End::Address(address) => vec![*address],
        End::Name(host, port) | End::Guarded(host, port) => {
            let found = tokio::net::lookup_host((&**host, *port)).await;
            let none = || DialError(format!("dial tcp: lookup {host}: no such host"));
            found.map_err(|_| none())?.collect()
        }
    };
    let mut last = DialError(format!("dial tcp: lookup {}: no such host", end));
    for address in addresses {
        let guarded = matches!(end, End::Guarded(..));
        if guarded && check_proxyable(address.ip()).is_err() {
            last = DialError("address not allowed".to_owned());
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Small requests are not held back for more to come.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => {
                last = DialError(format!("dial tcp {address}: connect: {}", io_text(&error)));
            }
        }
    }
    Err(last)
}

impl End {
    fn host_and_port(&self) -> (String, u16) {
        match self {
            Self::Address(address) => (address.ip().to_string(), address.port()),
            Self::Name(host, port) | Self::Guarded(host, port) => (host.to_string(), *port),
        }
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(host, port) | Self::Guarded(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

fn client_config(
    trust: &Trust,
    identity: Option<&Identity>,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match trust {
        Trust::System => builder.with_root_certificates(SYSTEM_ROOTS.clone()),
        Trust::Authorities(pem) => {
            let mut roots = RootCertStore::empty();
            let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
            roots.add_parsable_certificates(certificates);
            builder.with_root_certificates(roots)
        }
        Trust::Anybody => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms))),
    };
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(Identity { chain, key }) => {
            builder.with_client_auth_cert(chain.clone(), key.clone_key())
        }
    }
}

/// A connection that was not made.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct DialError(String);

fn io_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        io::ErrorKind::TimedOut => "connection timed out".to_owned(),
        io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        _ => error.to_string(),
    }
}

fn tls_text(error: &rustls::Error) -> String {
    let x509 = match error {
        rustls::Error::InvalidCertificate(why) => match why {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "certificate signed by unknown authority".to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "certificate has expired or is not yet valid".to_owned()
            }
            CertificateError::NotValidForName => {
                "certificate is not valid for any names".to_owned()
            }
            CertificateError::NotValidForNameContext {
                expected,
                presented,
            } => {
                let name = |text: &str| {
                    let inner = text.split_once('(').map_or(text, |(_, inner)| inner);
                    inner.trim_end_matches(')').trim_matches('"').to_owned()
                };
                let names: Vec<String> = presented.iter().map(|p| name(p)).collect();
                let wanted = expected.to_str();
                format!(
                    "certificate is valid for {}, not {wanted}",
                    names.join(", ")
                )
            }
            other => other.to_string(),
        },
        other => return format!("tls: {other}"),
    };
    format!("tls: failed to verify certificate: x509: {x509}")
}

/// What a failed request is told as.
pub(super) fn cause(error: ClientError) -> Cause {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    let mut deepest = error.to_string();
    while let Some(inner) = source {
        if let Some(dial) = inner.downcast_ref::<DialError>() {
            return Cause::Dial(dial.0.clone());
        }
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            let tls = io.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
            return Cause::Broken(tls.map_or_else(|| io_text(io), tls_text));
        }
        if let Some(hyper) = inner.downcast_ref::<hyper::Error>()
            && (hyper.is_incomplete_message() || hyper.is_closed())
        {
            return Cause::Broken("EOF".to_owned());
        }
        deepest = inner.to_string();
        source = inner.source();
    }
    Cause::Broken(deepest)
}

impl tower::Service<Uri> for Dialer {
    type Response = TokioIo<Wire>;
    type Error = crate::body::BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.dial().await?) })
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open connection.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    h2: bool,
    /// What takes requests here is a proxy, which wants whole URLs.
    proxied: bool,
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.proxied);
        match self.h2 {
            true => connected.negotiated_h2(),
            false => connected,
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
