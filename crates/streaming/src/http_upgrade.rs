//! What a request for a stream has to say, and the answers to it.

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Response, StatusCode};

use crate::Body;

/// Names the protocol on top of SPDY.
pub(crate) const PROTOCOL_VERSION: HeaderName =
    HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_VERSIONS: HeaderName =
    HeaderName::from_static("x-accepted-stream-protocol-versions");
const WEBSOCKET_PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");
const WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");
const WEBSOCKET_VERSION: HeaderName = HeaderName::from_static("sec-websocket-version");

/// A handshake that succeeded: the answer, and the protocol that was agreed on ("" for none).
pub(crate) struct Agreed {
    pub(crate) response: Response<Body>,
    pub(crate) protocol: &'static str,
}

/// An answer that is a text.
pub(crate) fn text(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Body::new(Bytes::from(message.into())));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, plain);
    response
}

fn mentions(headers: &HeaderMap, name: HeaderName, wanted: &str) -> bool {
    let mut values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values.any(|value| value.to_ascii_lowercase().contains(wanted))
}

/// Whether the request asks for a WebSocket.
fn wants_websocket(headers: &HeaderMap) -> bool {
    mentions(headers, CONNECTION, "upgrade")
        && headers
            .get(UPGRADE)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Agrees on a WebSocket or on SPDY, whatever the request asks for, and says whether it is the former.
pub(crate) fn agree(
    headers: &HeaderMap,
    over_websocket: &[&'static str],
    over_spdy: &[&'static str],
) -> Result<(Agreed, bool), Box<Response<Body>>> {
    if wants_websocket(headers) {
        Ok((websocket(headers, over_websocket)?, true))
    } else {
        Ok((spdy(headers, over_spdy)?, false))
    }
}

/// All values of a header whose values are lists.
fn list(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let parts = values.flat_map(|value| value.split(',')).map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The first of the client's protocols that is among the server's.
fn negotiate(client: &[String], server: &[&'static str]) -> Option<&'static str> {
    client
        .iter()
        .find_map(|wanted| server.iter().find(|known| *known == wanted))
        .copied()
}

fn switching(upgrade: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response
        .headers_mut()
        .insert(UPGRADE, HeaderValue::from_static(upgrade));
    response
}

/// Agrees on SPDY (k8s.io/streaming, `httpstream.Handshake` and `spdy.UpgradeResponse`).
fn spdy(headers: &HeaderMap, server: &[&'static str]) -> Result<Agreed, Box<Response<Body>>> {
    let refuse = |message: String| Err(Box::new(text(StatusCode::BAD_REQUEST, message)));
    if !headers.contains_key(&PROTOCOL_VERSION) {
        let count = headers.keys_len();
        return refuse(format!(
            "unable to upgrade: header X-Stream-Protocol-Version does not exist in request with \
             {count} headers\n"
        ));
    }
    let client = list(headers, &PROTOCOL_VERSION);
    if client.is_empty() {
        return refuse(
            "unable to upgrade: header X-Stream-Protocol-Version contains [], but no valid \
             protocols\n"
                .into(),
        );
    }
    let Some(protocol) = negotiate(&client, server) else {
        let message = format!(
            "unable to upgrade: unable to negotiate protocol: client supports [{}], server \
             accepts [{}]\n",
            client.join(" "),
            server.join(" ")
        );
        let mut response = text(StatusCode::FORBIDDEN, message);
        for known in server {
            let known = HeaderValue::from_static(known);
            response.headers_mut().append(ACCEPTED_VERSIONS, known);
        }
        return Err(Box::new(response));
    };
    if !mentions(headers, CONNECTION, "upgrade") || !mentions(headers, UPGRADE, "spdy/3.1") {
        return refuse("unable to upgrade: missing upgrade headers in request\n".into());
    }
    let mut response = switching("SPDY/3.1");
    response
        .headers_mut()
        .insert(PROTOCOL_VERSION, HeaderValue::from_static(protocol));
    Ok(Agreed { response, protocol })
}

/// Agrees on a WebSocket. A client that names no protocol gets none.
fn websocket(headers: &HeaderMap, server: &[&'static str]) -> Result<Agreed, Box<Response<Body>>> {
    let refuse = |status, message: &str| Err(Box::new(text(status, message)));
    if headers
        .get(WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        let mut response = text(
            StatusCode::BAD_REQUEST,
            "missing or bad WebSocket version\n",
        );
        response
            .headers_mut()
            .insert(WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return Err(Box::new(response));
    }
    let Some(key) = headers.get(WEBSOCKET_KEY) else {
        return refuse(StatusCode::BAD_REQUEST, "missing WebSocket key\n");
    };
    let client = list(headers, &WEBSOCKET_PROTOCOL);
    let protocol = if client.is_empty() {
        Some("")
    } else {
        negotiate(&client, server)
    };
    let Some(protocol) = protocol else {
        let message = format!(
            "requested protocol(s) are not supported: [{}]; supports [{}]\n",
            client.join(" "),
            server.join(" ")
        );
        return refuse(StatusCode::FORBIDDEN, &message);
    };
    let mut response = switching("websocket");
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
    let accept = HeaderValue::try_from(accept).expect("base64 is a header value");
    response.headers_mut().insert(WEBSOCKET_ACCEPT, accept);
    if !protocol.is_empty() {
        let protocol = HeaderValue::from_static(protocol);
        response.headers_mut().insert(WEBSOCKET_PROTOCOL, protocol);
    }
    Ok(Agreed { response, protocol })
}
