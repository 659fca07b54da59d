//! The streaming server of a container runtime (cri-streaming, `server.go`).
//!
//! The kubelet asks over CRI for an exec, an attach or a port-forward and gets a URL with a token
//! in it; whoever comes to the URL first, within a minute, has the session. The server listens on
//! the loopback and speaks HTTP/1.1.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::remotecommand::Prepared;
use crate::token::{LIFETIME, Tokens};
use crate::{
    Connector, Duplex, Error, Executor, StreamOptions, Streams, http_upgrade, portforward,
    remotecommand,
};

/// Connections at the same time.
const MAX_CONNECTIONS: usize = 1000;
/// How long a client may take to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What carries the sessions out.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Runs a command in a container; see [`Executor::run`].
    async fn exec(&self, request: ExecRequest, streams: Streams) -> Result<i32, Error>;

    /// Connects to the command that the container runs, until it ends or the input does.
    async fn attach(&self, request: AttachRequest, streams: Streams) -> Result<(), Error>;

    /// Connects to a port in a pod sandbox.
    async fn connect(&self, sandbox_id: &str, port: u16) -> Result<Box<dyn Duplex>, Error>;
}

/// A command to be run.
#[derive(Clone, Debug)]
pub struct ExecRequest {
    /// Where.
    pub container_id: String,
    /// What.
    pub command: Vec<String>,
    /// With which streams.
    pub options: StreamOptions,
}

/// A container to attach to.
#[derive(Clone, Debug)]
pub struct AttachRequest {
    /// Which one.
    pub container_id: String,
    /// With which streams.
    pub options: StreamOptions,
}

/// A pod whose ports are to be forwarded.
#[derive(Clone, Debug)]
pub struct PortForwardRequest {
    /// Its sandbox.
    pub sandbox_id: String,
    /// The ports, for clients that do not name them in their streams.
    pub ports: Vec<u16>,
}

/// Why there is no URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// gRPC's `InvalidArgument`.
    #[error("{0}")]
    Invalid(&'static str),
    /// gRPC's `ResourceExhausted`.
    #[error("maximum number of in-flight requests exceeded")]
    TooMany,
}

enum Asked {
    Exec(ExecRequest),
    Attach(AttachRequest),
    PortForward(PortForwardRequest),
}

impl Asked {
    fn path(&self) -> &'static str {
        match self {
            Asked::Exec(_) => "exec",
            Asked::Attach(_) => "attach",
            Asked::PortForward(_) => "portforward",
        }
    }
}

/// The server. Dropping it ends all its sessions.
pub struct Server {
    inner: Arc<Inner>,
    address: SocketAddr,
    _stop: DropGuard,
}

struct Inner {
    runtime: Arc<dyn Runtime>,
    tokens: Mutex<Tokens<Asked>>,
    stop: CancellationToken,
}

impl Server {
    /// Listens on an address, of the loopback as a rule (port 0 for any), and serves.
    pub async fn bind(address: SocketAddr, runtime: Arc<dyn Runtime>) -> std::io::Result<Server> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let tokens = Mutex::new(Tokens::new());
        let inner = Arc::new(Inner {
            runtime,
            tokens,
            stop: stop.clone(),
        });
        tokio::spawn(accept(listener, inner.clone()));
        Ok(Server {
            inner,
            address,
            _stop: stop.drop_guard(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A URL that runs the command.
    pub fn exec_url(&self, request: ExecRequest) -> Result<String, UrlError> {
        validate(&request.container_id, request.options)?;
        self.url(Asked::Exec(request))
    }

    /// A URL that attaches to the container.
    pub fn attach_url(&self, request: AttachRequest) -> Result<String, UrlError> {
        validate(&request.container_id, request.options)?;
        self.url(Asked::Attach(request))
    }

    /// A URL that forwards ports of the pod.
    pub fn portforward_url(&self, request: PortForwardRequest) -> Result<String, UrlError> {
        if request.sandbox_id.is_empty() {
            return Err(UrlError::Invalid("missing required pod_sandbox_id"));
        }
        self.url(Asked::PortForward(request))
    }

    fn url(&self, asked: Asked) -> Result<String, UrlError> {
        let path = asked.path();
        let token = self.inner.tokens.lock().insert(asked, Instant::now());
        let token = token.ok_or(UrlError::TooMany)?;
        Ok(format!("http://{}/{path}/{token}", self.address))
    }
}

fn validate(container_id: &str, options: StreamOptions) -> Result<(), UrlError> {
    if container_id.is_empty() {
        return Err(UrlError::Invalid("missing required container_id"));
    }
    if options.tty && options.stderr {
        return Err(UrlError::Invalid("tty and stderr cannot both be true"));
    }
    if !options.stdin && !options.stdout && !options.stderr {
        return Err(UrlError::Invalid(
            "one of stdin, stdout, or stderr must be set",
        ));
    }
    Ok(())
}

async fn accept(listener: TcpListener, inner: Arc<Inner>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let stop = inner.stop.clone();
    let accepting = async {
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else {
                return;
            };
            let socket = match listener.accept().await {
                Ok((socket, _)) => socket,
                Err(error) => {
                    // Out of file descriptors, most likely: better in a moment than in a loop.
                    tracing::warn!("accepting a streaming connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let inner = inner.clone();
            tokio::spawn(async move {
                let stop = inner.stop.clone();
                tokio::select! {
                    () = connection(socket, inner) => {}
                    () = stop.cancelled() => {}
                }
                drop(permit);
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stop.cancelled() => {}
    }
}

/// Serves one connection: requests, and the session that one of them may turn it into.
async fn connection(socket: TcpStream, inner: Arc<Inner>) {
    // Keystrokes should not wait for one another.
    let _ = socket.set_nodelay(true);
    let session = Mutex::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let Prepared {
            response,
            session: prepared,
        } = inner.answer(request);
        *session.lock() = prepared;
        async move { Ok::<_, Infallible>(response) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!("a streaming connection failed: {error}");
        return;
    }
    let session = session.lock().take();
    if let Some(session) = session {
        session.await;
    }
}

impl Inner {
    fn answer(&self, request: Request<Incoming>) -> Prepared {
        let not_found = || http_upgrade::text(StatusCode::NOT_FOUND, "404 page not found\n");
        if ![Method::GET, Method::POST].contains(request.method()) {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            return Prepared::refused(http_upgrade::text(status, "405: Method Not Allowed"));
        }
        let mut parts = request.uri().path().split('/').skip(1);
        let (path, token) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let asked = self.tokens.lock().consume(token, Instant::now());
        let Some(asked) = asked.filter(|asked| asked.path() == path && parts.next().is_none())
        else {
            return Prepared::refused(not_found());
        };
        let runtime = self.runtime.clone();
        match asked {
            Asked::Exec(exec) => {
                let options = exec.options;
                let executor = Box::new(Exec {
                    runtime,
                    request: exec,
                });
                let doing = "executing command in container";
                remotecommand::prepare(request, options, executor, doing)
            }
            Asked::Attach(attach) => {
                let options = attach.options;
                let executor = Box::new(Attach {
                    runtime,
                    request: attach,
                });
                remotecommand::prepare(request, options, executor, "attaching to container")
            }
            Asked::PortForward(forward) => {
                let pod = forward.sandbox_id;
                let sandbox = Sandbox {
                    runtime,
                    id: pod.clone(),
                };
                portforward::prepare(request, &pod, &forward.ports, Arc::new(sandbox))
            }
        }
    }
}

struct Exec {
    runtime: Arc<dyn Runtime>,
    request: ExecRequest,
}

#[async_trait]
impl Executor for Exec {
    async fn run(self: Box<Self>, streams: Streams) -> Result<i32, Error> {
        self.runtime.exec(self.request, streams).await
    }
}

struct Attach {
    runtime: Arc<dyn Runtime>,
    request: AttachRequest,
}

#[async_trait]
impl Executor for Attach {
    async fn run(self: Box<Self>, streams: Streams) -> Result<i32, Error> {
        self.runtime.attach(self.request, streams).await.map(|()| 0)
    }
}

struct Sandbox {
    runtime: Arc<dyn Runtime>,
    id: String,
}

#[async_trait]
impl Connector for Sandbox {
    async fn connect(&self, port: u16) -> Result<Box<dyn Duplex>, Error> {
        self.runtime.connect(&self.id, port).await
    }
}

/// How long a URL is good for.
pub const URL_LIFETIME: Duration = LIFETIME;
