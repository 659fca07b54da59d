//! Group versions that another server serves: a stand-in that speaks TLS, asks for the front-proxy certificate, and
//! tells what reached it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use access::User;
use apiserver::{FrontProxy, Identity, Policy};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, LOCATION, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{DnType, ExtendedKeyUsagePurpose};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tower::ServiceExt;

use crate::harness::{Client, Cluster};
use crate::tls::Authority;

const GROUP: &str = "wardle.example.com";
const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const FLUNDERS: &str = "/apis/wardle.example.com/v1alpha1/namespaces/default/flunders";

/// An address of this host that is not the loopback's. Nothing is sent.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    (socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))).expect("a way out of this host");
    socket.local_addr().expect("an address").ip()
}

fn json_answer(kind: &'static str, value: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(value.to_string()));
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn discovery() -> Value {
    let resource = json!({
        "resource": "flunders", "scope": "Namespaced", "singularResource": "flunder",
        "verbs": ["get", "list"], "responseKind": {"group": "", "version": "", "kind": "Flunder"},
    });
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2",
        "items": [{"metadata": {"name": GROUP}, "versions": [
            {"version": "v1alpha1", "resources": [resource]},
        ]}],
    })
}

/// What the other server answers: documents, a redirect, an echo, or what it was asked.
async fn answer(
    request: Request<Incoming>,
    knows_third: bool,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let path = request.uri().path().to_owned();
    Ok(match path.as_str() {
        "/apis" => json_answer(
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            &discovery(),
        ),
        "/openapi/v2" => json_answer(
            "application/json",
            &json!({
                "swagger": "2.0", "paths": {
                    "/apis/wardle.example.com/v1alpha1/flunders": {"get": {"responses": {"200": {
                        "description": "OK", "schema": {"$ref": "#/definitions/Flunder"},
                    }}}},
                    "/apis/other/v1/": {},
                },
                "definitions": {"Flunder": {"type": "object"}, "Unused": {}},
            }),
        ),
        "/openapi/v3" if !knows_third => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
        "/openapi/v3" => json_answer(
            "application/json",
            &json!({"paths": {"apis/wardle.example.com/v1alpha1": {
                "serverRelativeURL": "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=ABC",
            }}}),
        ),
        path if path.ends_with("/elsewhere") => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::FOUND;
            let place = HeaderValue::from_static("https://elsewhere.example/");
            response.headers_mut().insert(LOCATION, place);
            response
        }
        path if path.ends_with("/echo") => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("echo"));
            tokio::spawn(async move {
                let upgraded = hyper::upgrade::on(request).await.expect("an upgrade");
                let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
                let copied = tokio::io::copy(&mut reader, &mut writer).await;
                copied.expect("an echo");
                writer.shutdown().await.expect("an end");
            });
            response
        }
        _ => {
            let asked = request.uri().to_string();
            let method = request.method().to_string();
            let headers: Vec<String> = request
                .headers()
                .iter()
                .map(|(k, v)| format!("{k}: {}", v.to_str().unwrap_or("")))
                .collect();
            let body = request.into_body().collect().await.expect("a body");
            let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            let told = json!({"method": method, "asked": asked, "headers": headers, "body": body});
            json_answer("application/json", &told)
        }
    })
}

/// A cluster, and another server with its service and end point.
struct Pair {
    cluster: Cluster,
    bundle: String,
    address: SocketAddr,
}

impl Pair {
    async fn start() -> Self {
        Self::of(true).await
    }

    /// With a server that knows the third version of OpenAPI, or does not.
    async fn of(knows_third: bool) -> Self {
        let authority = Authority::new();
        let front_proxy = Authority::new();
        let address = serve(&authority, &front_proxy, knows_third).await;
        let subject = [(DnType::CommonName, "front-proxy-client")];
        let (der, key) = front_proxy.sign(&[], &subject, ExtendedKeyUsagePurpose::ClientAuth);
        let cluster = Cluster::with(|config| {
            config.proxy_client = Some(Identity {
                chain: vec![der],
                key,
            });
            config.policy = Policy {
                front_proxy: Some(FrontProxy::usual("PEM".to_owned(), "front-proxy-client")),
                ..Policy::default()
            };
        });
        let encoded = STANDARD.encode(&authority.der);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n");
        Self {
            cluster: cluster.await,
            bundle: STANDARD.encode(pem),
            address,
        }
    }

    fn admin(&self) -> &Client {
        &self.cluster.admin
    }

    async fn register(&self) {
        let service = json!({
            "metadata": {"name": "v1alpha1.wardle.example.com"},
            "spec": {
                "group": GROUP, "version": "v1alpha1", "groupPriorityMinimum": 2000,
                "versionPriority": 10, "caBundle": self.bundle,
                "service": {"namespace": "default", "name": "api"},
            },
        });
        self.admin().post(SERVICES, service).await.ok();
    }

    async fn with_service(&self, spec: Value) {
        let service = json!({"metadata": {"name": "api"}, "spec": spec});
        let path = "/api/v1/namespaces/default/services";
        self.admin().post(path, service).await.ok();
    }

    async fn with_end_point(&self, port_name: &str) {
        let slice = json!({
            "metadata": {"name": "api-1", "labels": {"kubernetes.io/service-name": "api"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [self.address.ip()], "conditions": {"ready": true}}],
            "ports": [{"name": port_name, "port": self.address.port()}],
        });
        let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        self.admin().post(path, slice).await.ok();
    }

    /// Waits until the server was asked what it has, a moment after the condition, and gives what is told of its version.
    async fn until_heard(&self) -> Value {
        let accept = [(
            "accept",
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        )];
        loop {
            let all = self.admin().send(Method::GET, "/apis", &accept, "").await;
            let groups = all.ok()["items"].as_array().cloned().unwrap_or_default();
            let found = groups.iter().find(|g| g["metadata"]["name"] == GROUP);
            let version = found.expect("the group")["versions"][0].clone();
            if version["freshness"] == "Current" {
                return version;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the condition gives a reason, and gives its message.
    async fn until(&self, reason: &str) -> String {
        let name = "v1alpha1.wardle.example.com";
        let path = format!("{SERVICES}?watch=1&fieldSelector=metadata.name%3D{name}");
        let mut events = self.admin().watch(&path).await;
        loop {
            let event = events.next().await.expect("an event");
            let conditions = event["object"]["status"]["conditions"].as_array();
            let found = conditions
                .into_iter()
                .flatten()
                .find(|c| c["reason"] == reason);
            if let Some(found) = found {
                return found["message"].as_str().unwrap_or("").to_owned();
            }
        }
    }

    /// The service, an end point and the registration, all of them at work.
    async fn ready() -> Self {
        Self::started(Self::start().await).await
    }

    async fn started(pair: Self) -> Self {
        pair.with_service(json!({"ports": [{"port": 443}]})).await;
        pair.with_end_point("").await;
        pair.register().await;
        assert_eq!(pair.until("Passed").await, "all checks passed");
        pair
    }
}

async fn serve(authority: &Authority, front_proxy: &Authority, knows_third: bool) -> SocketAddr {
    let (der, key) = authority.sign(
        &["api.default.svc"],
        &[],
        ExtendedKeyUsagePurpose::ServerAuth,
    );
    let mut roots = rustls::RootCertStore::empty();
    roots.add(front_proxy.der.clone()).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        provider.clone(),
    );
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(vec![der], key)
        .expect("a certificate");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind((own_address(), 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let connection = hyper::server::conn::http1::Builder::new().serve_connection(
                    TokioIo::new(stream),
                    service_fn(move |request| answer(request, knows_third)),
                );
                let _ = connection.with_upgrades().await;
            });
        }
    });
    address
}

#[tokio::test]
async fn requests_are_passed_on_under_the_callers_name() {
    let pair = Pair::ready().await;
    let mut user = User::new("jane", &["devs", "system:masters"]);
    user.extra
        .insert("example.com/scope".to_owned(), vec!["all".to_owned()]);
    let jane = pair.cluster.as_user(user);
    let headers = [
        ("authorization", "Bearer secret"),
        ("x-remote-user", "root"),
        ("x-remote-group", "system:nodes"),
        ("content-type", "application/json"),
    ];
    let path = format!("{FLUNDERS}?dryRun=All&x=a%2Fb");
    let told = jane
        .send(Method::POST, &path, &headers, r#"{"kind":"Flunder"}"#)
        .await
        .ok();
    assert_eq!(
        (&told["method"], &told["asked"], &told["body"]),
        (
            &json!("POST"),
            &json!(path),
            &json!(r#"{"kind":"Flunder"}"#)
        )
    );
    let got: Vec<&str> = told["headers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let has = |line: &str| got.contains(&line);
    assert!(has("x-remote-user: jane"), "{got:?}");
    assert!(has("x-remote-group: devs") && has("x-remote-group: system:masters"));
    assert!(has("x-remote-extra-example.com%2fscope: all"), "{got:?}");
    assert!(has("content-type: application/json") && has("x-forwarded-proto: https"));
    assert!(!got.iter().any(|l| l.starts_with("authorization")));
    assert!(!has("x-remote-user: root") && !has("x-remote-group: system:nodes"));
}

#[tokio::test]
async fn who_may_not_is_refused_before_anything_is_passed_on() {
    let pair = Pair::ready().await;
    let nobody = pair.cluster.as_user(User::new("nobody", &[]));
    let refused = nobody.get(FLUNDERS).await.refused(403);
    let why = "flunders.wardle.example.com is forbidden: User \"nobody\" cannot list resource \"flunders\" in API group \"wardle.example.com\" in the namespace \"default\"";
    assert_eq!(refused.message(), why);
}

/// 2018-1002102, 2020-8559, 2022-3172: where the other server points, nobody is sent.
#[tokio::test]
async fn cve_2022_3172_redirects_of_other_servers_are_refused() {
    let pair = Pair::ready().await;
    let refused = pair.admin().get(&format!("{FLUNDERS}/elsewhere")).await;
    assert_eq!(refused.code, 502);
    assert_eq!(
        refused.text,
        "the backend attempted to redirect this request, which is not permitted"
    );
    assert!(refused.headers.get("location").is_none());
    let upgrade = [("connection", "Upgrade"), ("upgrade", "echo")];
    let path = format!("{FLUNDERS}/elsewhere");
    let refused = pair.admin().send(Method::GET, &path, &upgrade, "").await;
    assert_eq!(refused.code, 503);
    assert_eq!(refused.text, "invalid upgrade response: status code 302\n");
}

#[tokio::test]
async fn upgrades_are_a_pipe_to_the_other_server() {
    let pair = Pair::ready().await;
    let service = (pair.cluster.server).in_process(User::new("admin", &["system:masters"]));
    let request = Request::get(format!("{FLUNDERS}/a/echo"))
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "echo")
        .body(Empty::<Bytes>::new())
        .expect("a request");
    let response = service.oneshot(request).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut pipe = TokioIo::new(hyper::upgrade::on(response).await.expect("an upgrade"));
    pipe.write_all(b"hello").await.expect("a write");
    pipe.shutdown().await.expect("an end");
    let mut said = String::new();
    pipe.read_to_string(&mut said).await.expect("a read");
    assert_eq!(said, "hello");
}

#[tokio::test]
async fn documents_tell_what_the_other_server_has() {
    let pair = Pair::ready().await;
    let admin = pair.admin();
    let groups = admin.get("/apis").await.ok();
    let names: Vec<&str> = groups["groups"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|g| g["name"].as_str())
        .collect();
    // Before custom kinds (1000), after all of the program's.
    assert_eq!(names.last(), Some(&GROUP), "{names:?}");
    assert_eq!(names.first(), Some(&"apiregistration.k8s.io"));
    let group = admin.get("/apis/wardle.example.com").await.ok();
    assert_eq!(
        group["preferredVersion"]["groupVersion"],
        "wardle.example.com/v1alpha1"
    );
    let version = pair.until_heard().await;
    assert_eq!(version["resources"][0]["resource"], "flunders");
    let second = admin.get("/openapi/v2").await.ok();
    assert!(second["paths"]["/apis/wardle.example.com/v1alpha1/flunders"].is_object());
    assert!(second["definitions"]["Flunder"].is_object());
    assert!(
        second["definitions"]["Unused"].is_null() && second["paths"]["/apis/other/v1/"].is_null()
    );
    let third = admin.get("/openapi/v3").await.ok();
    let path = "apis/wardle.example.com/v1alpha1";
    let url = third["paths"][path]["serverRelativeURL"].as_str();
    let told = admin.get(url.expect("a place")).await.ok();
    assert_eq!(told["asked"], format!("/openapi/v3/{path}?hash=ABC"));
}

#[tokio::test]
async fn a_server_without_the_third_version_is_told_of_by_its_second() {
    let pair = Pair::started(Pair::of(false).await).await;
    pair.until_heard().await;
    let index = pair.admin().get("/openapi/v3").await.ok();
    let path = "apis/wardle.example.com/v1alpha1";
    let url = index["paths"][path]["serverRelativeURL"].as_str();
    let answer = pair.admin().get(url.expect("a place")).await;
    let etag = answer.headers["etag"].to_str().expect("text").to_owned();
    let hash = url.and_then(|url| url.split("hash=").nth(1));
    assert_eq!(Some(etag.trim_matches('"')), hash);
    let document = answer.ok();
    assert_eq!(document["openapi"], "3.0.0");
    let paths = document["paths"].as_object().expect("paths");
    let paths: Vec<&String> = paths.keys().collect();
    assert_eq!(paths, ["/apis/wardle.example.com/v1alpha1/flunders"]);
    assert!(document["components"]["schemas"]["Flunder"].is_object());
}

#[tokio::test]
async fn the_condition_says_why_a_server_cannot_be_asked() {
    let pair = Pair::start().await;
    pair.register().await;
    let why = "service/api in \"default\" is not present";
    assert_eq!(pair.until("ServiceNotFound").await, why);
    let answer = pair.admin().get(FLUNDERS).await.refused(503);
    assert_eq!(answer.text, "service unavailable\n");
    pair.with_service(json!({"ports": [{"port": 8443, "name": "https"}]}))
        .await;
    let why = "service/api in \"default\" is not listening on port 443";
    assert_eq!(pair.until("ServicePortError").await, why);
    let path = "/api/v1/namespaces/default/services/api";
    let ports = json!({"spec": {"ports": [{"port": 443, "name": "https"}]}});
    pair.admin().patch(path, "merge", ports).await.ok();
    let why = "cannot find endpointslices for service/api in \"default\"";
    assert_eq!(pair.until("EndpointsNotFound").await, why);
    pair.with_end_point("other").await;
    let why =
        "endpointslices for service/api in \"default\" have no addresses with port name \"https\"";
    assert_eq!(pair.until("MissingEndpoints").await, why);
    let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/api-1";
    let port = pair.address.port();
    let ports = json!({"ports": [{"name": "https", "port": port}]});
    pair.admin().patch(path, "merge", ports).await.ok();
    assert_eq!(pair.until("Passed").await, "all checks passed");
    let metrics = pair.admin().get("/metrics").await.text;
    let line = "aggregator_unavailable_apiservice{name=\"v1alpha1.wardle.example.com\"} 0";
    assert!(metrics.contains(line));
    // When it is this server's own again, it is gone with its registration.
    pair.admin()
        .delete(&format!("{SERVICES}/v1alpha1.wardle.example.com"))
        .await
        .ok();
    pair.admin().get(FLUNDERS).await.refused(404);
}

/// 2020-8562, 2022-3294: a service with the name of this machine leads nowhere.
#[tokio::test]
async fn cve_2020_8562_other_servers_are_not_this_machine() {
    let pair = Pair::start().await;
    pair.with_service(json!({"type": "ExternalName", "externalName": "localhost"}))
        .await;
    pair.register().await;
    let why = pair.until("FailedDiscoveryCheck").await;
    assert!(why.ends_with("address not allowed"), "{why}");
}

#[tokio::test]
async fn other_servers_learn_whom_they_may_believe() {
    let pair = Pair::start().await;
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let data = pair.admin().get(path).await.ok()["data"].clone();
    assert_eq!(data["requestheader-client-ca-file"], "PEM");
    assert_eq!(
        data["requestheader-allowed-names"],
        "[\"front-proxy-client\"]"
    );
    assert_eq!(
        data["requestheader-username-headers"],
        "[\"X-Remote-User\"]"
    );
    assert_eq!(
        data["requestheader-extra-headers-prefix"],
        "[\"X-Remote-Extra-\"]"
    );
}
