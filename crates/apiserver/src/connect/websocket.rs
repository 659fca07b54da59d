//! An answer that comes piece by piece, over a WebSocket: logs, a message a piece; watches, a message an event, of text for
//! JSON and binary for protobuf. CBOR is not told over WebSockets.
//!
//! What the client says is not listened to. Behaviour: `k8s.io/apiserver/pkg/util/wsstream` (`Reader`),
//! `k8s.io/apiserver/pkg/endpoints/handlers/watch.go`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use machinery::ApiError;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use crate::body::Body;
use crate::call::Call;

/// Nobody has anything to say that is longer.
const MAX_MESSAGE: usize = 64 << 10;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Messages {
    /// A piece of bytes, as it comes.
    Pieces,
    /// An event of a watch.
    Events,
}

/// How the messages are found in what is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Pieces(Coding),
    /// Each is a line of text.
    Lines,
    /// Each comes after its length in four bytes, which over a WebSocket says itself.
    Counted,
}

/// How pieces are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Binary,
    Base64,
}

/// The protocols that clients may ask for.
const PROTOCOLS: [(&str, Coding); 2] = [
    ("binary.k8s.io", Coding::Binary),
    ("base64.binary.k8s.io", Coding::Base64),
];

/// The answer over a WebSocket, if that is what the client asked for and there is something to tell.
///
/// # Errors
/// The client asks for what nobody here speaks.
pub(crate) fn over(
    call: &Call,
    answer: Response<Body>,
    messages: Messages,
) -> Result<Response<Body>, ApiError> {
    let text = |name| call.headers.get(name).and_then(|v| v.to_str().ok());
    let upgrade = text(header::UPGRADE).unwrap_or_default();
    if !upgrade.eq_ignore_ascii_case("websocket") || answer.status() != StatusCode::OK {
        return Ok(answer);
    }
    let kind = answer.headers().get(header::CONTENT_TYPE);
    let kind = kind.map_or(&b""[..], HeaderValue::as_bytes);
    let events = match () {
        () if messages == Messages::Pieces => None,
        () if kind.starts_with(b"application/json") => Some(Framing::Lines),
        () if kind.starts_with(b"application/vnd.kubernetes.protobuf") => Some(Framing::Counted),
        () => return Ok(answer),
    };
    let Some(near) = call.upgrade.lock().take() else {
        return Ok(answer);
    };
    let (Some(key), Some("13")) = (
        text(header::SEC_WEBSOCKET_KEY),
        text(header::SEC_WEBSOCKET_VERSION),
    ) else {
        return Err(ApiError::bad_request("missing or bad WebSocket version"));
    };
    let wanted = text(header::SEC_WEBSOCKET_PROTOCOL);
    let (framing, protocol) = match (events, wanted) {
        (None, None) => (Framing::Pieces(Coding::Binary), None),
        (None, Some(wanted)) => {
            let why = "requested protocol(s) are not supported";
            let chosen = choose(wanted).ok_or_else(|| ApiError::bad_request(why))?;
            (Framing::Pieces(chosen.1), Some(chosen.0))
        }
        (Some(framing), None) => (framing, None),
        // Events are told in one way; whatever the client calls that is good.
        (Some(framing), Some(wanted)) if !wanted.contains(',') => (framing, Some(wanted.trim())),
        (Some(_), Some(_)) => {
            return Err(ApiError::bad_request("missing or bad WebSocket-Protocol"));
        }
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::try_from(derive_accept_key(key.as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(Ok(name)) = protocol.map(HeaderValue::from_str) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, name);
    }
    let ending = call.trail.ending();
    tokio::spawn(async move {
        if let Err(error) = tell(near, answer.into_body(), framing).await {
            tracing::debug!(error, "a WebSocket ended");
        }
        drop(ending);
    });
    Ok(response)
}

/// The first of the client's protocols that is spoken here.
fn choose(wanted: &str) -> Option<(&'static str, Coding)> {
    let mut wanted = wanted.split(',').map(str::trim);
    wanted.find_map(|wanted| {
        let mut known = PROTOCOLS.into_iter();
        known.find(|(name, _)| *name == wanted)
    })
}

async fn tell(near: OnUpgrade, body: Body, framing: Framing) -> Result<(), String> {
    let near = near.await.map_err(|error| error.to_string())?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(near), Role::Server, Some(config));
    let (mut out, mut heard) = socket.await.split();
    let send = async {
        let mut pieces = body.into_data_stream();
        let mut rest = Vec::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| error.to_string())?;
            for message in told(framing, &piece, &mut rest) {
                out.send(message).await.map_err(|error| error.to_string())?;
            }
        }
        let close = Message::Close(Some(CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        }));
        out.send(close).await.map_err(|error| error.to_string())
    };
    // Reading answers pings, and tells when the client is gone.
    let listen = async {
        while let Some(Ok(message)) = heard.next().await {
            if message.is_close() {
                break;
            }
        }
    };
    tokio::select! {
        done = send => done,
        () = listen => Ok(()),
    }
}

/// The messages that are whole with this piece; what is not stays in `rest`.
fn told(framing: Framing, piece: &Bytes, rest: &mut Vec<u8>) -> Vec<Message> {
    match framing {
        Framing::Pieces(Coding::Binary) => vec![Message::Binary(piece.clone())],
        Framing::Pieces(Coding::Base64) => vec![Message::text(STANDARD.encode(piece))],
        Framing::Lines => {
            let mut told = Vec::new();
            for part in piece.split_inclusive(|byte| *byte == b'\n') {
                rest.extend_from_slice(part);
                if rest.ends_with(b"\n") {
                    let whole = std::mem::take(rest);
                    told.push(Message::text(String::from_utf8_lossy(&whole).into_owned()));
                }
            }
            told
        }
        Framing::Counted => {
            rest.extend_from_slice(piece);
            let mut told = Vec::new();
            while let Some((length, after)) = rest.split_first_chunk() {
                let Some(event) = after.get(..u32::from_be_bytes(*length) as usize) else {
                    break;
                };
                told.push(Message::Binary(Bytes::copy_from_slice(event)));
                rest.drain(..length.len() + event.len());
            }
            told
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::Message;

    use super::{Bytes, Coding, Framing, choose, told};

    #[test]
    fn lines_are_told_whole() {
        let mut line = Vec::new();
        let mut told = |piece: &'static str| {
            let piece = Bytes::from_static(piece.as_bytes());
            told(Framing::Lines, &piece, &mut line)
        };
        assert_eq!(told("a\nb"), [Message::text("a\n")]);
        assert_eq!(
            told("c\nd\n"),
            [Message::text("bc\n"), Message::text("d\n")]
        );
    }

    #[test]
    fn counted_events_are_told_whole_and_without_their_length() {
        let mut rest = Vec::new();
        let mut told =
            |piece: &'static [u8]| told(Framing::Counted, &Bytes::from_static(piece), &mut rest);
        let binary = |bytes: &'static [u8]| Message::Binary(Bytes::from_static(bytes));
        assert_eq!(told(b"\0\0\0\x02ab\0\0"), [binary(b"ab")]);
        assert_eq!(told(b"\0\x01"), []);
        assert_eq!(told(b"c\0\0\0\0"), [binary(b"c"), binary(b"")]);
    }

    #[test]
    fn the_first_known_protocol_is_chosen() {
        let chosen = choose("v9, base64.binary.k8s.io, binary.k8s.io");
        assert_eq!(chosen, Some(("base64.binary.k8s.io", Coding::Base64)));
        assert_eq!(choose("v9"), None);
    }
}
