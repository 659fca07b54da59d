//! The kubelet's HTTPS API from outside.

use std::net::SocketAddr;
use std::sync::Arc;

use expect_test::expect;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;

use super::story::Node;
use crate::ServerConfig;

/// An authority and what it signs.
struct Pki {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Pki {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Pki {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    fn issue(&self, name: &str, group: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

struct Caller {
    pki: Pki,
    address: SocketAddr,
}

impl Caller {
    async fn connect(&self, identity: Option<(&str, &str)>) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pki.pem.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some((name, group)) => {
                let (certificate, key) = self.pki.issue(name, group);
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await.unwrap()
    }

    /// Status and body of a request, without what changes.
    async fn ask(&self, identity: Option<(&str, &str)>, request: &str) -> String {
        let mut stream = self.connect(identity).await;
        let (line, headers) = request.split_once('\n').unwrap_or((request, ""));
        let text = format!("{line} HTTP/1.1\r\nHost: n1\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A server that does not say goodbye in TLS has said all in HTTP.
        stream.read_to_end(&mut answer).await.ok();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap();
        format!("{status} {}", body.trim())
    }
}

async fn node(last: u8) -> (Node, Caller) {
    let pki = Pki::new();
    let address = SocketAddr::from(([127, 77, 0, last], 10250));
    let (certificate, key) = pki.issue("n1", "system:nodes");
    let mut node = Node::new();
    node.server = Some(ServerConfig {
        address,
        certificate: serving::Certificate::from_pem(&certificate, &key).unwrap(),
        client_ca: pki.pem.clone(),
        flags: [("v".to_owned(), "2".to_owned())].into(),
        configuration: serde_json::Map::new(),
        requests: client::requests::Requests::default(),
    });
    node.start().await;
    (node, Caller { pki, address })
}

const MASTER: Option<(&str, &str)> = Some(("api", "system:masters"));

#[tokio::test]
async fn nobody_gets_in_unknown_and_nobody_does_what_he_may_not() {
    let (mut node, caller) = node(1).await;
    let mut told = String::new();
    for (identity, request) in [
        (None, "GET /healthz"),
        (None, "GET /pods"),
        (None, "GET /healthz\nAuthorization: Bearer nonsense\r\n"),
        (
            None,
            "GET /healthz\nAuthorization: Bearer token-of-nobody\r\n",
        ),
        (
            None,
            "GET /healthz\nAuthorization: Bearer token-of-reader\r\n",
        ),
        (
            None,
            "POST /exec/shop/web/app\nAuthorization: Bearer token-of-reader\r\n",
        ),
        (Some(("someone", "people")), "GET /stats/summary"),
        (MASTER, "GET /healthz"),
        (MASTER, "GET /debug/pprof/"),
        (MASTER, "GET /containerLogs/shop/web/app"),
    ] {
        told += &format!("{request:?}: {}\n", caller.ask(identity, request).await);
    }
    expect![[r#"
        "GET /healthz": 401 Unauthorized
        "GET /pods": 401 Unauthorized
        "GET /healthz\nAuthorization: Bearer nonsense\r\n": 401 Unauthorized
        "GET /healthz\nAuthorization: Bearer token-of-nobody\r\n": 403 Forbidden (user=nobody, verb=get, resource=nodes, subresource(s)=[healthz proxy])
        "GET /healthz\nAuthorization: Bearer token-of-reader\r\n": 200 ok
        "POST /exec/shop/web/app\nAuthorization: Bearer token-of-reader\r\n": 403 Forbidden (user=reader, verb=create, resource=nodes, subresource(s)=[proxy])
        "GET /stats/summary": 403 Forbidden (user=someone, verb=get, resource=nodes, subresource(s)=[stats])
        "GET /healthz": 200 ok
        "GET /debug/pprof/": 404 404: Page Not Found
        "GET /containerLogs/shop/web/app": 404 pod "web" does not exist
    "#]].assert_eq(&told);
    node.stop().await;
}

#[tokio::test]
async fn logs_of_a_pod() {
    let (mut node, caller) = node(2).await;
    node.create("{containers: [{name: app, image: 'nginx:1'}]}");
    node.ready().await;
    node.runtime
        .log("2026-01-01T00:00:00Z stdout F hello\n2026-01-01T00:00:01Z stderr F world\n");
    let mut told = String::new();
    for query in [
        "",
        "?tailLines=1",
        "?timestamps=true&stream=Stdout",
        "?previous=true",
        "?tailLines=x",
        "?limitBytes=0",
    ] {
        let request = format!("GET /containerLogs/shop/web/app{query}");
        told += &format!("{query}: {:?}\n", caller.ask(MASTER, &request).await);
    }
    told += &caller.ask(MASTER, "GET /containerLogs/shop/web/nope").await;
    expect![[r#"
        : "200 C\r\nhello\nworld\n\r\n0"
        ?tailLines=1: "200 6\r\nworld\n\r\n0"
        ?timestamps=true&stream=Stdout: "200 1B\r\n2026-01-01T00:00:00Z hello\n\r\n0"
        ?previous=true: "400 previous terminated container \"app\" in pod \"web\" not found"
        ?tailLines=x: "400 {\"message\": \"Unable to decode query.\"}"
        ?limitBytes=0: "422 {\"message\": \"Invalid request.\"}"
        404 container "nope" not found in pod "web""#]]
    .assert_eq(&told);
    node.stop().await;
}

/// Switches protocols and says everything back in capitals.
async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/exec/one-time", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(
            head.starts_with("GET /exec/one-time HTTP/1.1\r\n"),
            "{head}"
        );
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut word = [0; 5];
        stream.read_exact(&mut word).await.unwrap();
        stream.write_all(&word.to_ascii_uppercase()).await.unwrap();
    });
    url
}

#[tokio::test]
async fn a_command_in_a_container_byte_for_byte() {
    let (mut node, caller) = node(3).await;
    node.create("{containers: [{name: app, image: 'nginx:1'}]}");
    node.ready().await;
    node.runtime.set_streams(echo().await);
    let mut stream = caller.connect(MASTER).await;
    let request = "GET /exec/shop/web/app?command=sh&command=-c&output=1 HTTP/1.1\r\nHost: n1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(
        head.contains("sec-websocket-protocol: v5.channel.k8s.io"),
        "{head}"
    );
    stream.write_all(b"hello").await.unwrap();
    let mut word = [0; 5];
    stream.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"HELLO");
    assert!(node.runtime.calls().contains(&"stream sh -c".to_owned()));

    node.runtime
        .set_streams("http://192.0.2.1:80/exec".to_owned());
    let refused = caller
        .ask(MASTER, "GET /exec/shop/web/app?command=sh&output=1")
        .await;
    assert!(refused.starts_with("502"), "{refused}");
    let nothing = caller
        .ask(MASTER, "GET /exec/shop/web/app?command=sh")
        .await;
    assert_eq!(
        nothing,
        "400 you must specify at least 1 of stdin, stdout, stderr"
    );
    node.stop().await;
}

#[tokio::test]
async fn what_it_is_configured_with_and_what_was_counted() {
    let (mut node, caller) = node(4).await;
    node.create("{containers: [{name: app, image: 'nginx:1'}]}");
    node.ready().await;
    let request = "GET /configz\nAuthorization: Bearer token-of-nobody\r\n";
    let refused = caller.ask(None, request).await;
    assert_eq!(
        refused,
        "403 Forbidden (user=nobody, verb=get, resource=nodes, subresource(s)=[configz proxy])"
    );
    let answer = caller.ask(MASTER, "GET /configz").await;
    let told: serde_json::Value = serde_json::from_str(&answer[4..]).unwrap();
    let told = &told["kubeletconfig"];
    assert_eq!(told["kind"], "KubeletConfiguration");
    assert_eq!(told["address"], format!("{}", caller.address.ip()));
    assert_eq!(told["authentication"]["anonymous"]["enabled"], false);
    assert_eq!(told["nodeStatusReportFrequency"], "5m0s");

    caller.ask(MASTER, "GET /healthz?verbose").await;
    let slis = caller.ask(MASTER, "GET /metrics/slis").await;
    let wanted =
        "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"healthz\"} 1";
    assert!(slis.contains(wanted), "{slis}");

    let metrics = caller.ask(MASTER, "GET /metrics").await;
    for wanted in [
        "kubelet_node_name{node=\"n1\"} 1",
        "kubelet_started_pods_total 1",
        "kubelet_started_containers_total{container_type=\"container\"} 1",
        "kubelet_runtime_operations_total{operation_type=\"run_podsandbox\"} 1",
        "kubelet_http_requests_total{long_running=\"false\",method=\"GET\",path=\"metrics/slis\",server_type=\"readwrite\"} 1",
        "kubelet_http_inflight_requests{long_running=\"false\",method=\"GET\",path=\"metrics\",server_type=\"readwrite\"} 1",
    ] {
        assert!(metrics.contains(wanted), "{wanted} in {metrics}");
    }
    node.stop().await;
}
