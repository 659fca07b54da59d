//! The kubelet's HTTPS API: logs, exec, attach, port-forward, pods, health, usage, and what it says of itself.
//!
//! Nobody gets in without a certificate or a token, and nobody does anything that the API server does not allow
//! (`nodes/proxy` and its finer parts).

mod access;
mod logs;
mod stats;
mod streams;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::List;
use k8s_openapi::api::core::v1::Pod;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::config::ServerConfig;
use crate::context::Context;
use serving::{Access, Caller, Told, about};

/// The body of every answer.
pub(crate) type Body = http_body_util::combinators::BoxBody<Bytes, std::io::Error>;

/// How long a connection may take to say what it wants.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the API cannot be served.
pub(crate) use serving::Error;

/// Listens, and answers with the task that serves.
pub(crate) async fn serve(
    context: Arc<Context>,
    config: &ServerConfig,
) -> Result<BoxFuture<'static, ()>, Error> {
    let acceptor = TlsAcceptor::from(Arc::new(serving::tls(
        &config.certificate,
        &config.client_ca,
    )?));
    let listener = listen(config.address).await?;
    let access = Arc::new(Access::new(Some(context.client.clone())));
    let told = Arc::new(Told {
        component: "kubelet",
        flags: config.flags.clone(),
    });
    Ok(Box::pin(async move {
        loop {
            let Some(stream) = accept(&listener).await else {
                continue;
            };
            let (acceptor, context) = (acceptor.clone(), Arc::clone(&context));
            let (access, told) = (Arc::clone(&access), Arc::clone(&told));
            tokio::spawn(async move {
                let accepted = tokio::time::timeout(HEADER_TIMEOUT, acceptor.accept(stream));
                let Ok(Ok(stream)) = accepted.await else {
                    return;
                };
                let certificate = serving::caller_of(stream.get_ref().1);
                let service = service_fn(|request| {
                    answer(
                        Arc::clone(&context),
                        Arc::clone(&access),
                        Arc::clone(&told),
                        certificate.clone(),
                        request,
                    )
                });
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades();
                if let Err(error) = served.await {
                    tracing::debug!(%error, "connection to the kubelet broke");
                }
            });
        }
    }))
}

/// `/healthz` without TLS, for whoever is on this machine.
pub(crate) async fn serve_healthz(address: SocketAddr) -> Result<BoxFuture<'static, ()>, Error> {
    let listener = listen(address).await?;
    Ok(Box::pin(async move {
        loop {
            let Some(stream) = accept(&listener).await else {
                continue;
            };
            tokio::spawn(async move {
                let service = service_fn(|request: Request<Incoming>| async move {
                    Ok::<_, Infallible>(match request.uri().path() {
                        "/healthz" => text(StatusCode::OK, "ok"),
                        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
                    })
                });
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                if let Err(error) = served.await {
                    tracing::trace!(%error, "connection for /healthz broke");
                }
            });
        }
    }))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| Error::Listen { address, source })
}

async fn accept(listener: &TcpListener) -> Option<tokio::net::TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => {
            stream.set_nodelay(true).ok()?;
            Some(stream)
        }
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            // Out of descriptors, most likely: others need time to end.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn answer(
    context: Arc<Context>,
    access: Arc<Access>,
    told: Arc<Told>,
    certificate: Option<Caller>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let caller = match access.authenticate(certificate, request.headers()).await {
        Ok(caller) => caller,
        Err(_) => return Ok(text(StatusCode::UNAUTHORIZED, "Unauthorized")),
    };
    let (node, method, path) = (&context.node_name, request.method(), request.uri().path());
    if let Err(refusal) = access::authorize(&access, node, &caller, method, path).await {
        return Ok(refusal);
    }
    if let Some(page) = about::Page::at(path) {
        let paths = PATHS.map(str::to_owned);
        let page = told.answer(page, &paths, request.headers());
        return Ok(page.map(|body| body.map_err(|never| match never {}).boxed()));
    }
    Ok(route(context, request).await)
}

/// What is served, as `/statusz` lists it.
const PATHS: [&str; 14] = [
    "/attach",
    "/containerLogs",
    "/exec",
    "/flagz",
    "/healthz",
    "/livez",
    "/metrics",
    "/metrics/resource",
    "/pods",
    "/portForward",
    "/readyz",
    "/runningpods",
    "/stats",
    "/statusz",
];

async fn route(context: Arc<Context>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let reading = request.method() == Method::GET;
    match parts.as_slice() {
        ["healthz" | "readyz" | "livez"] if reading => text(StatusCode::OK, "ok"),
        ["pods"] if reading => pods(&context, false),
        ["runningpods"] if reading => pods(&context, true),
        ["metrics"] if reading => stats::metrics(&context),
        ["metrics", "resource"] if reading => stats::resource(&context).await,
        ["stats", "summary"] if reading => stats::summary(&context).await,
        ["containerLogs", namespace, pod, container] if reading => {
            logs::serve(&context, namespace, pod, container, request.uri().query()).await
        }
        ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container] => {
            let place = (*namespace, *pod, *container);
            streams::exec(&context, place, request).await
        }
        ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container] => {
            let place = (*namespace, *pod, *container);
            streams::attach(&context, place, request).await
        }
        ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
            streams::port_forward(&context, namespace, pod, request).await
        }
        _ => text(StatusCode::NOT_FOUND, "404: Page Not Found"),
    }
}

fn pods(context: &Context, running: bool) -> Response<Body> {
    let mailboxes: Vec<_> = context.pods.lock().values().cloned().collect();
    let items = mailboxes.iter().filter_map(|mailbox| {
        let known = mailbox.known();
        let is_running = known.status.phase.as_deref() == Some("Running");
        if running && !is_running {
            return None;
        }
        let mut pod = Pod::clone(&mailbox.pod());
        pod.status = Some(known.status.clone());
        Some(pod)
    });
    let list = List {
        items: items.collect(),
        ..List::<Pod>::default()
    };
    json(&list)
}

fn json(value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => with_type(StatusCode::OK, "application/json", bytes),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    with_type(
        status,
        "text/plain; charset=utf-8",
        text.into().into_bytes(),
    )
}

fn with_type(status: StatusCode, kind: &'static str, bytes: Vec<u8>) -> Response<Body> {
    let body = Full::new(Bytes::from(bytes)).map_err(|never| match never {});
    let mut response = Response::new(body.boxed());
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, kind);
    response
}
