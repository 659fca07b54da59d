//! WebSockets: channels in messages, or one stream of bytes.
//!
//! With channels the first byte of a message names the channel (k8s.io/streaming, `wsstream`).
//! As with SPDY one task owns the transport, and its end is everybody's end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use futures::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::pipe::{Activity, LINGER, Outbox, Outgoing, PIECE, Reader, Writer, deliver};

/// The largest message that is taken.
const MAX_MESSAGE: usize = 1 << 20;
/// "This channel ends", followed by the channel; since version 5.
const CLOSE_SIGNAL: u8 = 255;

/// Takes over a transport whose upgrade is done.
pub(crate) async fn accept<I: AsyncRead + AsyncWrite + Unpin>(io: I) -> WebSocketStream<I> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_MESSAGE);
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

fn normal_close() -> Message {
    Message::Close(Some(CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    }))
}

/// How channels are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coding {
    /// Text messages: a digit and base64.
    pub(crate) base64: bool,
    /// The peer can end a channel of its own.
    pub(crate) close_signal: bool,
}

impl Coding {
    fn wrap(self, channel: u8, data: &[u8]) -> Message {
        if self.base64 {
            let mut text = String::with_capacity(1 + data.len() * 4 / 3 + 4);
            text.push(char::from(b'0' + channel));
            STANDARD.encode_string(data, &mut text);
            return Message::text(text);
        }
        let mut framed = BytesMut::with_capacity(1 + data.len());
        framed.extend_from_slice(&[channel]);
        framed.extend_from_slice(data);
        Message::Binary(framed.freeze())
    }

    /// The channel and what is for it.
    fn unwrap(self, mut message: Bytes) -> Option<(u8, Bytes)> {
        let first = *message.first()?;
        message.advance(1);
        if !self.base64 {
            return Some((first, message));
        }
        let data = STANDARD.decode(&message).ok()?;
        Some((first.checked_sub(b'0')?, data.into()))
    }
}

enum Order {
    Write(Message),
    Close,
}

/// A connection that carries channels.
pub(crate) struct Channels {
    coding: Coding,
    outbox: Outbox<Order>,
    gone: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Channels {
    /// Serves a connection. Channels for which `readable` says so can be read; what comes for the
    /// others is thrown away.
    pub(crate) fn start<I>(
        socket: WebSocketStream<I>,
        coding: Coding,
        readable: &[bool],
    ) -> (Channels, Vec<Option<Reader>>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (outbox, orders) = Outbox::new();
        let gone = CancellationToken::new();
        let (senders, readers) = readable
            .iter()
            .map(|&readable| readable.then(Reader::new).unzip())
            .collect::<(Vec<_>, Vec<_>)>();
        let end = End {
            gone: gone.clone(),
            outbox: outbox.clone(),
        };
        let own = outbox.clone();
        let task = tokio::spawn(async move {
            let _end = end;
            serve(socket, coding, senders, orders, own).await;
        });
        (
            Channels {
                coding,
                outbox,
                gone,
                task: AbortOnDropHandle::new(task),
            },
            readers,
        )
    }

    /// The writing end of a channel.
    pub(crate) fn writer(&self, channel: u8) -> impl AsyncWrite + Send + Unpin + use<> {
        let coding = self.coding;
        let wrap = move |data: Bytes| Order::Write(coding.wrap(channel, &data));
        Writer::new(&self.outbox, self.gone.clone(), None, wrap)
    }

    /// Sends a short message, an empty one for instance, to say that the channel is there.
    pub(crate) fn announce(&self, channel: u8, data: &[u8]) {
        self.outbox
            .send(Order::Write(self.coding.wrap(channel, data)));
    }

    /// Cancelled when the peer is gone.
    pub(crate) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Brings out what has been written, says goodbye and waits for the peer to do so.
    pub(crate) async fn finish(self) {
        self.outbox.send(Order::Close);
        // Whether the task ended by itself or in a panic: the connection is over.
        let _ = self.task.await;
    }
}

struct End {
    gone: CancellationToken,
    outbox: Outbox<Order>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.gone.cancel();
        self.outbox.close();
    }
}

async fn serve<I: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<I>,
    coding: Coding,
    channels: Vec<Option<mpsc::Sender<Bytes>>>,
    orders: mpsc::UnboundedReceiver<Outgoing<Order>>,
    outbox: Outbox<Order>,
) {
    let activity = Activity::new();
    let (sink, stream) = socket.split();
    let read = read_all(stream, coding, channels, &activity, &outbox);
    let write = write_all(sink, orders, &activity);
    tokio::pin!(read, write);
    tokio::select! {
        result = &mut read => {
            if let Err(error) = result {
                tracing::debug!("reading a WebSocket: {error}");
            }
        }
        result = &mut write => match result {
            // The transport would throw away what the peer has not taken yet if it were closed
            // while something of the peer is unread.
            Ok(()) => drop(tokio::time::timeout(LINGER, read).await),
            Err(error) => tracing::debug!("writing a WebSocket: {error}"),
        },
        () = activity.idle() => tracing::debug!("closing a WebSocket that was idle"),
    }
}

async fn write_all(
    mut sink: impl Sink<Message, Error = WsError> + Unpin,
    mut orders: mpsc::UnboundedReceiver<Outgoing<Order>>,
    activity: &Activity,
) -> Result<(), WsError> {
    while let Some((order, room)) = orders.recv().await {
        match order {
            Order::Write(message) => sink.send(message).await?,
            Order::Close => return sink.send(normal_close()).await,
        }
        activity.note();
        drop(room);
    }
    Ok(())
}

async fn read_all(
    mut stream: impl Stream<Item = Result<Message, WsError>> + Unpin,
    coding: Coding,
    mut channels: Vec<Option<mpsc::Sender<Bytes>>>,
    activity: &Activity,
    outbox: &Outbox<Order>,
) -> Result<(), WsError> {
    while let Some(message) = stream.next().await {
        activity.note();
        let data = match message? {
            Message::Binary(data) => data,
            Message::Text(text) => text.into(),
            // Until the answer to it is out the stream goes on.
            _ => continue,
        };
        if coding.close_signal && data.first() == Some(&CLOSE_SIGNAL) {
            match channels.get_mut(usize::from(data.get(1).copied().unwrap_or(u8::MAX))) {
                Some(channel) if data.len() == 2 => *channel = None,
                _ => return Ok(()),
            }
            continue;
        }
        let Some((channel, data)) = coding.unwrap(data) else {
            continue;
        };
        if let Some(Some(sender)) = channels.get(usize::from(channel))
            && !data.is_empty()
        {
            let ping = || outbox.send_if_room(Order::Write(Message::Ping(Bytes::new())), 2);
            deliver(sender, data, ping).await;
        }
    }
    Ok(())
}

/// A WebSocket as a stream of bytes: whatever is in the binary messages, one after another.
pub(crate) struct Tunnel<I> {
    socket: WebSocketStream<I>,
    rest: Bytes,
    closing: bool,
}

impl<I> Tunnel<I> {
    pub(crate) fn new(socket: WebSocketStream<I>) -> Tunnel<I> {
        Tunnel {
            socket,
            rest: Bytes::new(),
            closing: false,
        }
    }
}

fn io_error(error: WsError) -> io::Error {
    match error {
        WsError::Io(error) => error,
        WsError::ConnectionClosed | WsError::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        error => io::Error::other(error),
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tunnel<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.socket.poll_next_unpin(cx)) {
                Some(Ok(Message::Binary(data))) => self.rest = data,
                Some(Ok(Message::Text(_))) => {
                    let what = "a text message in a tunnel";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what)));
                }
                Some(Ok(_)) => {}
                Some(Err(WsError::ConnectionClosed)) | None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
            }
        }
        let len = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..len]);
        self.rest.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tunnel<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let len = buf.len().min(PIECE);
        ready!(self.socket.poll_ready_unpin(cx)).map_err(io_error)?;
        let message = Message::Binary(Bytes::copy_from_slice(&buf[..len]));
        self.socket.start_send_unpin(message).map_err(io_error)?;
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_flush_unpin(cx).map_err(io_error)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            ready!(self.socket.poll_ready_unpin(cx)).map_err(io_error)?;
            self.socket
                .start_send_unpin(normal_close())
                .map_err(io_error)?;
            self.closing = true;
        }
        self.socket.poll_flush_unpin(cx).map_err(io_error)
    }
}
