//! Between the one task that owns a connection and the many that read and write its streams.
//!
//! Inward each stream has a short queue; when it is full, the connection is not read. Outward all
//! streams share one queue whose *bytes* are bounded by a semaphore: data waits for room, while
//! the small frames that end a stream never have to, so that dropping a writer can send them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, PollSemaphore};

/// Bytes that wait to be written to one connection.
pub(crate) const BUDGET: usize = 256 << 10;
/// Bytes that travel in one piece.
pub(crate) const PIECE: usize = 32 << 10;
/// Pieces that wait to be read from one stream.
pub(crate) const QUEUE: usize = 4;
/// How long a connection may be silent.
pub(crate) const IDLE: Duration = Duration::from_secs(4 * 60 * 60);
/// After so long in which a stream is not read, the peer is asked whether it is still there.
const HELD_UP: Duration = Duration::from_secs(15);
/// How long the peer is given to take the end of a connection.
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// The reading end of a stream.
pub(crate) struct Reader {
    pieces: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl Reader {
    pub(crate) fn new() -> (mpsc::Sender<Bytes>, Reader) {
        let (sender, pieces) = mpsc::channel(QUEUE);
        (
            sender,
            Reader {
                pieces,
                rest: Bytes::new(),
            },
        )
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.pieces.poll_recv(cx)) {
                Some(piece) => self.rest = piece,
                None => return Poll::Ready(Ok(())),
            }
        }
        let len = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..len]);
        self.rest.advance(len);
        Poll::Ready(Ok(()))
    }
}

/// Hands a piece over to a stream. As long as nobody takes it the connection is not read, and
/// only a write shows that the peer has gone: that is what `ping` is for.
pub(crate) async fn deliver(to: &mpsc::Sender<Bytes>, piece: Bytes, ping: impl Fn()) {
    let sent = to.send(piece);
    tokio::pin!(sent);
    // An error says that nobody reads the stream any more; then the piece is thrown away.
    while tokio::time::timeout(HELD_UP, &mut sent).await.is_err() {
        ping();
    }
}

/// Something to be written, with the room that it takes up until it is.
pub(crate) type Outgoing<T> = (T, Option<OwnedSemaphorePermit>);

/// Where the streams put what is to be written.
pub(crate) struct Outbox<T> {
    queue: mpsc::UnboundedSender<Outgoing<T>>,
    room: Arc<Semaphore>,
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Outbox<T> {
        Outbox {
            queue: self.queue.clone(),
            room: self.room.clone(),
        }
    }
}

impl<T> Outbox<T> {
    pub(crate) fn new() -> (Outbox<T>, mpsc::UnboundedReceiver<Outgoing<T>>) {
        let (queue, taker) = mpsc::unbounded_channel();
        (
            Outbox {
                queue,
                room: Arc::new(Semaphore::new(BUDGET)),
            },
            taker,
        )
    }

    /// For what a stream sends a fixed number of times only.
    pub(crate) fn send(&self, frame: T) {
        // A connection that is gone needs nothing any more.
        let _ = self.queue.send((frame, None));
    }

    /// For what the peer can ask for as often as it likes: left out when there is no room.
    pub(crate) fn send_if_room(&self, frame: T, bytes: u32) {
        if let Ok(room) = self.room.clone().try_acquire_many_owned(bytes) {
            let _ = self.queue.send((frame, Some(room)));
        }
    }

    /// Wakes all who wait for room and tells them that the connection is gone.
    pub(crate) fn close(&self) {
        self.room.close();
    }
}

/// The writing end of a stream.
pub(crate) struct Writer<T> {
    outbox: Outbox<T>,
    room: PollSemaphore,
    wrap: Box<dyn Fn(Bytes) -> T + Send>,
    /// What says that the stream ends; taken when it has been sent.
    end: Option<T>,
    /// The peer no longer wants the stream.
    reset: CancellationToken,
}

impl<T> Writer<T> {
    pub(crate) fn new(
        outbox: &Outbox<T>,
        reset: CancellationToken,
        end: Option<T>,
        wrap: impl Fn(Bytes) -> T + Send + 'static,
    ) -> Writer<T> {
        Writer {
            outbox: outbox.clone(),
            room: PollSemaphore::new(outbox.room.clone()),
            wrap: Box::new(wrap),
            end,
            reset,
        }
    }

    /// Ends the stream in another way than by its end.
    pub(crate) fn end_with(&mut self, frame: T) {
        if self.end.take().is_some() {
            self.outbox.send(frame);
        }
    }

    fn finish(&mut self) {
        if let Some(end) = self.end.take() {
            self.outbox.send(end);
        }
    }
}

impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        self.finish();
    }
}

impl<T: Unpin> AsyncWrite for Writer<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gone = || Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        let len = buf.len().min(PIECE);
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        if self.reset.is_cancelled() {
            return gone();
        }
        let Some(room) = ready!(self.room.poll_acquire_many(cx, len as u32)) else {
            return gone();
        };
        let frame = (self.wrap)(Bytes::copy_from_slice(&buf[..len]));
        match self.outbox.queue.send((frame, Some(room))) {
            Ok(()) => Poll::Ready(Ok(len)),
            Err(_) => gone(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

/// Notices that nothing happens on a connection.
#[derive(Clone)]
pub(crate) struct Activity {
    start: Instant,
    last_ms: Arc<AtomicU64>,
}

impl Activity {
    pub(crate) fn new() -> Activity {
        Activity {
            start: Instant::now(),
            last_ms: Arc::default(),
        }
    }

    /// Something happened.
    pub(crate) fn note(&self) {
        self.last_ms
            .store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Returns when nothing has happened for [`IDLE`].
    pub(crate) async fn idle(&self) {
        loop {
            let last = self.start + Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            if last.elapsed() >= IDLE {
                return;
            }
            tokio::time::sleep_until(last + IDLE).await;
        }
    }
}
