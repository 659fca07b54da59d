//! How connections to registries are opened.
//!
//! A node of a development cluster lives in a network namespace of its own, while the registries that people use are reached from
//! the machine's. So whoever pulls is given a [`Dialer`]. It stands directly below the HTTP client: a proxy would do as
//! well, but it would have to listen where any process of the node, a pod on the host's network included, could use it
//! to reach the machine.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use linux::namespace::{self, Kind, Namespace};
use tokio::net::TcpStream;

/// How long one address has to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Opens connections to registries.
#[async_trait::async_trait]
pub trait Dialer: std::fmt::Debug + Send + Sync {
    /// Connects to a host, given by name or address (without brackets).
    async fn dial(&self, host: &str, port: u16) -> io::Result<TcpStream>;
}

/// Connects from where this process is.
#[derive(Clone, Copy, Debug, Default)]
pub struct DirectDialer;

#[async_trait::async_trait]
impl Dialer for DirectDialer {
    async fn dial(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let target = target(host, port);
        on_thread(move || connect(&target)).await
    }
}

/// Connects from another network namespace, where names are resolved, too.
#[derive(Clone, Debug)]
pub struct NamespaceDialer {
    namespace: Arc<Namespace>,
}

impl NamespaceDialer {
    /// A dialer for a network namespace. The process needs the right to enter it.
    pub fn new(namespace: Namespace) -> NamespaceDialer {
        debug_assert_eq!(namespace.kind(), Kind::Network);
        NamespaceDialer {
            namespace: Arc::new(namespace),
        }
    }
}

#[async_trait::async_trait]
impl Dialer for NamespaceDialer {
    async fn dial(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let namespace = Arc::clone(&self.namespace);
        let target = target(host, port);
        on_thread(move || {
            // A socket belongs to the namespace of the thread that made it, for good.
            namespace::run_in(&namespace, || connect(&target)).map_err(io::Error::other)?
        })
        .await
    }
}

fn target(host: &str, port: u16) -> (String, u16) {
    (host.to_owned(), port)
}

async fn on_thread(
    connect: impl FnOnce() -> io::Result<std::net::TcpStream> + Send + 'static,
) -> io::Result<TcpStream> {
    let stream = tokio::task::spawn_blocking(connect)
        .await
        .map_err(io::Error::other)??;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    TcpStream::from_std(stream)
}

/// Resolves a name and tries its addresses in turn.
fn connect(target: &(String, u16)) -> io::Result<std::net::TcpStream> {
    let (host, port) = target;
    let addresses = (host.as_str(), *port)
        .to_socket_addrs()
        .map_err(|error| describe(&format!("lookup {host}"), &error))?;
    let mut last = io::Error::new(
        io::ErrorKind::NotFound,
        format!("lookup {host}: no such host"),
    );
    for address in addresses {
        match std::net::TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = dial_error(address, &error),
        }
    }
    Err(last)
}

fn dial_error(address: SocketAddr, error: &io::Error) -> io::Error {
    let reason = match error.kind() {
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => format!("connect: {}", in_words(error)),
    };
    io::Error::new(error.kind(), format!("dial tcp {address}: {reason}"))
}

fn describe(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("dial tcp: {what}: {error}"))
}

/// The kernel's error as users of other runtimes know it: no capital, no number.
fn in_words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_lowercase().chain(letters).collect())
        .unwrap_or_default()
}

/// A dialer as the HTTP client wants it.
#[derive(Clone, Debug)]
pub(super) struct Connector(pub(super) Arc<dyn Dialer>);

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = Arc::clone(&self.0);
        Box::pin(async move {
            let host = uri.host().unwrap_or_default();
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let default = match uri.scheme_str() {
                Some("http") => 80,
                _ => 443,
            };
            let stream = dialer.dial(host, uri.port_u16().unwrap_or(default));
            stream.await.map(TokioIo::new)
        })
    }
}
