//! A connection and its streams.
//!
//! One task owns the transport. It ends, and with it every stream, when the peer goes away, when
//! [`Connection::finish`] has brought everything out, when nothing happens for hours, or when the
//! [`Connection`] is dropped.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::frame::{Decoder, Encoder, Frame, RESET_CANCEL, RESET_REFUSED};
use super::header::Headers;
use crate::pipe::{Activity, LINGER, Outbox, Outgoing, PIECE, Reader, Writer, deliver};

/// Streams that a peer may have open.
const MAX_STREAMS: usize = 1000;

/// What the streams tell the connection to do.
enum Order {
    Write(Frame),
    /// Bring out what is there and end.
    Close,
}

/// A connection whose peer opens streams.
pub(crate) struct Connection {
    outbox: Outbox<Order>,
    gone: CancellationToken,
    task: AbortOnDropHandle<()>,
}

/// A stream that the peer opened. Dropping a half ends its direction.
pub(crate) struct Stream {
    pub(crate) id: u32,
    pub(crate) headers: Headers,
    pub(crate) reader: Reader,
    pub(crate) writer: StreamWriter,
    outbox: Outbox<Order>,
    /// Cancelled when the peer resets the stream or goes away.
    pub(crate) reset: CancellationToken,
}

/// The writing half of a stream.
pub(crate) struct StreamWriter {
    writer: Writer<Order>,
    /// Tells the reading side that the stream is still in use.
    _writing: Arc<()>,
}

impl AsyncWrite for StreamWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

impl Stream {
    /// Tells the peer that the stream is taken.
    pub(crate) fn accept(&self) {
        let headers = Headers::default();
        self.outbox.send(Order::Write(Frame::SynReply {
            stream: self.id,
            headers,
            fin: false,
        }));
    }

    /// Tells the peer that it is not.
    pub(crate) fn reject(mut self) {
        self.writer.reset(self.id);
    }
}

impl StreamWriter {
    /// Ends both directions of the stream at once.
    pub(crate) fn reset(&mut self, id: u32) {
        self.writer.end_with(Order::Write(Frame::Reset {
            stream: id,
            status: RESET_CANCEL,
        }));
    }
}

impl Connection {
    /// Serves a connection whose upgrade is done; the streams arrive in the receiver.
    pub(crate) fn server<I>(io: I) -> (Connection, mpsc::Receiver<Stream>)
    where
        I: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (outbox, orders) = Outbox::new();
        let (streams, opened) = mpsc::channel(1);
        let gone = CancellationToken::new();
        let (read, write) = tokio::io::split(io);
        let activity = Activity::new();
        let incoming = Incoming {
            decoder: Decoder::new(read),
            outbox: outbox.clone(),
            streams,
            open: HashMap::new(),
            last_stream: 0,
            activity: activity.clone(),
            gone: gone.clone(),
        };
        let end = End {
            gone: gone.clone(),
            outbox: outbox.clone(),
        };
        let task = tokio::spawn(async move {
            let _end = end;
            serve(incoming, write, orders, activity).await;
        });
        (
            Connection {
                outbox,
                gone,
                task: AbortOnDropHandle::new(task),
            },
            opened,
        )
    }

    /// Cancelled when the peer is gone.
    pub(crate) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Brings out what the streams have written, says goodbye and waits for the peer to hang up.
    pub(crate) async fn finish(self) {
        self.outbox.send(Order::Write(Frame::GoAway {
            last_stream: 0,
            status: 0,
        }));
        self.outbox.send(Order::Close);
        // Whether the task ended by itself or in a panic: the connection is over.
        let _ = self.task.await;
    }
}

/// Tells everybody when the task of a connection is over, however it ends.
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

async fn serve<I: AsyncRead + AsyncWrite>(
    mut incoming: Incoming<ReadHalf<I>>,
    write: WriteHalf<I>,
    orders: mpsc::UnboundedReceiver<Outgoing<Order>>,
    activity: Activity,
) {
    let read = incoming.run();
    let write = write_all(write, orders, &activity);
    tokio::pin!(read, write);
    tokio::select! {
        result = &mut read => {
            if let Err(error) = result {
                tracing::debug!("reading a SPDY connection: {error}");
            }
        }
        result = &mut write => match result {
            // The transport would throw away what the peer has not taken yet if it were closed
            // while something of the peer is unread.
            Ok(()) => drop(tokio::time::timeout(LINGER, read).await),
            Err(error) => tracing::debug!("writing a SPDY connection: {error}"),
        },
        () = activity.idle() => tracing::debug!("closing a SPDY connection that was idle"),
    }
}

async fn write_all<W: AsyncWrite + Unpin>(
    mut to: W,
    mut orders: mpsc::UnboundedReceiver<Outgoing<Order>>,
    activity: &Activity,
) -> io::Result<()> {
    let mut encoder = Encoder::new();
    let mut buffer = Vec::new();
    while let Some((mut order, mut room)) = orders.recv().await {
        // Whatever waits goes out together, up to a piece.
        let mut rooms = Vec::new();
        let mut close = false;
        loop {
            match order {
                Order::Write(frame) => encoder.encode(&frame, &mut buffer)?,
                Order::Close => close = true,
            }
            rooms.extend(room);
            if close || buffer.len() >= PIECE {
                break;
            }
            match orders.try_recv() {
                Ok(next) => (order, room) = next,
                Err(_) => break,
            }
        }
        to.write_all(&buffer).await?;
        to.flush().await?;
        buffer.clear();
        activity.note();
        drop(rooms);
        if close {
            return to.shutdown().await;
        }
    }
    Ok(())
}

/// A stream as the reading side knows it.
struct Open {
    /// Until the peer has ended its direction.
    pieces: Option<mpsc::Sender<Bytes>>,
    reset: CancellationToken,
    /// Whether our own direction is still in use.
    writing: Weak<()>,
}

impl Open {
    fn in_use(&self) -> bool {
        let reading = self
            .pieces
            .as_ref()
            .is_some_and(|pieces| !pieces.is_closed());
        reading || self.writing.strong_count() > 0
    }
}

struct Incoming<R> {
    decoder: Decoder<R>,
    outbox: Outbox<Order>,
    streams: mpsc::Sender<Stream>,
    open: HashMap<u32, Open>,
    last_stream: u32,
    activity: Activity,
    gone: CancellationToken,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    async fn run(&mut self) -> io::Result<()> {
        while let Some(frame) = self.decoder.next().await? {
            self.activity.note();
            match frame {
                Frame::SynStream {
                    stream,
                    headers,
                    fin,
                    ..
                } => {
                    self.opened(stream, headers, fin).await;
                }
                Frame::Data { stream, data, fin } => self.data(stream, data, fin).await,
                Frame::Headers { stream, fin, .. } => self.data(stream, Bytes::new(), fin).await,
                Frame::Reset { stream, .. } => {
                    if let Some(open) = self.open.remove(&stream) {
                        open.reset.cancel();
                    }
                }
                // Only the peer's own pings want an answer; a client's are odd.
                Frame::Ping { id } if id % 2 == 1 => {
                    self.outbox
                        .send_if_room(Order::Write(Frame::Ping { id }), 12);
                }
                Frame::GoAway { .. } => return Ok(()),
                _ => {}
            }
        }
        Ok(())
    }

    async fn opened(&mut self, id: u32, headers: Headers, fin: bool) {
        self.open.retain(|_, open| open.in_use());
        if id.is_multiple_of(2) || id <= self.last_stream || self.open.len() >= MAX_STREAMS {
            let refused = Order::Write(Frame::Reset {
                stream: id,
                status: RESET_REFUSED,
            });
            self.outbox.send_if_room(refused, 16);
            return;
        }
        self.last_stream = id;
        let (pieces, reader) = Reader::new();
        let reset = self.gone.child_token();
        let end = Order::Write(Frame::Data {
            stream: id,
            data: Bytes::new(),
            fin: true,
        });
        let wrap = move |data| {
            Order::Write(Frame::Data {
                stream: id,
                data,
                fin: false,
            })
        };
        let writing = Arc::new(());
        let writer = Writer::new(&self.outbox, reset.clone(), Some(end), wrap);
        let open = Open {
            pieces: (!fin).then_some(pieces),
            reset: reset.clone(),
            writing: Arc::downgrade(&writing),
        };
        self.open.insert(id, open);
        let writer = StreamWriter {
            writer,
            _writing: writing,
        };
        let outbox = self.outbox.clone();
        let stream = Stream {
            id,
            headers,
            reader,
            writer,
            outbox,
            reset,
        };
        if let Err(unwanted) = self.streams.send(stream).await {
            unwanted.0.reject();
        }
    }

    async fn data(&mut self, id: u32, data: Bytes, fin: bool) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        if let Some(pieces) = open.pieces.as_ref().filter(|_| !data.is_empty()) {
            let ping = || {
                self.outbox
                    .send_if_room(Order::Write(Frame::Ping { id: 2 }), 12)
            };
            deliver(pieces, data, ping).await;
        }
        if fin {
            open.pieces = None;
        }
    }
}
