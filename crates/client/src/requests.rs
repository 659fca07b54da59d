//! What a component asked the API server over the network: how often, with which answer, and how long that took, under
//! the names of Kubernetes' own clients.
//!
//! Upstream: `k8s.io/component-base/metrics/prometheus/restclient`.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use machinery::metrics::{Histogram, head, line};
use parking_lot::Mutex;
use tower::Service;

const SECONDS: [f64; 12] = [
    0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0,
];
/// What stands for the code of a request that got no answer.
const NO_ANSWER: &str = "<error>";

#[derive(Default)]
struct State {
    /// By code, host and method.
    counts: BTreeMap<(String, Arc<str>, String), u64>,
    /// By host and method, those apart that stay open.
    took: BTreeMap<(Arc<str>, String), Histogram>,
}

/// The figures of all clients of one component.
#[derive(Clone, Default)]
pub struct Requests(Arc<Mutex<State>>);

impl Requests {
    /// A client whose requests are counted here.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn client(&self, config: Config) -> kube::Result<Client> {
        let url = &config.cluster_url;
        let host = match (url.host().unwrap_or_default(), url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        let (requests, host) = (self.clone(), Arc::<str>::from(host));
        let layer = tower::layer::layer_fn(move |inner| Counted {
            inner,
            requests: requests.clone(),
            host: Arc::clone(&host),
        });
        Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
    }

    fn note(&self, host: &Arc<str>, method: String, code: String, took: Option<Duration>) {
        let mut state = self.0.lock();
        if let Some(took) = took {
            let histogram = state.took.entry((Arc::clone(host), method.clone()));
            let histogram = histogram.or_insert_with(|| Histogram::new(&SECONDS));
            histogram.note(took.as_secs_f64());
        }
        let count = state.counts.entry((code, Arc::clone(host), method));
        *count.or_default() += 1;
    }

    /// Their part of a page of metrics; nothing when there was none.
    pub fn render(&self) -> String {
        let state = self.0.lock();
        let mut out = String::new();
        if state.counts.is_empty() {
            return out;
        }
        let name = "rest_client_request_duration_seconds";
        let help = "Request latency in seconds. Broken down by verb, and host.";
        head(&mut out, name, "histogram", "ALPHA", help);
        for ((host, method), histogram) in &state.took {
            let labels = format!("host=\"{host}\",verb=\"{method}\"");
            histogram.render(&mut out, name, &labels);
        }
        let name = "rest_client_requests_total";
        let help = "Number of HTTP requests, partitioned by status code, method, and host.";
        head(&mut out, name, "counter", "ALPHA", help);
        for ((code, host, method), count) in &state.counts {
            let labels = format!("code=\"{code}\",host=\"{host}\",method=\"{method}\"");
            line(&mut out, name, &labels, count);
        }
        out
    }
}

/// A way to the server, counted.
struct Counted<S> {
    inner: S,
    requests: Requests,
    host: Arc<str>,
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = request.method().as_str().to_owned();
        let query = request.uri().query().unwrap_or_default();
        // What a watch takes says nothing about the server.
        let stays = query.split('&').any(|part| part == "watch=true");
        let (requests, host) = (self.requests.clone(), Arc::clone(&self.host));
        let (started, answer) = (Instant::now(), self.inner.call(request));
        Box::pin(async move {
            let answer = answer.await;
            let code = match &answer {
                Ok(response) => response.status().as_str().to_owned(),
                Err(_) => NO_ANSWER.to_owned(),
            };
            let took = (!stays).then(|| started.elapsed());
            requests.note(&host, method, code, took);
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_by_host_method_and_code() {
        let requests = Requests::default();
        let host = Arc::<str>::from("127.0.0.1:6443");
        let took = Some(Duration::from_millis(30));
        requests.note(&host, "GET".to_owned(), "200".to_owned(), took);
        requests.note(&host, "GET".to_owned(), "200".to_owned(), None);
        requests.note(&host, "POST".to_owned(), NO_ANSWER.to_owned(), took);
        let page = requests.render();
        for wanted in [
            "rest_client_request_duration_seconds_count{host=\"127.0.0.1:6443\",verb=\"GET\"} 1",
            "rest_client_requests_total{code=\"200\",host=\"127.0.0.1:6443\",method=\"GET\"} 2",
            "rest_client_requests_total{code=\"<error>\",host=\"127.0.0.1:6443\",method=\"POST\"} 1",
        ] {
            assert!(page.contains(wanted), "{wanted} in {page}");
        }
    }
}
