//! Watches over a WebSocket: each event is a message, text or binary as its encoding is.
//!
//! What a client sends is not looked at; when either side closes, both ends are.
//! Behaviour: `k8s.io/apiserver/pkg/endpoints/handlers/watch.go` (`HandleWS`), `golang.org/x/net/websocket`.

use bytes::{Buf, Bytes};
use futures::{Sink, SinkExt, Stream, StreamExt};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use machinery::ApiError;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::authenticate::WEBSOCKET_TOKEN;
use crate::body::{Body, BoxError};
use crate::call::Call;
use crate::negotiate::Media;

/// The only version of the protocol that there is.
const VERSION: &str = "13";
/// No client has more to say than this.
const MAX_MESSAGE: usize = 64 * 1024;
/// Before an event in protobuf its length stands, which a message does not need.
const LENGTH_BYTES: usize = 4;

/// Whether a request wants a WebSocket.
pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    let says = |name: header::HeaderName, word: &str| {
        let values = headers.get_all(name).into_iter();
        let mut words = values
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','));
        words.any(|own| own.trim().eq_ignore_ascii_case(word))
    };
    says(header::CONNECTION, "upgrade") && says(header::UPGRADE, "websocket")
}

/// Answers with a WebSocket that these pieces of a watch's body go over, whole events each.
///
/// # Errors
/// 400: the handshake is none.
pub(super) fn answer(
    call: &Call,
    media: Media,
    content_type: &'static str,
    frames: impl Stream<Item = Bytes> + Send + 'static,
) -> Result<Response<Body>, ApiError> {
    let text = |name: header::HeaderName| call.headers.get(name).and_then(|v| v.to_str().ok());
    if text(header::SEC_WEBSOCKET_VERSION) != Some(VERSION) {
        return Err(ApiError::bad_request("missing or bad WebSocket Version"));
    }
    let key = text(header::SEC_WEBSOCKET_KEY).filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| ApiError::bad_request("missing or bad Sec-WebSocket-Key"))?;
    let near = call.upgrade.lock().take();
    let near = near.ok_or_else(|| ApiError::bad_request("Upgrade request required"))?;
    let accepted = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(
        header::SEC_WEBSOCKET_ACCEPT,
        accepted.map_err(ApiError::internal)?,
    );
    if let Some(protocol) = protocol(&call.headers) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    let ending = call.trail.ending();
    tokio::spawn(async move {
        match near.await {
            Ok(upgraded) => {
                let config = WebSocketConfig::default()
                    .max_message_size(Some(MAX_MESSAGE))
                    .max_frame_size(Some(MAX_MESSAGE));
                let io = TokioIo::new(upgraded);
                let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
                if let Err(error) = serve(socket, media, frames).await {
                    tracing::debug!(%error, "a watch over a WebSocket ended");
                }
            }
            Err(error) => tracing::debug!(%error, "an upgrade did not happen"),
        }
        drop(ending);
    });
    Ok(response)
}

/// The sub-protocol that is agreed to: the first that the client names and that is no token.
fn protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    let mut all = values
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','));
    let first = all.find(|name| {
        let name = name.trim();
        !name.is_empty() && !name.starts_with(WEBSOCKET_TOKEN)
    })?;
    HeaderValue::from_str(first.trim()).ok()
}

async fn serve<S>(
    socket: S,
    media: Media,
    frames: impl Stream<Item = Bytes> + Send,
) -> Result<(), BoxError>
where
    S: Sink<Message, Error = Error> + Stream<Item = Result<Message, Error>> + Send,
{
    let (mut to_client, mut from_client) = socket.split();
    let mut frames = std::pin::pin!(frames);
    loop {
        tokio::select! {
            said = from_client.next() => match said {
                None | Some(Ok(Message::Close(_))) => break,
                Some(Err(error)) => return Err(error.into()),
                // Pings are answered by the protocol itself; nothing else is expected.
                Some(Ok(_)) => {}
            },
            piece = frames.next() => {
                let Some(piece) = piece else { break };
                for message in messages(media, piece) {
                    to_client.feed(message).await?;
                }
                to_client.flush().await?;
            }
        }
    }
    // The client may be gone already.
    let _ = to_client.close().await;
    Ok(())
}

/// The events of a piece, one message each.
fn messages(media: Media, mut piece: Bytes) -> Vec<Message> {
    let mut messages = Vec::new();
    match media {
        Media::Json | Media::Yaml => {
            while !piece.is_empty() {
                let end = piece.iter().position(|byte| *byte == b'\n');
                let event = piece.split_to(end.map_or(piece.len(), |end| end + 1));
                // What is written here is JSON.
                let text = String::from_utf8_lossy(&event).into_owned();
                messages.push(Message::text(text));
            }
        }
        Media::Protobuf => {
            while piece.len() >= LENGTH_BYTES {
                let length = piece.get_u32() as usize;
                let event = piece.split_to(length.min(piece.len()));
                messages.push(Message::Binary(event));
            }
        }
        Media::Cbor => messages.push(Message::Binary(piece)),
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_a_message() {
        let lines = Bytes::from_static(b"{\"a\":1}\n{\"b\":2}\n");
        let texts = messages(Media::Json, lines);
        assert_eq!(
            texts,
            [Message::text("{\"a\":1}\n"), Message::text("{\"b\":2}\n")]
        );
        let framed = Bytes::from_static(b"\0\0\0\x02ab\0\0\0\x01c");
        let binary = |bytes: &'static [u8]| Message::Binary(Bytes::from_static(bytes));
        assert_eq!(
            messages(Media::Protobuf, framed),
            [binary(b"ab"), binary(b"c")]
        );
    }

    #[test]
    fn a_token_is_no_sub_protocol() {
        let mut headers = HeaderMap::new();
        let value =
            HeaderValue::from_static("base64url.bearer.authorization.k8s.io.abc, v1.stream");
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        assert_eq!(protocol(&headers).expect("one"), "v1.stream");
        assert!(protocol(&HeaderMap::new()).is_none());
    }
}
