//! What is written down of requests.

use std::path::Path;
use std::time::Duration;

use access::User;
use apiserver::{AuditOptions, Batch, Delivery, DeliveryMode, LogOptions};
use http::Method;
use serde_json::{Value, json};

use crate::harness::Cluster;

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- {level: None, users: [system:apiserver]}
- {level: Metadata, resources: [{resources: [secrets]}]}
- {level: RequestResponse, resources: [{resources: [configmaps]}], omitManagedFields: true}
- {level: Metadata, omitStages: [RequestReceived]}
";

pub(crate) fn options(path: &Path) -> AuditOptions {
    AuditOptions {
        policy: Some(access::audit::Policy::parse(POLICY.as_bytes()).expect("a policy")),
        log: Some(LogOptions {
            path: Some(path.to_owned()),
            json: true,
            max_bytes: 100 << 20,
            max_age_days: 366,
            max_backups: 100,
            compress: false,
            delivery: Delivery {
                mode: DeliveryMode::Blocking,
                batch: Batch {
                    buffer: 10_000,
                    max_size: 1,
                    max_wait: Duration::ZERO,
                    throttle: None,
                },
                max_event_bytes: None,
            },
        }),
        webhook: None,
    }
}

pub(crate) fn events(path: &Path, id: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("a log");
    let all = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    all.filter(|event: &Value| event["auditID"] == id).collect()
}

#[tokio::test]
async fn requests_and_answers_are_written_down_as_the_policy_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.log");
    let cluster = Cluster::with(|config| config.audit = options(&path)).await;
    let admin = &cluster.admin;
    let configmaps = "/api/v1/namespaces/default/configmaps";
    let body = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
    let headers = [
        ("audit-id", "one"),
        ("user-agent", "test/1"),
        ("x-forwarded-for", "192.0.2.9"),
    ];
    let answer = admin
        .send(Method::POST, configmaps, &headers, body.to_string())
        .await;
    assert_eq!(answer.headers["audit-id"], "one");
    answer.ok();
    let found = events(&path, "one");
    let [first, last] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(
        (&first["stage"], &last["stage"]),
        (&json!("RequestReceived"), &json!("ResponseComplete"))
    );
    assert_eq!(first["sourceIPs"], json!(["192.0.2.9", "127.0.0.1"]));
    assert_eq!(
        (&last["userAgent"], &last["verb"]),
        (&json!("test/1"), &json!("create"))
    );
    assert_eq!(
        last["objectRef"],
        json!({"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"})
    );
    assert_eq!(last["requestObject"]["data"], json!({"k": "v"}));
    assert_eq!(last["responseObject"]["metadata"]["name"], "a");
    assert_eq!(
        last["responseObject"]["metadata"]["managedFields"],
        Value::Null
    );
    assert_eq!(last["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert_eq!(
        last["annotations"]["authorization.k8s.io/decision"],
        "allow"
    );
    assert_eq!(last["user"]["username"], "admin");

    // A secret's contents are nobody's affair.
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}});
    let secrets = "/api/v1/namespaces/default/secrets";
    admin
        .send(
            Method::POST,
            secrets,
            &[("audit-id", "two")],
            secret.to_string(),
        )
        .await
        .ok();
    let found = events(&path, "two");
    assert_eq!(found.len(), 2);
    assert!(
        !std::fs::read_to_string(&path)
            .expect("a log")
            .contains("hunter2")
    );

    // Somebody acts as somebody else and may not.
    let as_other = [("audit-id", "three"), ("impersonate-user", "jane")];
    admin
        .send(Method::GET, "/api/v1/nodes", &as_other, "")
        .await
        .refused(403);
    let found = events(&path, "three");
    let [event] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(event["impersonatedUser"]["username"], "jane");
    assert_eq!(
        event["annotations"]["authorization.k8s.io/decision"],
        "forbid"
    );
    assert_eq!(event["responseStatus"]["reason"], "Forbidden");
    assert_eq!(event["responseStatus"]["code"], 403);
}

#[tokio::test]
async fn a_watch_is_written_down_when_it_starts_and_when_it_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.log");
    let cluster = Cluster::with(|config| config.audit = options(&path)).await;
    let stranger = cluster.as_user(User::new("jane", &["system:masters"]));
    let watch = "/api/v1/namespaces/default/secrets?watch=1";
    let open = stranger
        .open(Method::GET, watch, &[("audit-id", "w")], "")
        .await;
    let stages = || -> Vec<Value> {
        events(&path, "w")
            .iter()
            .map(|e| e["stage"].clone())
            .collect()
    };
    assert_eq!(stages(), ["RequestReceived", "ResponseStarted"]);
    drop(open);
    while stages().len() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(stages()[2], "ResponseComplete");
}

#[tokio::test]
async fn every_answer_has_a_number() {
    let cluster = Cluster::start().await;
    let (one, two) = (
        cluster.admin.get("/version").await,
        cluster.admin.get("/version").await,
    );
    let id = |answer: &crate::harness::Answer| answer.headers["audit-id"].clone();
    assert_eq!(id(&one).len(), 36);
    assert_ne!(id(&one), id(&two));
}

/// Takes lists of events; the first time it is asked it is not well.
async fn collector(tls: &crate::tls::Authority) -> (std::net::SocketAddr, Collected) {
    let (der, key) = tls.sign(
        &["127.0.0.1"],
        &[],
        rcgen::ExtendedKeyUsagePurpose::ServerAuth,
    );
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![der], key)
        .expect("a certificate");
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (told, collected) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut asked = 0;
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, told) = (acceptor.clone(), told.clone());
            asked += 1;
            let well = asked > 1;
            let answer = move |request: http::Request<hyper::body::Incoming>| {
                let told = told.clone();
                async move {
                    let path = request.uri().path().to_owned();
                    let body = http_body_util::BodyExt::collect(request.into_body()).await;
                    let body = body.expect("a body").to_bytes();
                    if well {
                        let list: Value = serde_json::from_slice(&body).expect("JSON");
                        told.send((path, list)).expect("somebody listens");
                    }
                    let mut answer =
                        http::Response::new(http_body_util::Empty::<bytes::Bytes>::new());
                    *answer.status_mut() = if well { 200 } else { 500 }.try_into().expect("a code");
                    let close = http::HeaderValue::from_static("close");
                    answer.headers_mut().insert("connection", close);
                    Ok::<_, std::convert::Infallible>(answer)
                }
            };
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.expect("TLS");
                let stream = hyper_util::rt::TokioIo::new(stream);
                let service = hyper::service::service_fn(answer);
                let served = hyper::server::conn::http1::Builder::new();
                let _ = served.serve_connection(stream, service).await;
            });
        }
    });
    (address, collected)
}

type Collected = tokio::sync::mpsc::UnboundedReceiver<(String, Value)>;

#[tokio::test]
async fn events_are_sent_to_a_server_elsewhere_until_it_takes_them() {
    use base64::Engine;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let authority = crate::tls::Authority::new();
    let (address, mut collected) = collector(&authority).await;
    let pem = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        encode(&authority.der)
    );
    let dir = tempfile::tempdir().expect("a directory");
    let kubeconfig = dir.path().join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {
            "server": format!("https://{address}/events"), "certificate-authority-data": encode(pem.as_bytes()),
        }}],
        "users": [{"name": "u", "user": {}}],
    });
    std::fs::write(&kubeconfig, text.to_string()).expect("a file");
    let log = options(&dir.path().join("unused")).log.expect("a log");
    let webhook = apiserver::WebhookOptions {
        kubeconfig,
        initial_backoff: Duration::from_millis(10),
        max_batch_bytes: None,
        delivery: Delivery {
            mode: DeliveryMode::Blocking,
            ..log.delivery
        },
    };
    let cluster = Cluster::with(|config| {
        config.audit = AuditOptions {
            log: None,
            webhook: Some(webhook),
            ..options(dir.path())
        };
    });
    let cluster = cluster.await;
    let path = "/api/v1/namespaces/default/configmaps/none";
    let headers = [("audit-id", "elsewhere")];
    cluster.admin.send(Method::GET, path, &headers, "").await;
    loop {
        let (path, list) = collected.recv().await.expect("a list");
        assert_eq!(
            (path.as_str(), &list["kind"]),
            ("/events", &json!("EventList"))
        );
        let items = list["items"].as_array().expect("events");
        if items
            .iter()
            .any(|e| e["auditID"] == "elsewhere" && e["stage"] == "ResponseComplete")
        {
            break;
        }
    }
}

/// A server that answers only when two lists are there at a time.
async fn slow_collector() -> (std::net::SocketAddr, std::sync::Arc<tokio::sync::Barrier>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let address = listener.local_addr().expect("an address");
    let both = std::sync::Arc::new(tokio::sync::Barrier::new(2));
    let met = std::sync::Arc::new(tokio::sync::Barrier::new(3));
    let told = met.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (both, told) = (both.clone(), told.clone());
            let answer = move |_: http::Request<hyper::body::Incoming>| {
                let (both, told) = (both.clone(), told.clone());
                async move {
                    both.wait().await;
                    told.wait().await;
                    let body = http_body_util::Empty::<bytes::Bytes>::new();
                    Ok::<_, std::convert::Infallible>(http::Response::new(body))
                }
            };
            tokio::spawn(async move {
                let stream = hyper_util::rt::TokioIo::new(stream);
                let service = hyper::service::service_fn(answer);
                let served = hyper::server::conn::http1::Builder::new();
                let _ = served.serve_connection(stream, service).await;
            });
        }
    });
    (address, met)
}

#[tokio::test]
async fn a_batch_does_not_wait_until_the_one_before_has_arrived() {
    let (address, met) = slow_collector().await;
    let dir = tempfile::tempdir().expect("a directory");
    let kubeconfig = dir.path().join("kubeconfig");
    let text = json!({
        "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c"}}],
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}/")}}],
    });
    std::fs::write(&kubeconfig, text.to_string()).expect("a file");
    let log = options(&dir.path().join("unused")).log.expect("a log");
    let webhook = apiserver::WebhookOptions {
        kubeconfig,
        initial_backoff: Duration::from_secs(10),
        max_batch_bytes: None,
        delivery: Delivery {
            mode: DeliveryMode::Batch,
            ..log.delivery
        },
    };
    let cluster = Cluster::with(|config| {
        config.audit = AuditOptions {
            log: None,
            webhook: Some(webhook),
            ..options(dir.path())
        };
    });
    let cluster = cluster.await;
    // A batch is one event here.
    for name in ["a", "b"] {
        let path = format!("/api/v1/namespaces/default/configmaps/{name}");
        cluster.admin.get(&path).await;
    }
    let waited = tokio::time::timeout(Duration::from_secs(20), met.wait()).await;
    waited.expect("two lists at a time");
}
