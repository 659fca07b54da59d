//! Port-forward (cri-streaming, `portforward`; client-go, `tools/portforward`).
//!
//! Over SPDY, plain or in a WebSocket tunnel, the client opens two streams for each connection
//! that it has accepted: one for errors, then one for data, with the port and a request number in
//! their headers. Over the channels of a WebSocket, the older way, there is one connection for
//! each port of the request, on two channels.

use std::collections::HashMap;
use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::remotecommand::{Prepared, upgraded};
use crate::spdy::{Connection, Stream};
use crate::{Body, Connector, http_upgrade, websocket};

/// How long the second stream of a pair may take.
const STREAM_CREATION: Duration = Duration::from_secs(30);
/// How long a client may go on sending once the program in the pod has ended the connection (containerd's figure).
const LINGER: Duration = Duration::from_secs(1);
/// Ports that one request may name.
const MAX_PORTS: usize = 64;

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const V4: &str = "v4.channel.k8s.io";
const V4_BASE64: &str = "v4.base64.channel.k8s.io";
const OVER_WEBSOCKET: [&str; 3] = [TUNNEL, V4, V4_BASE64];
const OVER_SPDY: [&str; 1] = ["portforward.k8s.io"];

/// Serves a request to forward ports. `pod` is named in errors; `ports` are needed only by
/// clients that use the channels of a WebSocket. The session goes on after the response has been
/// sent and ends with its connection.
pub async fn serve_portforward<B>(
    request: Request<B>,
    pod: &str,
    ports: &[u16],
    connector: Arc<dyn Connector>,
) -> Response<Body> {
    prepare(request, pod, ports, connector).start()
}

pub(crate) fn prepare<B>(
    mut request: Request<B>,
    pod: &str,
    ports: &[u16],
    connector: Arc<dyn Connector>,
) -> Prepared {
    let agreed = http_upgrade::agree(request.headers(), &OVER_WEBSOCKET, &OVER_SPDY);
    let (agreed, over_websocket) = match agreed {
        Ok(agreed) => agreed,
        Err(response) => return Prepared::refused(*response),
    };
    let protocol = agreed.protocol;
    let channels = over_websocket && protocol != TUNNEL;
    if channels && !(1..=MAX_PORTS).contains(&ports.len()) {
        let message = "query parameter \"port\" is required\n";
        return Prepared::refused(http_upgrade::text(http::StatusCode::BAD_REQUEST, message));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let target = Target {
        pod: pod.to_owned(),
        connector,
    };
    let ports = ports.to_owned();
    let session = async move {
        let Some(io) = upgraded(upgrade).await else {
            return;
        };
        if channels {
            over_channels(io, protocol == V4_BASE64, &ports, target).await;
        } else if over_websocket {
            let socket = websocket::accept(io).await;
            over_a_spdy_connection(websocket::Tunnel::new(socket), target).await;
        } else {
            over_a_spdy_connection(io, target).await;
        }
    };
    Prepared {
        response: agreed.response,
        session: Some(session.boxed()),
    }
}

#[derive(Clone)]
struct Target {
    pod: String,
    connector: Arc<dyn Connector>,
}

impl Target {
    /// Connects to the port and carries bytes until both sides have ended.
    async fn carry(
        &self,
        port: u16,
        mut data: impl AsyncRead + AsyncWrite + Unpin,
    ) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| {
            format!(
                "error forwarding port {port} to pod {}, uid : {error}",
                self.pod
            )
        };
        let mut conn = self
            .connector
            .connect(port)
            .await
            .map_err(|error| failed(&error))?;
        match until_the_pod_ends(&mut data, &mut conn).await {
            // The end of this one connection, as harsh as the program in the pod wanted it; a
            // message would make the client give up all the others too.
            Err(error) if matches!(error.kind(), ConnectionReset | BrokenPipe) => Ok(()),
            Err(error) => Err(failed(&error)),
            Ok(()) => Ok(()),
        }
    }
}

/// Carries bytes both ways. Clients on the channels of a WebSocket cannot say that they have ended, so it is over when
/// the program in the pod has, and the client has had [`LINGER`] to send what is left.
async fn until_the_pod_ends(
    data: &mut (impl AsyncRead + AsyncWrite + Unpin),
    conn: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = tokio::io::split(data);
    let (mut from_pod, mut to_pod) = tokio::io::split(conn);
    let up = async {
        tokio::io::copy(&mut from_client, &mut to_pod).await?;
        to_pod.shutdown().await
    };
    let down = async {
        tokio::io::copy(&mut from_pod, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::pin!(up, down);
    tokio::select! {
        ended = &mut up => {
            ended?;
            down.await
        }
        ended = &mut down => {
            ended?;
            // Out of time: what the client still sends nobody reads.
            tokio::time::timeout(LINGER, up).await.unwrap_or(Ok(()))
        }
    }
}

/// The streams of one forwarded connection while they arrive.
struct Pair {
    error: Option<Stream>,
    data: Option<Stream>,
    until: Instant,
}

async fn over_a_spdy_connection<I>(io: I, target: Target)
where
    I: AsyncRead + AsyncWrite + Send + 'static,
{
    let (connection, mut opened) = Connection::server(io);
    let gone = connection.gone();
    let mut pairs: HashMap<String, Pair> = HashMap::new();
    // Dropped at the end, and with it whatever is still being carried.
    let mut carried = JoinSet::new();
    loop {
        let earliest = pairs.values().map(|pair| pair.until).min();
        let timeout = async {
            match earliest {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        let stream = tokio::select! {
            stream = opened.recv() => stream,
            () = gone.cancelled() => None,
            () = timeout => {
                give_up(&mut pairs).await;
                continue;
            }
            Some(_) = carried.join_next() => continue,
        };
        let Some(stream) = stream else { return };
        let Some((request, is_error)) = accept(&stream) else {
            stream.reject();
            continue;
        };
        let until = Instant::now() + STREAM_CREATION;
        let pair = pairs.entry(request.clone()).or_insert(Pair {
            error: None,
            data: None,
            until,
        });
        let place = if is_error {
            &mut pair.error
        } else {
            &mut pair.data
        };
        if place.is_some() {
            stream.reject();
            continue;
        }
        stream.accept();
        *place = Some(stream);
        if let Pair {
            error: Some(_),
            data: Some(_),
            ..
        } = pair
            && let Some(Pair {
                error: Some(error),
                data: Some(data),
                ..
            }) = pairs.remove(&request)
        {
            carried.spawn(carry_pair(target.clone(), data, error));
        }
    }
}

/// Drops the streams whose other half did not come.
async fn give_up(pairs: &mut HashMap<String, Pair>) {
    let now = Instant::now();
    let late: Vec<String> = pairs
        .iter()
        .filter(|(_, pair)| pair.until <= now)
        .map(|(request, _)| request.clone())
        .collect();
    for request in late {
        let Some(Pair {
            error: Some(mut error),
            ..
        }) = pairs.remove(&request)
        else {
            continue;
        };
        let message = format!("(request={request}) timed out waiting for streams");
        // It fails when the connection is gone, and then the loop notices too.
        let _ = error.writer.write_all(message.as_bytes()).await;
    }
}

/// The request that a stream belongs to, and whether it is the one for errors; `None` when its
/// headers are not right.
fn accept(stream: &Stream) -> Option<(String, bool)> {
    port_of(stream)?;
    let is_error = match stream.headers.get("streamtype")? {
        "error" => true,
        "data" => false,
        _ => return None,
    };
    let request = match stream.headers.get("requestid").filter(|id| !id.is_empty()) {
        Some(id) => id.to_owned(),
        // Old clients number nothing; their two streams follow one another.
        None if is_error => stream.id.to_string(),
        None => stream.id.checked_sub(2)?.to_string(),
    };
    Some((request, is_error))
}

fn port_of(stream: &Stream) -> Option<u16> {
    stream
        .headers
        .get("port")?
        .parse()
        .ok()
        .filter(|&port| port > 0)
}

async fn carry_pair(target: Target, mut data: Stream, mut error: Stream) {
    let Some(port) = port_of(&data) else { return };
    let reset = data.reset.clone();
    let result = tokio::select! {
        result = target.carry(port, &mut data) => result,
        // The client has ended the connection; what happens on the other side no longer counts.
        () = reset.cancelled() => Ok(()),
    };
    if let Err(message) = result {
        tracing::debug!("{message}");
        // It fails only when the connection is gone.
        let _ = error.writer.write_all(message.as_bytes()).await;
        let _ = error.writer.shutdown().await;
        data.writer.reset(data.id);
    }
}

/// A stream in both directions at once.
impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

async fn over_channels<I>(io: I, base64: bool, ports: &[u16], target: Target)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let socket = websocket::accept(io).await;
    let coding = websocket::Coding {
        base64,
        close_signal: false,
    };
    let readable: Vec<bool> = ports.iter().flat_map(|_| [true, false]).collect();
    let (channels, mut readers) = websocket::Channels::start(socket, coding, &readable);
    let gone = channels.gone();
    let mut carried = JoinSet::new();
    for (number, &port) in ports.iter().enumerate() {
        let (data, error) = (number * 2, number * 2 + 1);
        // Both channels begin with the port that they are for.
        channels.announce(data as u8, &port.to_le_bytes());
        channels.announce(error as u8, &port.to_le_bytes());
        let Some(reader) = readers[data].take() else {
            continue;
        };
        let stream = tokio::io::join(reader, channels.writer(data as u8));
        let mut errors = channels.writer(error as u8);
        let target = target.clone();
        carried.spawn(async move {
            if let Err(message) = target.carry(port, stream).await {
                // It fails only when the connection is gone.
                let _ = errors.write_all(message.as_bytes()).await;
            }
        });
    }
    let all = async { while carried.join_next().await.is_some() {} };
    tokio::select! {
        () = all => channels.finish().await,
        () = gone.cancelled() => {}
    }
}
