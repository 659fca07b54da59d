//! The bodies of answers and requests on the road.
//!
//! One response type serves both TLS connections and in-process callers: whole bytes for most answers, a stream of
//! chunks for lists, watches and proxied answers.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::stream::BoxStream;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request on the road.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// The body of an answer.
pub struct Body(Inner);

enum Inner {
    Whole(Option<Bytes>),
    Stream(BoxStream<'static, Result<Bytes, BoxError>>),
    Wrapped(UnsyncBoxBody<Bytes, BoxError>),
}

impl Body {
    /// No bytes at all.
    pub fn empty() -> Self {
        Self(Inner::Whole(None))
    }

    /// All the bytes, where they are all there.
    pub(crate) fn whole(&self) -> Option<&[u8]> {
        match &self.0 {
            Inner::Whole(bytes) => Some(bytes.as_deref().unwrap_or_default()),
            _ => None,
        }
    }

    /// Chunks as they come.
    pub fn stream(chunks: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Self {
        Self(Inner::Stream(Box::pin(chunks)))
    }

    /// The same, with something that is dropped at the end of it.
    pub(crate) fn holding(self, held: impl Send + Unpin + 'static) -> Self {
        match self.0 {
            // It is as good as sent.
            Inner::Whole(_) => self,
            other => {
                let body = Holding(Self(other), held);
                Self(Inner::Wrapped(body.boxed_unsync()))
            }
        }
    }

    /// Another body, as it is (trailers too).
    pub fn wrap<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Inner::Wrapped(body.map_err(Into::into).boxed_unsync()))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Inner::Whole((!bytes.is_empty()).then_some(bytes)))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Inner::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Inner::Stream(chunks) => chunks
                .as_mut()
                .poll_next(cx)
                .map(|next| next.map(|r| r.map(Frame::data))),
            Inner::Wrapped(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Whole(bytes) => bytes.is_none(),
            Inner::Stream(_) => false,
            Inner::Wrapped(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Inner::Stream(_) => SizeHint::default(),
            Inner::Wrapped(body) => body.size_hint(),
        }
    }
}

/// A body, and what is held as long as it is there.
struct Holding<H>(Body, H);

impl<H: Unpin> HttpBody for Holding<H> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// Reads a whole request body, but no more than `limit` bytes of it; `None` when there is more.
pub(crate) async fn read_limited(
    mut body: RequestBody,
    limit: usize,
) -> Result<Option<Bytes>, BoxError> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if whole.len() + data.len() > limit {
            return Ok(None);
        }
        if whole.is_empty() && body.is_end_stream() {
            return Ok(Some(data));
        }
        whole.extend_from_slice(&data);
    }
    Ok(Some(whole.into()))
}
