//! Connections: TCP, TLS with a deadline, HTTP/1.1 and HTTP/2 with bounds, and an orderly end.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::audit::PeerAddress;
use crate::authenticate::{FrontProxyName, PeerUser, certificate_user};
use crate::road;
use crate::server::{Identity, Server, StartError};

/// A client that has not shaken hands by then is no client (security lessons 2020-8552, 2026-73500).
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// The same for the head of a request.
const HEADER_DEADLINE: Duration = Duration::from_secs(30);
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// How long connections may take at the end, after the last answer has been made.
const DRAIN: Duration = Duration::from_secs(2);
/// Handshakes at a time: who has not shown himself yet shall not take all the memory there is.
const HANDSHAKES: usize = 1024;
/// Streams that a client opened and took back before they were looked at: with more the connection ends
/// (security lesson 2023-44487, "rapid reset").
const PENDING_RESETS: usize = 20;

/// How connections are secured.
pub struct TlsSettings {
    /// The server's certificate.
    pub identity: Identity,
    /// Who signs client certificates; without any, nobody is known by one.
    pub client_authorities: Vec<CertificateDer<'static>>,
}

type Verifier = Arc<dyn ClientCertVerifier>;

/// Whose signature on a client's certificate means what.
#[derive(Clone, Default)]
struct Verifiers {
    /// It says who the client is.
    clients: Option<Verifier>,
    /// It says that the client may pass on requests of others.
    front_proxies: Option<Verifier>,
}

fn verifier(authorities: &[CertificateDer<'static>]) -> Result<Option<Verifier>, StartError> {
    if authorities.is_empty() {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let built = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()?;
    Ok(Some(built))
}

impl Verifiers {
    /// Marks a connection's requests with what its certificates prove. Each authority speaks for its own purpose only.
    fn mark(&self, chain: &[CertificateDer<'static>]) -> Marks {
        let Some((certificate, rest)) = chain.split_first() else {
            return Marks::default();
        };
        let proves = |verifier: &Option<Verifier>| {
            let good = |v: &Verifier| v.verify_client_cert(certificate, rest, UnixTime::now());
            verifier.as_ref().is_some_and(|v| good(v).is_ok())
        };
        let name = || {
            let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
            let last = parsed.subject().iter_common_name().last()?;
            Some(FrontProxyName(last.as_str().ok()?.into()))
        };
        Marks {
            client: proves(&self.clients)
                .then(|| certificate_user(certificate))
                .flatten(),
            front_proxy: proves(&self.front_proxies).then(name).flatten(),
        }
    }
}

/// What a connection's certificates prove.
#[derive(Default)]
struct Marks {
    client: Option<PeerUser>,
    front_proxy: Option<FrontProxyName>,
}

impl TlsSettings {
    /// The TLS configuration: a client may show a certificate, and then it must be good.
    ///
    /// # Errors
    /// The certificate, key or authorities cannot be used.
    fn into_acceptor(
        self,
        front_proxies: &[CertificateDer<'static>],
    ) -> Result<(TlsAcceptor, Verifiers), StartError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifiers = Verifiers {
            clients: verifier(&self.client_authorities)?,
            front_proxies: verifier(front_proxies)?,
        };
        let all = [&self.client_authorities, front_proxies].concat();
        let either = verifier(&all)?.unwrap_or_else(WebPkiClientVerifier::no_client_auth);
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(either)
            .with_single_cert(self.identity.chain, self.identity.key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok((TlsAcceptor::from(Arc::new(config)), verifiers))
    }
}

impl Server {
    /// Serves these listeners until [`Server::shut_down`], then lets requests under way come to their end.
    ///
    /// # Errors
    /// The certificates cannot be used.
    pub async fn serve(
        self: &Arc<Self>,
        listeners: Vec<TcpListener>,
        tls: TlsSettings,
    ) -> Result<(), StartError> {
        let front_proxies = self
            .policy()
            .front_proxy
            .as_ref()
            .map(|f| f.authorities.as_str());
        let front_proxies = CertificateDer::pem_slice_iter(front_proxies.unwrap_or("").as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| StartError::Authentication(error.to_string()))?;
        let (acceptor, verifiers) = tls.into_acceptor(&front_proxies)?;
        let verifiers = Arc::new(verifiers);
        let graceful = Arc::new(GracefulShutdown::new());
        let mut accepting = tokio::task::JoinSet::new();
        for listener in listeners {
            let (server, tls) = (self.clone(), (acceptor.clone(), verifiers.clone()));
            accepting.spawn(server.accept(listener, tls, graceful.clone()));
        }
        while accepting.join_next().await.is_some() {}
        if let Some(graceful) = Arc::into_inner(graceful) {
            let ended = graceful.shutdown();
            tokio::pin!(ended);
            let timeout = self.limits().request_timeout;
            // Requests under way are answered; whoever does not come to an end then is cut off.
            let answered = tokio::time::timeout(timeout, self.answered());
            tokio::select! {
                () = &mut ended => {}
                _ = answered => drop(tokio::time::timeout(DRAIN, ended).await),
            }
        }
        if let Some(audit) = self.audit() {
            audit.flush().await;
        }
        Ok(())
    }

    async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        tls: (TlsAcceptor, Arc<Verifiers>),
        graceful: Arc<GracefulShutdown>,
    ) {
        let shutdown = self.shutdown_token();
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        loop {
            let next = async {
                let handshake = handshakes.clone().acquire_owned().await.ok();
                let (stream, peer) = listener.accept().await?;
                Ok::<_, std::io::Error>((stream, peer, handshake))
            };
            let accepted = tokio::select! {
                accepted = next => accepted,
                () = shutdown.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer, handshake)) => {
                    let watcher = graceful.watcher();
                    let (server, tls) = (self.clone(), tls.clone());
                    let peer = PeerAddress(peer.ip());
                    let (acceptor, verifiers) = tls;
                    let shaken = server.handshake(stream, acceptor);
                    tokio::spawn(async move {
                        let shaken = shaken.await;
                        drop(handshake);
                        if let Some(stream) = shaken {
                            server.connection(stream, peer, &verifiers, watcher).await;
                        }
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely; a moment later there may be some.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn handshake(
        &self,
        stream: TcpStream,
        acceptor: TlsAcceptor,
    ) -> impl Future<Output = Option<TlsStream<TcpStream>>> + use<> {
        // Small answers are not held back for more to come.
        let _ = stream.set_nodelay(true);
        let metrics = self.metrics().clone();
        async move {
            match tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => Some(stream),
                Ok(Err(error)) => {
                    metrics.measures.tls_failed();
                    tracing::debug!(%error, "a TLS handshake failed");
                    None
                }
                Err(_) => {
                    tracing::debug!("a TLS handshake took too long");
                    None
                }
            }
        }
    }

    async fn connection(
        self: Arc<Self>,
        stream: TlsStream<TcpStream>,
        peer: PeerAddress,
        verifiers: &Verifiers,
        watcher: hyper_util::server::graceful::Watcher,
    ) {
        let streams = self.limits().streams;
        let has_streams = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let certificates = stream.get_ref().1.peer_certificates();
        let marks = verifiers.mark(certificates.unwrap_or_default());
        let service = service_fn(move |mut request: Request<Incoming>| {
            let server = self.clone();
            request.extensions_mut().insert(peer);
            if let Some(user) = &marks.client {
                request.extensions_mut().insert(user.clone());
            }
            if let Some(name) = &marks.front_proxy {
                request.extensions_mut().insert(name.clone());
            }
            let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            // On the heap, and gone with the answer's head: HTTP/2 keeps the place of what makes the head as long as the
            // stream is open, which for a watch is long.
            let answer = Box::pin(road::answer(server, request));
            async move { Ok::<_, std::convert::Infallible>(answer.await) }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_DEADLINE)
            .max_buf_size(MAX_HEADER_BYTES);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(streams)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_header_list_size(MAX_HEADER_BYTES as u32);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let connection = watcher.watch(connection);
        let ended = match has_streams {
            true => after_others(connection).await,
            false => connection.await,
        };
        if let Err(error) = ended {
            tracing::debug!(error, "a connection ended");
        }
    }
}

/// Runs a connection behind whoever is ready when it is woken: a change wakes many of its streams at a time, and what they
/// have to say then goes out as one write and not as one each.
async fn after_others<F: Future>(connection: F) -> F::Output {
    let mut connection = std::pin::pin!(connection);
    let mut has_waited = true;
    std::future::poll_fn(|cx| {
        has_waited = !has_waited;
        if !has_waited {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        connection.as_mut().poll(cx)
    })
    .await
}
