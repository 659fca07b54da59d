//! The kubelet's HTTPS API: logs, exec, attach, port-forward, pods, health, usage, and what it says of itself.
//!
//! Nobody gets in without a certificate or a token, and nobody does anything that the API server does not allow
//! (`nodes/proxy` and its finer parts).

mod access;
mod cadvisor;
mod configz;
mod health;
mod logs;
mod stats;
mod streams;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::requests::Requests;
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

use crate::config::{Config, ServerConfig};
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
    kubelet: &Config,
    config: &ServerConfig,
) -> Result<BoxFuture<'static, ()>, Error> {
    let acceptor = TlsAcceptor::from(Arc::new(serving::tls(
        &config.certificate,
        &config.client_ca,
    )?));
    let listener = listen(config.address).await?;
    let site = Arc::new(Site {
        access: Access::new(Some(context.client.clone())),
        told: Told {
            component: "kubelet",
            flags: config.flags.clone(),
        },
        configuration: configz::configuration(kubelet, config),
        health: health::Health::default(),
        requests: config.requests.clone(),
        context,
    });
    Ok(Box::pin(async move {
        loop {
            let Some(stream) = accept(&listener).await else {
                continue;
            };
            let (acceptor, site) = (acceptor.clone(), Arc::clone(&site));
            tokio::spawn(async move {
                let accepted = tokio::time::timeout(HEADER_TIMEOUT, acceptor.accept(stream));
                let Ok(Ok(stream)) = accepted.await else {
                    return;
                };
                let certificate = serving::caller_of(stream.get_ref().1);
                let service = service_fn(|request| {
                    let (site, certificate) = (Arc::clone(&site), certificate.clone());
                    async move { Ok::<_, Infallible>(answer(&site, certificate, request).await) }
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

/// What the API is served from.
struct Site {
    context: Arc<Context>,
    access: Access,
    told: Told,
    /// The page at `/configz`.
    configuration: String,
    health: health::Health,
    requests: Requests,
}

/// A request, counted while it is answered.
async fn answer(
    site: &Site,
    certificate: Option<Caller>,
    request: Request<Incoming>,
) -> Response<Body> {
    let labels = labels(request.method(), request.uri().path());
    let (measures, started) = (&site.context.measures, Instant::now());
    measures.arrived(&labels);
    let response = answer_known(site, certificate, request).await;
    measures.answered(&labels, started.elapsed());
    response
}

async fn answer_known(
    site: &Site,
    certificate: Option<Caller>,
    request: Request<Incoming>,
) -> Response<Body> {
    let caller = (site.access).authenticate(certificate, request.headers());
    let Ok(caller) = caller.await else {
        return text(StatusCode::UNAUTHORIZED, "Unauthorized");
    };
    let node = &site.context.node_name;
    let (method, path) = (request.method(), request.uri().path());
    if let Err(refusal) = access::authorize(&site.access, node, &caller, method, path).await {
        return refusal;
    }
    if let Some(page) = about::Page::at(path) {
        let paths = PATHS.map(str::to_owned);
        let page = site.told.answer(page, &paths, request.headers());
        return page.map(|body| body.map_err(|never| match never {}).boxed());
    }
    route(site, request).await
}

/// What a request is counted by, as upstream: the beginning of its path, if it is one that is served.
fn labels(method: &Method, path: &str) -> String {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let root = match (parts.next().unwrap_or_default(), parts.next()) {
        ("metrics", Some(which)) => format!("metrics/{which}"),
        (first, _) => first.to_owned(),
    };
    let known = PATHS.iter().any(|path| path[1..] == root);
    let root = if known { root.as_str() } else { "other" };
    let method = match *method {
        Method::GET | Method::POST | Method::PUT | Method::DELETE | Method::HEAD => method.as_str(),
        Method::OPTIONS | Method::PATCH | Method::TRACE | Method::CONNECT => method.as_str(),
        _ => "other",
    };
    let stays = matches!(root, "exec" | "attach" | "portForward" | "debug");
    format!(
        "long_running=\"{stays}\",method=\"{method}\",path=\"{root}\",server_type=\"readwrite\""
    )
}

/// What is served, as `/statusz` lists it.
const PATHS: [&str; 18] = [
    "/attach",
    "/configz",
    "/containerLogs",
    "/exec",
    "/flagz",
    "/healthz",
    "/livez",
    "/metrics",
    "/metrics/cadvisor",
    "/metrics/probes",
    "/metrics/resource",
    "/metrics/slis",
    "/pods",
    "/portForward",
    "/readyz",
    "/runningpods",
    "/stats",
    "/statusz",
];

async fn route(site: &Site, request: Request<Incoming>) -> Response<Body> {
    let context = &site.context;
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let reading = request.method() == Method::GET;
    match parts.as_slice() {
        [kind @ ("healthz" | "readyz" | "livez")] if reading => {
            (site.health).page(kind, None, request.uri().query().unwrap_or_default())
        }
        [kind @ ("healthz" | "readyz" | "livez"), check] if reading => {
            (site.health).page(kind, Some(check), request.uri().query().unwrap_or_default())
        }
        ["configz"] => nosniff(with_type(
            StatusCode::OK,
            "application/json",
            site.configuration.clone().into_bytes(),
        )),
        ["pods"] if reading => pods(context, false),
        ["runningpods"] if reading => pods(context, true),
        ["metrics"] if reading => stats::metrics(context, &site.requests),
        ["metrics", "cadvisor"] if reading => cadvisor::page(context).await,
        ["metrics", "probes"] if reading => stats::figures(context.measures.probes()),
        ["metrics", "resource"] if reading => stats::resource(context).await,
        ["metrics", "slis"] if reading => stats::figures(site.health.records()),
        ["stats", "summary"] if reading => stats::summary(context).await,
        ["containerLogs", namespace, pod, container] if reading => {
            logs::serve(context, namespace, pod, container, request.uri().query()).await
        }
        ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container] => {
            let place = (*namespace, *pod, *container);
            streams::exec(context, place, request).await
        }
        ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container] => {
            let place = (*namespace, *pod, *container);
            streams::attach(context, place, request).await
        }
        ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
            streams::port_forward(context, namespace, pod, request).await
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

fn nosniff(mut response: Response<Body>) -> Response<Body> {
    let value = hyper::header::HeaderValue::from_static("nosniff");
    let headers = response.headers_mut();
    headers.insert(hyper::header::X_CONTENT_TYPE_OPTIONS, value);
    response
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
