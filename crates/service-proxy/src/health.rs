//! What load balancers ask a node: whether a service with `externalTrafficPolicy: Local` has end points here, and whether
//! the proxy itself is well.
//!
//! Each service with a `healthCheckNodePort` gets a listener of its own on all addresses. Answers are those of kube-proxy
//! (`pkg/proxy/healthcheck`), word for word.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use client::services::Key;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;

/// Connections of one listener at once.
const CONNECTIONS: usize = 64;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

type Answer = Response<Full<Bytes>>;

/// The listeners of all services.
pub(crate) struct Server(BTreeMap<Key, Listener>);

struct Listener {
    port: u16,
    /// How many end points the service has on this node.
    count: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Port and number of end points of a service, or that it needs no answer.
    pub(crate) fn set(&mut self, service: &Key, wanted: Option<(u16, usize)>) {
        let Some((port, count)) = wanted else {
            self.0.remove(service);
            return;
        };
        if let Some(listener) = self.0.get(service).filter(|l| l.port == port) {
            listener.count.store(count, Ordering::Relaxed);
            return;
        }
        // The old listener goes first: another service may have got its port.
        self.0.remove(service);
        let count = Arc::new(AtomicUsize::new(count));
        let (name, counted) = (service.clone(), count.clone());
        let task = tokio::spawn(async move {
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            let answer = move |_: &str| of_service(&name, counted.load(Ordering::Relaxed));
            if let Err(error) = serve(address, Arc::new(answer)).await {
                tracing::warn!(%error, port, "a health check cannot be answered");
            }
        });
        let listener = Listener {
            port,
            count,
            task: task.abort_handle(),
        };
        self.0.insert(service.clone(), listener);
    }
}

fn json(healthy: bool, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(body));
    if !healthy {
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    let headers = answer.headers_mut();
    headers.insert("content-type", "application/json".parse().expect("a value"));
    headers.insert(
        "x-content-type-options",
        "nosniff".parse().expect("a value"),
    );
    answer
}

fn of_service((namespace, name): &Key, count: usize) -> Answer {
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"{name}\"\n\t}},\n\t\
         \"localEndpoints\": {count},\n\t\"serviceProxyHealthy\": true\n}}"
    );
    let mut answer = json(count > 0, body);
    let headers = answer.headers_mut();
    headers.insert("x-load-balancing-endpoint-weight", count.into());
    answer
}

/// Answers for the proxy itself, as long as the future lives; without an address it only waits.
pub(crate) async fn serve_own(address: Option<SocketAddr>, ready: watch::Receiver<bool>) {
    let Some(address) = address else {
        return std::future::pending().await;
    };
    let answer = move |path: &str| {
        let healthy = *ready.borrow();
        let now = jiff::Timestamp::now();
        let mut body =
            serde_json::json!({"lastUpdated": now, "currentTime": now, "healthy": healthy});
        match path {
            "/healthz" => body["nodeEligible"] = true.into(),
            "/livez" => {}
            _ => {
                let mut answer = Response::new(Full::from("404 page not found\n"));
                *answer.status_mut() = StatusCode::NOT_FOUND;
                return answer;
            }
        }
        json(healthy, body.to_string())
    };
    if let Err(error) = serve(address, Arc::new(answer)).await {
        tracing::warn!(%error, %address, "the proxy's health cannot be asked for");
    }
    std::future::pending().await
}

/// Serves until dropped.
async fn serve(
    address: SocketAddr,
    answer: Arc<impl Fn(&str) -> Answer + Send + Sync + 'static>,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // Connections end with the listener.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let place = places.clone().acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let answer = answer.clone();
        connections.spawn(async move {
            let _place = place;
            let service = hyper::service::service_fn(|request: Request<Incoming>| {
                let answer = answer(request.uri().path());
                async move { Ok::<_, Infallible>(answer) }
            });
            // Whatever goes wrong on a connection ends that connection only.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
