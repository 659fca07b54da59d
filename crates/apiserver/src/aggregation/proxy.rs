//! Passes a request on to the server behind an APIService, and its answer back.
//!
//! Behaviour: `k8s.io/kube-aggregator/pkg/apiserver/handler_proxy.go`, `k8s.io/apimachinery/pkg/util/proxy`.

use std::time::Duration;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use machinery::ApiError;

use super::Remote;
use super::headers::set_user;
use crate::body::{Body, RequestBody};
use crate::call::Call;
use crate::connect::client::{forwarded_headers, join, upgrade_headers};
use crate::outbound::{Cause, OutboundError};
use crate::respond;

/// What a group version has is asked often and answered fast.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers by the other server's words.
///
/// # Errors
/// None of its own: what goes wrong is told as text, as upstream does.
pub(crate) async fn proxy(
    call: &Call,
    remote: &Remote,
    body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    if !remote.available {
        return Ok(unavailable());
    }
    let near = call.upgrade.lock().take();
    let upgrades = call.headers.contains_key(header::UPGRADE) && near.is_some();
    let mut request = Request::new(body);
    *request.method_mut() = call.method.clone();
    *request.headers_mut() = headers(call, remote, upgrades);
    let mut path = call.raw_path.clone();
    if !call.raw_query.is_empty() {
        path = format!("{path}?{}", call.raw_query);
    }
    let lookup = &*call.server;
    let sending =
        (lookup.outbound()).forward(lookup, &remote.destination, &path, request, upgrades);
    let is_discovery = call.info.path.trim_matches('/').split('/').count() == 3;
    let sent = match is_discovery && !call.info.is_resource {
        true => match tokio::time::timeout(DISCOVERY_TIMEOUT, sending).await {
            Ok(sent) => sent,
            Err(_) => return Ok(unreachable(&Cause::Timeout)),
        },
        false => sending.await,
    };
    let answer = match sent {
        Ok(answer) => answer,
        Err(OutboundError {
            cause: Cause::Unresolved(why),
            ..
        }) => {
            tracing::warn!(apiservice = remote.name, why, "no server to ask");
            return Ok(unavailable());
        }
        Err(error) => return Ok(unreachable(&error.cause)),
    };
    if upgrades {
        let status = answer.status();
        if status != StatusCode::SWITCHING_PROTOCOLS && status.as_u16() < 400 {
            let code = status.as_u16();
            let why = format!("invalid upgrade response: status code {code}\n");
            return Ok(respond::text(503, why));
        }
        return join(answer, near, call.trail.ending()).await;
    }
    Ok(passed_back(answer))
}

fn unavailable() -> Response<Body> {
    respond::text(503, "service unavailable\n")
}

fn unreachable(cause: &Cause) -> Response<Body> {
    respond::text(503, format!("error trying to reach service: {cause}\n"))
}

/// The headers of a request as the other server gets them.
fn headers(call: &Call, remote: &Remote, upgrades: bool) -> HeaderMap {
    let mut headers = match upgrades {
        true => upgrade_headers(&call.headers),
        false => forwarded_headers(&call.headers),
    };
    let impersonates = |name: &&HeaderName| name.as_str().starts_with("impersonate-");
    let gone: Vec<_> = headers.keys().filter(impersonates).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
    set_user(&mut headers, &call.user);
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    put("audit-id", call.trail.id());
    put("x-forwarded-uri", &call.raw_path);
    put(
        "x-forwarded-host",
        &format!(
            "{}.{}.svc:{}",
            remote.service, remote.namespace, remote.port
        ),
    );
    put("x-forwarded-proto", "https");
    if let Some(peer) = call.peer {
        let before = call.header("x-forwarded-for");
        match before {
            "" => put("x-forwarded-for", &peer.to_string()),
            before => put("x-forwarded-for", &format!("{before}, {peer}")),
        }
    }
    headers
}

/// An answer without what is about the connection it came over. Where it points elsewhere, nobody is sent.
fn passed_back(answer: Response<Incoming>) -> Response<Body> {
    if answer.status().is_redirection() && answer.headers().contains_key(header::LOCATION) {
        let why = "the backend attempted to redirect this request, which is not permitted";
        return respond::text(502, why);
    }
    let (mut parts, body) = answer.into_parts();
    let own = [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
        header::PROXY_AUTHENTICATE,
        header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        header::ACCESS_CONTROL_ALLOW_METHODS,
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        // The answer carries this server's own.
        HeaderName::from_static("audit-id"),
    ];
    for name in own {
        parts.headers.remove(name);
    }
    // Which version of HTTP the other server speaks is between it and this one.
    let mut response = Response::new(Body::wrap(body));
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    response
}
