//! gRPC health checks: one call on a connection of its own.
//!
//! Protocol: `grpc.health.v1.Health/Check`. A call is so small that its messages are written by hand here.
//! Behaviour and wording: `pkg/probe/grpc`.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pod_lifecycle::service_env::join_host_port;

use crate::http;

/// How much of an answer is read.
const MAX_BODY: usize = 10 << 10;
/// Codes of gRPC.
const DEADLINE_EXCEEDED: usize = 4;
const UNIMPLEMENTED: usize = 12;
/// Their names, by number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
/// What a service says of itself, by number.
const STATES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const SERVING: u64 = 1;

/// Why a call failed: code and text.
type Refusal = (usize, String);

/// Asks a server whether a service of it is well; the error is what the user is told.
pub(crate) async fn check(
    host: &str,
    port: u16,
    service: &str,
    timeout: Duration,
) -> Result<(), String> {
    let place = join_host_port(host, i32::from(port));
    // Upstream tries for as long as it may before it says so.
    let unreachable = |_| {
        format!(
            "timeout: failed to connect service \"{place}\" within {timeout:?}: context deadline exceeded"
        )
    };
    let stream = http::dial(host, port, timeout).await.map_err(unreachable)?;
    let call = call(stream, &place, service);
    let answered = match tokio::time::timeout(timeout, call).await {
        Err(_) => return Err(too_late(timeout)),
        Ok(answered) => answered,
    };
    match answered {
        Ok(SERVING) => Ok(()),
        Ok(other) => {
            let known = usize::try_from(other).ok().and_then(|at| STATES.get(at));
            let state = known.map_or_else(|| other.to_string(), |state| (*state).to_owned());
            Err(format!("service unhealthy (responded with \"{state}\")"))
        }
        Err((UNIMPLEMENTED, text)) => Err(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {text}"
        )),
        Err((DEADLINE_EXCEEDED, _)) => Err(too_late(timeout)),
        Err((code, text)) => {
            let code = CODES.get(code).unwrap_or(&"Unknown");
            Err(format!(
                "error: health rpc probe failed: rpc error: code = {code} desc = {text}"
            ))
        }
    }
}

fn too_late(timeout: Duration) -> String {
    format!("timeout: health rpc did not complete within {timeout:?}")
}

/// One call; the answer is the state's number.
async fn call(stream: tokio::net::TcpStream, place: &str, service: &str) -> Result<u64, Refusal> {
    let unavailable = |error: hyper::Error| (14, format!("connection error: desc = \"{error}\""));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(unavailable)?;
    let request = Request::post(format!("http://{place}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.37")
        .body(Full::new(question(service)))
        .map_err(|error| (13, error.to_string()))?;
    let asked = async {
        let answer = sender.send_request(request).await.map_err(unavailable)?;
        let status = answer.status();
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await;
        let body = body.map_err(|error| (13, error.to_string()))?;
        if !status.is_success() {
            return Err((
                2,
                format!("unexpected HTTP status code received from server: {status}"),
            ));
        }
        // An answer without a message has its status in the head.
        refusal(body.trailers().unwrap_or(&head.headers))?;
        state(&body.to_bytes()).ok_or((13, "the answer is no message".to_owned()))
    };
    tokio::select! {
        answered = asked => answered,
        ended = connection => Err(match ended {
            Err(error) => unavailable(error),
            Ok(()) => (14, "the connection was closed".to_owned()),
        }),
    }
}

fn refusal(told: &HeaderMap) -> Result<(), Refusal> {
    let text = |name: &str| told.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status").map(str::parse) {
        Some(Ok(0)) => Ok(()),
        Some(Ok(code)) => Err((code, text("grpc-message").unwrap_or_default().to_owned())),
        Some(Err(_)) | None => Err((
            13,
            "server closed the stream without sending trailers".to_owned(),
        )),
    }
}

/// `HealthCheckRequest{service}`, not compressed.
fn question(service: &str) -> Bytes {
    let mut message = Vec::with_capacity(service.len() + 4);
    if !service.is_empty() {
        message.push(0x0a);
        let mut rest = service.len();
        while rest >= 0x80 {
            message.push(0x80 | (rest & 0x7f) as u8);
            rest >>= 7;
        }
        message.push((rest & 0x7f) as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(
        &u32::try_from(message.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    );
    framed.extend_from_slice(&message);
    framed.into()
}

/// `status` of a `HealthCheckResponse`; it is 0 when it is not told.
fn state(framed: &[u8]) -> Option<u64> {
    let (head, rest) = framed.split_at_checked(5)?;
    let length = u32::from_be_bytes(head.get(1..5)?.try_into().ok()?);
    let mut message = rest.get(..usize::try_from(length).ok()?)?;
    if head.first() != Some(&0) {
        return None;
    }
    let mut state = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => state = varint(&mut message)?,
            (_, 0) => {
                varint(&mut message)?;
            }
            (_, 2) => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, 1) => message = message.get(8..)?,
            (_, 5) => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(state)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{question, state};

    #[test]
    fn messages_are_framed() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(question(&"x".repeat(300)).len(), 5 + 1 + 2 + 300);
    }

    #[test]
    fn a_state_is_read_and_whatever_else_is_told_is_not() {
        assert_eq!(state(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(state(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(state(&[0, 0, 0, 0, 5, 0x12, 1, 7, 8, 2]), Some(2));
        for broken in [
            &[0, 0][..],
            &[1, 0, 0, 0, 0],
            &[0, 0, 0, 0, 9, 8, 1],
            &[0, 0, 0, 0, 1, 8],
        ] {
            assert_eq!(state(broken), None, "{broken:?}");
        }
    }
}
