//! Against HTTPS servers of the test's own, on loopback.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use access::Lookup;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use machinery::Object;
use rcgen::{CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{Destination, Login, Message, Outbound, OutboundError, Place, Trust};

mod kubeconfigs;

const NAME: &str = "hook.test.svc";

/// A server with a certificate for one name; counts its connections.
struct Far {
    port: u16,
    authority: String,
    connections: Arc<AtomicUsize>,
}

async fn far(name: &str, h2: bool) -> Far {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    let leaf = params.signed_by(&key, &issuer).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::from(key))
        .expect("a configuration");
    if h2 {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                let served = builder
                    .serve_connection_with_upgrades(TokioIo::new(stream), service_fn(answer));
                // The test's end of the connection goes away at some time.
                let _ = served.await;
            });
        }
    });
    Far {
        port,
        authority,
        connections,
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let version = format!("{:?}", request.version());
    let bearer = request.headers().get("authorization").cloned();
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let mut response = Response::new(Full::new(body.clone()));
    match path.as_str() {
        "/never" => std::future::pending().await,
        "/long" => *response.body_mut() = Full::new(vec![b'x'; 1000].into()),
        "/broken" => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
        "/elsewhere" => {
            *response.status_mut() = StatusCode::FOUND;
            let to = http::HeaderValue::from_static("https://127.0.0.1:1/");
            response.headers_mut().insert("location", to);
        }
        _ => {}
    }
    let headers = response.headers_mut();
    headers.insert("x-version", version.parse().expect("a value"));
    if let Some(bearer) = bearer {
        headers.insert("x-bearer", bearer);
    }
    Ok(response)
}

/// The caches of a server that knows some objects.
#[derive(Default)]
struct Known(HashMap<String, Arc<Object>>);

impl Known {
    fn with_service(port: u16, addresses: &[&str]) -> Self {
        let mut known = Self::default();
        known.put(
            "services",
            json!({
                "metadata": {"namespace": "test", "name": "hook"},
                "spec": {"ports": [{"name": "https", "port": 443}]},
            }),
        );
        let addresses: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        known.put(
            "endpoints",
            json!({
                "metadata": {"namespace": "test", "name": "hook"},
                "subsets": [{"addresses": addresses, "ports": [{"name": "https", "port": port}]}],
            }),
        );
        known
    }

    fn put(&mut self, resource: &str, value: Value) {
        let object = Object::from_value(value).expect("an object");
        let key = format!("{resource}/{}/{}", object.namespace(), object.name());
        self.0.insert(key, Arc::new(object));
    }
}

impl Lookup for Known {
    fn get(&self, _: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.0
            .get(&format!("{resource}/{namespace}/{name}"))
            .cloned()
    }

    fn list(&self, _: &str, resource: &str, namespace: &str) -> Vec<Arc<Object>> {
        let prefix = format!("{resource}/{namespace}/");
        let found = self.0.iter().filter(|(key, _)| key.starts_with(&prefix));
        found.map(|(_, object)| object.clone()).collect()
    }
}

fn message(path: &str) -> Message {
    Message::json(path.to_owned(), "{}".into(), Duration::from_secs(10))
}

fn hook(far: &Far) -> Destination {
    let trust = Trust::bundle(far.authority.as_bytes());
    Destination::new(Place::service("test", "hook", 443), trust)
}

fn url(far: &Far, host: &str) -> Destination {
    let place = Place::of_url(&format!("https://{host}:{}", far.port)).expect("a URL");
    Destination::new(place.0, Trust::bundle(far.authority.as_bytes()))
}

fn secret() -> Arc<Login> {
    Arc::new(Login::Token("secret".into()))
}

fn text(failed: Result<super::Answer, OutboundError>) -> String {
    failed.expect_err("an error").to_string()
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    for (h2, version) in [(false, "HTTP/1.1"), (true, "HTTP/2.0")] {
        let far = far(NAME, h2).await;
        let known = Known::with_service(far.port, &["127.0.0.1"]);
        let outbound = Outbound::default();
        let mut to = hook(&far);
        to.login = Some(secret());
        for _ in 0..5 {
            let answer = outbound.exchange(&known, &to, message("/a?b=c")).await;
            let answer = answer.expect("an answer");
            assert_eq!(answer.headers["x-version"], version);
            assert_eq!(answer.headers["x-bearer"], "Bearer secret");
            assert_eq!(answer.success().expect("a body"), "{}");
        }
        assert_eq!(far.connections.load(Ordering::SeqCst), 1, "{version}");
    }
}

/// 2019-11243: a destination without anything to show shows nothing, also where another has just shown something.
#[tokio::test]
async fn cve_2019_11243_who_shows_nothing_shows_nothing() {
    let far = far(NAME, true).await;
    let known = Known::with_service(far.port, &["127.0.0.1"]);
    let outbound = Outbound::default();
    let mut showing = hook(&far);
    showing.login = Some(secret());
    let bare = Destination::new(showing.place.clone(), showing.trust.clone());
    for (to, shown) in [
        (&showing, true),
        (&bare, false),
        (&showing, true),
        (&bare, false),
    ] {
        let answer = outbound.exchange(&known, to, message("/")).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.headers.contains_key("x-bearer"), shown);
    }
    assert!(bare.credentials.is_none() && bare.login.is_none());
}

#[tokio::test]
async fn a_service_is_reached_by_the_end_points_that_work() {
    let far = far(NAME, false).await;
    // Nobody listens on the others.
    let known = Known::with_service(far.port, &["127.0.0.1", "127.0.0.77", "127.0.0.78"]);
    let outbound = Outbound::default();
    for _ in 0..10 {
        let answer = outbound.exchange(&known, &hook(&far), message("/")).await;
        assert_eq!(answer.expect("an answer").status, 200);
    }
}

#[tokio::test]
async fn what_fails_is_told_in_the_words_of_go() {
    let there = far(NAME, false).await;
    let outbound = Outbound::default();
    let to = hook(&there);
    let send = async |known: &Known, to: &Destination, message| {
        text(outbound.exchange(known, to, message).await)
    };
    let prefix = r#"Post "https://hook.test.svc:443/x?timeout=1s": "#;
    let said = send(&Known::default(), &to, message("/x?timeout=1s")).await;
    assert_eq!(said, format!(r#"{prefix}service "hook" not found"#));
    let known = Known::with_service(there.port, &[]);
    let said = send(&known, &to, message("/x?timeout=1s")).await;
    let none = r#"no endpoints available for service "hook""#;
    assert_eq!(said, format!("{prefix}{none}"));
    let known = Known::with_service(1, &["127.0.0.1"]);
    let said = send(&known, &to, message("/x?timeout=1s")).await;
    let refused = "dial tcp 127.0.0.1:1: connect: connection refused";
    assert_eq!(said, format!("{prefix}{refused}"));

    let known = Known::with_service(there.port, &["127.0.0.1"]);
    let other = far(NAME, false).await;
    let stranger = Destination::new(to.place.clone(), Trust::bundle(other.authority.as_bytes()));
    let said = send(&known, &stranger, message("/x?timeout=1s")).await;
    let unknown =
        "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    assert_eq!(said, format!("{prefix}{unknown}"));
    let said = send(&known, &url(&there, "localhost"), message("/")).await;
    let wrong = "x509: certificate is valid for hook.test.svc, not localhost";
    assert!(said.ends_with(wrong), "{said}");

    let slow = Message {
        timeout: Duration::from_millis(50),
        ..message("/never?timeout=1s")
    };
    let said = send(&known, &to, slow).await;
    let url = "https://hook.test.svc:443/never?timeout=1s";
    assert_eq!(said, format!(r#"Post "{url}": context deadline exceeded"#));
    let long = Message {
        answer_limit: 999,
        ..message("/long")
    };
    let said = send(&known, &to, long).await;
    assert!(said.ends_with("http: response body too large"), "{said}");
}

#[tokio::test]
async fn statuses_are_told_as_clients_of_the_api_do() {
    let far = far(NAME, false).await;
    let known = Known::with_service(far.port, &["127.0.0.1"]);
    let outbound = Outbound::default();
    let ask = async |path, body: &str| {
        let message = Message {
            body: body.to_owned().into(),
            ..message(path)
        };
        let answer = outbound.exchange(&known, &hook(&far), message).await;
        answer
            .expect("an answer")
            .success()
            .expect_err("an error")
            .message
    };
    let why = r#"an error on the server ("oh no") has prevented the request from succeeding"#;
    assert_eq!(ask("/broken", "oh no").await, why);
    let status = r#"{"kind": "Status", "message": "as it says"}"#;
    assert_eq!(ask("/broken", status).await, "as it says");
    let redirected = ask("/elsewhere", "").await;
    assert!(redirected.starts_with("the server responded with the status code 302"));
}

#[tokio::test]
async fn a_request_is_passed_on_as_it_is() {
    let far = far(NAME, true).await;
    let known = Known::with_service(far.port, &["127.0.0.1"]);
    let outbound = Outbound::default();
    let nothing = || Empty::<Bytes>::new().map_err(|never| match never {});
    // For an upgrade HTTP/2 is not offered; this far end insists on it.
    for (upgrade, works) in [(false, true), (true, false)] {
        let request = Request::get("/ignored").body(nothing().boxed_unsync());
        let request = request.expect("a request");
        let sent = outbound
            .forward(&known, &hook(&far), "/path", request, upgrade)
            .await;
        assert_eq!(sent.is_ok(), works);
    }
}
