//! HTTP/1.1 over TLS with as little of its own as can be: what is measured shares the machine with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const CHUNK: usize = 64 << 10;

/// A connection that is used by one request after the other.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

/// An answer.
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) body: Vec<u8>,
    /// How many bytes the body had.
    pub(super) bytes: usize,
    /// From the request's end to the first byte of the body.
    pub(super) first_byte: Duration,
}

/// Connects with TLS.
pub(super) async fn dial(
    port: u16,
    config: Arc<rustls::ClientConfig>,
) -> anyhow::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").context("a name")?;
    Ok(TlsConnector::from(config).connect(name, stream).await?)
}

impl Connection {
    /// Opens one.
    pub(super) async fn open(port: u16, config: Arc<rustls::ClientConfig>) -> anyhow::Result<Self> {
        let stream = dial(port, config).await?;
        let buffer = Vec::with_capacity(CHUNK);
        Ok(Self { stream, buffer })
    }

    /// The bytes of a request.
    pub(super) fn request(&self, method: &str, path: &str, body: Option<&str>) -> Vec<u8> {
        let kind = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = body.unwrap_or("");
        format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\
             Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        self.read_answer(request, true).await
    }

    /// The same, counting the body's bytes instead of keeping them.
    pub(super) async fn measure(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        self.read_answer(request, false).await
    }

    async fn read_answer(&mut self, request: &[u8], keep: bool) -> anyhow::Result<Answer> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let began = Instant::now();
        self.buffer.clear();
        let head = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            self.fill().await?;
        };
        let text = std::str::from_utf8(&self.buffer[..head])?.to_ascii_lowercase();
        let code = text.split(' ').nth(1).context("a status")?.parse()?;
        let field = |name: &str| {
            let mut lines = text.lines();
            lines
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        let length: Option<usize> = field("content-length:").map(str::parse).transpose()?;
        let chunked = field("transfer-encoding:") == Some("chunked");
        self.buffer.drain(..head);
        if self.buffer.is_empty() && length != Some(0) {
            self.fill().await?;
        }
        let mut answer = Answer {
            code,
            body: Vec::new(),
            bytes: 0,
            first_byte: began.elapsed(),
        };
        match (length, chunked) {
            (Some(length), _) => self.take(length, keep, &mut answer).await?,
            (None, true) => self.chunks(keep, &mut answer).await?,
            (None, false) => bail!("an answer without an end"),
        }
        Ok(answer)
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => bail!("the connection ended"),
            _ => Ok(()),
        }
    }

    async fn take(&mut self, length: usize, keep: bool, to: &mut Answer) -> anyhow::Result<()> {
        let mut left = length;
        while left > 0 {
            if self.buffer.is_empty() {
                self.fill().await?;
            }
            let part = left.min(self.buffer.len());
            if keep {
                to.body.extend_from_slice(&self.buffer[..part]);
            }
            to.bytes += part;
            left -= part;
            self.buffer.drain(..part);
        }
        Ok(())
    }

    async fn chunks(&mut self, keep: bool, to: &mut Answer) -> anyhow::Result<()> {
        loop {
            let end = loop {
                if let Some(end) = find(&self.buffer, b"\r\n") {
                    break end;
                }
                self.fill().await?;
            };
            let size = std::str::from_utf8(&self.buffer[..end])?;
            let size = usize::from_str_radix(size.trim(), 16)?;
            self.buffer.drain(..end + 2);
            self.take(size, keep, to).await?;
            while self.buffer.len() < 2 {
                self.fill().await?;
            }
            self.buffer.drain(..2);
            if size == 0 {
                return Ok(());
            }
        }
    }
}

fn find(buffer: &[u8], what: &[u8]) -> Option<usize> {
    buffer.windows(what.len()).position(|w| w == what)
}
