//! Clients as plain as they can be.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use crate::spdy::{Decoder, Encoder, Frame, Headers};

pub(super) type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

/// Sends a request with the given headers to a URL.
pub(super) async fn request(url: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, _) = rest.split_once('/').unwrap();
    let io = TokioIo::new(TcpStream::connect(host).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::post(&rest[host.len()..]).header("host", host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    sender
        .send_request(request.body(Empty::<Bytes>::new()).unwrap())
        .await
        .unwrap()
}

/// The status and the text of an answer.
pub(super) async fn refusal(url: &str, headers: &[(&str, &str)]) -> (StatusCode, String) {
    let response = request(url, headers).await;
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

pub(super) const WEBSOCKET: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// Opens a WebSocket; the protocol that the server chose.
pub(super) async fn websocket(
    url: &str,
    protocols: &str,
) -> (WebSocketStream<Upgraded>, Option<String>) {
    let mut headers = WEBSOCKET.to_vec();
    if !protocols.is_empty() {
        headers.push(("sec-websocket-protocol", protocols));
    }
    let response = request(url, &headers).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    // The example of RFC 6455.
    assert_eq!(
        response.headers()["sec-websocket-accept"],
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    let chosen = response.headers().get("sec-websocket-protocol");
    let chosen = chosen.map(|value| value.to_str().unwrap().to_owned());
    let io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    (
        WebSocketStream::from_raw_socket(io, Role::Client, None).await,
        chosen,
    )
}

/// Reads a WebSocket to its end: what came on each channel, and how it was closed.
pub(super) async fn channels(
    socket: &mut WebSocketStream<Upgraded>,
) -> (BTreeMap<u8, String>, Option<CloseFrame>) {
    let mut seen: BTreeMap<u8, String> = BTreeMap::new();
    let mut close = None;
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Binary(data) => {
                let text = std::str::from_utf8(&data[1..]).unwrap();
                seen.entry(data[0]).or_default().push_str(text);
            }
            Message::Text(text) => {
                let (channel, data) = text.split_at(1);
                seen.entry(channel.parse().unwrap())
                    .or_default()
                    .push_str(data);
            }
            Message::Close(frame) => close = frame,
            _ => {}
        }
    }
    (seen, close)
}

pub(super) async fn send(socket: &mut WebSocketStream<Upgraded>, message: impl Into<Message>) {
    socket.send(message.into()).await.unwrap();
}

pub(super) fn binary(channel: u8, data: &str) -> Message {
    Message::binary([&[channel], data.as_bytes()].concat())
}

/// A SPDY connection seen from the client.
pub(super) struct Spdy<I> {
    decoder: Decoder<ReadHalf<I>>,
    encoder: Encoder,
    write: WriteHalf<I>,
    next_id: u32,
}

/// Opens a SPDY connection; the protocol that the server chose.
pub(super) async fn spdy(url: &str, protocols: &str) -> (Spdy<Upgraded>, String) {
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "SPDY/3.1"),
        ("x-stream-protocol-version", protocols),
    ];
    let response = request(url, &headers).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "SPDY/3.1");
    let chosen = response.headers()["x-stream-protocol-version"]
        .to_str()
        .unwrap()
        .to_owned();
    let io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    (Spdy::new(io), chosen)
}

impl<I: AsyncRead + AsyncWrite> Spdy<I> {
    pub(super) fn new(io: I) -> Spdy<I> {
        let (read, write) = tokio::io::split(io);
        Spdy {
            decoder: Decoder::new(read),
            encoder: Encoder::new(),
            write,
            next_id: 1,
        }
    }

    pub(super) async fn send(&mut self, frame: Frame) {
        let mut bytes = Vec::new();
        self.encoder.encode(&frame, &mut bytes).unwrap();
        self.write.write_all(&bytes).await.unwrap();
        self.write.flush().await.unwrap();
    }

    pub(super) async fn next(&mut self) -> Option<Frame> {
        self.decoder.next().await.unwrap()
    }

    /// Opens a stream without waiting for the reply.
    pub(super) async fn begin(&mut self, headers: &[(&str, &str)]) -> u32 {
        let stream = self.next_id;
        self.next_id += 2;
        let headers = headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        let headers = Headers(headers);
        self.send(Frame::SynStream {
            stream,
            headers,
            fin: false,
            unidirectional: false,
        })
        .await;
        stream
    }

    /// Opens a stream as the Kubernetes clients do: nothing else until the reply is there.
    pub(super) async fn open(&mut self, headers: &[(&str, &str)]) -> u32 {
        let opened = self.begin(headers).await;
        let reply = self.next().await;
        assert!(matches!(reply, Some(Frame::SynReply { stream, .. }) if stream == opened));
        opened
    }

    pub(super) async fn data(&mut self, stream: u32, data: &str, fin: bool) {
        self.send(Frame::Data {
            stream,
            data: Bytes::copy_from_slice(data.as_bytes()),
            fin,
        })
        .await;
    }

    /// Reads until the connection ends or all of some streams have: what came on each stream,
    /// with a `.` where it ended and an `!` where it was reset.
    pub(super) async fn read(&mut self, until: &[u32]) -> BTreeMap<u32, String> {
        let mut seen: BTreeMap<u32, String> = BTreeMap::new();
        let mut open = until.to_vec();
        while let Some(frame) = self.next().await {
            match frame {
                Frame::Data { stream, data, fin } => {
                    let text = seen.entry(stream).or_default();
                    text.push_str(std::str::from_utf8(&data).unwrap());
                    if fin {
                        text.push('.');
                        open.retain(|&other| other != stream);
                    }
                }
                Frame::Reset { stream, .. } => {
                    seen.entry(stream).or_default().push('!');
                    open.retain(|&other| other != stream);
                }
                _ => {}
            }
            if !until.is_empty() && open.is_empty() {
                break;
            }
        }
        seen
    }
}
