//! The protocols of exec, attach and port-forward, server side.
//!
//! What it is: what `kubectl` and the client libraries speak once a request for one of the three
//! has been upgraded, as the streaming server of a container runtime has to speak it. The kubelet
//! and the API server in front of it pass the bytes on as they are.
//!
//! | upgrade | exec and attach | port-forward |
//! |---|---|---|
//! | WebSocket | `v5.channel.k8s.io`, `v4.`, `v4.base64.`, without a version | `SPDY/3.1+portforward.k8s.io`, `v4.channel.k8s.io`, `v4.base64.` |
//! | SPDY/3.1 | `v4.channel.k8s.io` down to without a version | `portforward.k8s.io` |
//!
//! What it is not: it starts no process and opens no container's port ([`Executor`], [`Connector`]
//! and [`Runtime`] do), it authenticates nobody beyond the single-use tokens of [`Server`], and
//! it is no client.
//!
//! Where to start: [`Server`], which a runtime starts once; [`serve_exec`] and
//! [`serve_portforward`] below it; `remotecommand` and `portforward` for the protocols, `spdy`
//! and `websocket` for what carries them.
//!
//! Bounds: a connection holds a few hundred KiB at most in either direction (one
//! message for a WebSocket), then the peer has to wait. Everything that runs for a connection
//! ends with it.
//!
//! WebSockets come from `tokio-tungstenite`: it reads and writes at the same time without an
//! unstable feature, its reads may be cancelled, and it bounds messages itself.

mod http_upgrade;
mod pipe;
mod portforward;
mod remotecommand;
mod server;
mod spdy;
mod status;
mod token;
mod websocket;

#[cfg(test)]
mod tests;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

pub use portforward::serve_portforward;
pub use remotecommand::{serve_attach, serve_exec};
pub use server::{
    AttachRequest, ExecRequest, PortForwardRequest, Runtime, Server, URL_LIFETIME, UrlError,
};

/// Why a handler did not do its work; the text reaches the user.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// The body of every response: empty, or the text of an error.
pub type Body = http_body_util::Full<bytes::Bytes>;

/// Which streams a client asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamOptions {
    /// The client sends input.
    pub stdin: bool,
    /// The client takes the output.
    pub stdout: bool,
    /// The client takes the errors; never together with `tty`.
    pub stderr: bool,
    /// The process has a terminal.
    pub tty: bool,
}

/// The size of the client's terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// What a process reads from.
pub type Input = Box<dyn AsyncRead + Send + Unpin>;
/// What a process writes to. The client sees its end when it is shut down or dropped.
pub type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// The sizes of the client's terminal as they change. Only the latest counts.
pub struct Resizes(pub(crate) watch::Receiver<Option<TerminalSize>>);

impl Resizes {
    /// The next size that is not the one that was returned last; `None` when there will be no
    /// more.
    pub async fn next(&mut self) -> Option<TerminalSize> {
        loop {
            self.0.changed().await.ok()?;
            let size = *self.0.borrow_and_update();
            if size.is_some() {
                return size;
            }
        }
    }
}

/// The client's end of a process.
pub struct Streams {
    /// Ends when the client says so or goes away.
    pub stdin: Option<Input>,
    /// Fails once the client is gone.
    pub stdout: Option<Output>,
    /// As `stdout`.
    pub stderr: Option<Output>,
    /// Never yields anything without a terminal.
    pub resize: Resizes,
}

/// Runs a command, or attaches to one.
#[async_trait]
pub trait Executor: Send + 'static {
    /// Connects the streams and waits for the end: the command's exit code. All output must have
    /// been written by then. The future is dropped as soon as the client is gone; what becomes of
    /// the command then is the executor's decision.
    async fn run(self: Box<Self>, streams: Streams) -> Result<i32, Error>;
}

/// Both directions of a connection.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Opens connections into a pod.
#[async_trait]
pub trait Connector: Send + Sync + 'static {
    /// Connects to a port of the pod.
    async fn connect(&self, port: u16) -> Result<Box<dyn Duplex>, Error>;
}
