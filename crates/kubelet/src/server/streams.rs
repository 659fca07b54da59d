//! Exec, attach and port-forward: the runtime says where, and the bytes are passed through.
//!
//! The caller's upgraded connection and the one to the runtime's streaming server are joined byte for byte; nothing is
//! understood in between. The runtime's server is on the loopback interface or it is not talked to.

use cri::v1::{AttachRequest, ExecRequest, PortForwardRequest};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use pod_lifecycle::pod as parts;
use pod_lifecycle::view::State;
use tokio::net::TcpStream;

use super::{Body, text};
use crate::context::Context;

/// Namespace, pod and container.
type Place<'a> = (&'a str, &'a str, &'a str);

/// What of a process is wanted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    command: Vec<String>,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

fn options(query: &str) -> Result<Options, &'static str> {
    let mut options = Options::default();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let set = matches!(&*value, "1" | "true");
        match &*key {
            "command" => options.command.push(value.into_owned()),
            "input" | "stdin" => options.stdin = set,
            "output" | "stdout" => options.stdout = set,
            "error" | "stderr" => options.stderr = set,
            "tty" => options.tty = set,
            _ => {}
        }
    }
    if options.tty {
        // A terminal has one output.
        options.stderr = false;
    }
    match options.stdin || options.stdout || options.stderr {
        true => Ok(options),
        false => Err("you must specify at least 1 of stdin, stdout, stderr"),
    }
}

/// The running container of that place, or the answer that there is none.
#[expect(
    clippy::result_large_err,
    reason = "an answer either way, made once a request"
)]
fn running(
    context: &Context,
    (namespace, pod, container): Place<'_>,
) -> Result<String, Response<Body>> {
    let Some(mailbox) = context.find_pod(namespace, pod) else {
        return Err(text(StatusCode::NOT_FOUND, "pod does not exist\n"));
    };
    let known = mailbox.known();
    let mut all = known.containers.iter();
    let found = all.find(|c| c.name == container && c.state == State::Running);
    found.map(|c| c.id.clone()).ok_or_else(|| {
        let message = format!("container not found (\"{container}\")\n");
        text(StatusCode::INTERNAL_SERVER_ERROR, message)
    })
}

pub(super) async fn exec(
    context: &Context,
    place: Place<'_>,
    request: Request<Incoming>,
) -> Response<Body> {
    let options = match options(request.uri().query().unwrap_or_default()) {
        Ok(options) => options,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    let container_id = match running(context, place) {
        Ok(id) => id,
        Err(refusal) => return refusal,
    };
    let call = ExecRequest {
        container_id,
        cmd: options.command,
        tty: options.tty,
        stdin: options.stdin,
        stdout: options.stdout,
        stderr: options.stderr,
    };
    let answer = context.runtime.exec(call).await;
    join(answer.map(|a| a.url), request).await
}

pub(super) async fn attach(
    context: &Context,
    place: Place<'_>,
    request: Request<Incoming>,
) -> Response<Body> {
    let mut options = match options(request.uri().query().unwrap_or_default()) {
        Ok(options) => options,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    let container_id = match running(context, place) {
        Ok(id) => id,
        Err(refusal) => return refusal,
    };
    let (namespace, name, container) = place;
    let pod = context.find_pod(namespace, name).map(|m| m.pod());
    let spec = pod.and_then(|p| parts::find_container(&p, container));
    // Whether there is a terminal was decided when the container was made.
    options.tty = spec.is_some_and(|c| c.tty == Some(true));
    let call = AttachRequest {
        container_id,
        stdin: options.stdin,
        stdout: options.stdout,
        stderr: options.stderr && !options.tty,
        tty: options.tty,
    };
    let answer = context.runtime.attach(call).await;
    join(answer.map(|a| a.url), request).await
}

pub(super) async fn port_forward(
    context: &Context,
    namespace: &str,
    name: &str,
    request: Request<Incoming>,
) -> Response<Body> {
    let Some(mailbox) = context.find_pod(namespace, name) else {
        return text(StatusCode::NOT_FOUND, "pod does not exist\n");
    };
    let known = mailbox.known();
    let Some(sandbox) = known.sandboxes.first().filter(|s| s.ready) else {
        let message = format!("failed to find sandbox for pod \"{namespace}/{name}\"\n");
        return text(StatusCode::INTERNAL_SERVER_ERROR, message);
    };
    let query = request.uri().query().unwrap_or_default();
    let ports = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "port");
    let ports: Vec<String> = ports.map(|(_, value)| value.into_owned()).collect();
    let ports = ports.iter().flat_map(|p| p.split(','));
    let parsed: Result<Vec<u16>, _> = ports.map(str::parse).collect();
    let Ok(parsed) = parsed else {
        return text(StatusCode::BAD_REQUEST, "invalid port\n");
    };
    let call = PortForwardRequest {
        pod_sandbox_id: sandbox.id.clone(),
        port: parsed.into_iter().map(i32::from).collect(),
    };
    let answer = context.runtime.port_forward(call).await;
    join(answer.map(|a| a.url), request).await
}

/// Joins the caller with the runtime's streaming server.
async fn join(url: Result<String, cri::Error>, request: Request<Incoming>) -> Response<Body> {
    let url = match url {
        Ok(url) => url,
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error.message),
    };
    match pass_on(&url, request).await {
        Ok(response) => response,
        Err(why) => {
            tracing::warn!(why, "cannot join with the runtime's streaming server");
            text(StatusCode::BAD_GATEWAY, why)
        }
    }
}

async fn pass_on(url: &str, mut request: Request<Incoming>) -> Result<Response<Body>, String> {
    let uri: Uri = url.parse().map_err(|e| format!("streaming URL: {e}"))?;
    let host = uri
        .host()
        .unwrap_or_default()
        .trim_matches(['[', ']'])
        .to_owned();
    let address: std::net::IpAddr = match host.as_str() {
        "localhost" => std::net::Ipv4Addr::LOCALHOST.into(),
        host => host
            .parse()
            .map_err(|_| "streaming URL without an address".to_owned())?,
    };
    if !address.is_loopback() || uri.scheme_str() != Some("http") {
        return Err("the runtime's streaming server is not on the loopback interface".to_owned());
    }
    let port = uri.port_u16().ok_or("streaming URL without a port")?;
    let stream = TcpStream::connect((address, port)).await;
    let stream = stream.map_err(|e| format!("streaming server: {e}"))?;
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| format!("streaming server: {e}"))?;
    tokio::spawn(connection.with_upgrades());
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let mut inner = Request::builder()
        .method(request.method().clone())
        .uri(path)
        .body(Empty::<Bytes>::new())
        .map_err(|e| e.to_string())?;
    *inner.headers_mut() = request.headers().clone();
    inner.headers_mut().remove(hyper::header::AUTHORIZATION);
    let authority = uri.authority().map_or("localhost", |a| a.as_str());
    let authority = HeaderValue::from_str(authority).map_err(|e| e.to_string())?;
    inner.headers_mut().insert(HOST, authority);
    let answer = sender.send_request(inner).await;
    let mut answer = answer.map_err(|e| format!("streaming server: {e}"))?;
    // A redirect would lead the caller somewhere else with our authority.
    if answer.status().is_redirection() {
        return Err("the runtime's streaming server answered with a redirect".to_owned());
    }
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (theirs, ours) = (
            hyper::upgrade::on(&mut request),
            hyper::upgrade::on(&mut answer),
        );
        tokio::spawn(copy(theirs, ours));
    }
    let (head, body) = answer.into_parts();
    let body = body.map_err(std::io::Error::other).boxed();
    Ok(Response::from_parts(head, body))
}

async fn copy(theirs: hyper::upgrade::OnUpgrade, ours: hyper::upgrade::OnUpgrade) {
    let (theirs, ours) = match futures::future::try_join(theirs, ours).await {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "an upgrade did not come about");
            return;
        }
    };
    let (mut theirs, mut ours) = (TokioIo::new(theirs), TokioIo::new(ours));
    if let Err(error) = tokio::io::copy_bidirectional(&mut theirs, &mut ours).await {
        tracing::debug!(%error, "a stream broke");
    }
}
