//! Where registries are: plain or TLS, mirrors first.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use tokio::net::TcpStream;

use super::fake::{Fake, answer, honest};
use super::registry::Registry;
use super::{Node, alice, digests, image};
use crate::pull::{Credentials, Dialer, PullOptions};

#[test]
fn endpoints() {
    let options = PullOptions {
        insecure: BTreeSet::from(["plain.example:5000".into()]),
        mirrors: BTreeMap::from([("docker.io".into(), vec!["http://127.0.0.1:5000/".into()])]),
        ..PullOptions::default()
    };
    let bases = |registry: &str| -> Vec<String> {
        let endpoints = options.endpoints(registry);
        endpoints
            .into_iter()
            .map(|endpoint| endpoint.base)
            .collect()
    };
    assert_eq!(
        bases("docker.io"),
        ["http://127.0.0.1:5000", "https://registry-1.docker.io"]
    );
    assert_eq!(bases("quay.io"), ["https://quay.io"]);
    assert_eq!(bases("plain.example:5000"), ["http://plain.example:5000"]);
    assert_eq!(bases("plain.example"), ["https://plain.example"]);
    assert_eq!(bases("127.8.9.1:1"), ["http://127.8.9.1:1"]);
    assert_eq!(bases("127.evil.example"), ["https://127.evil.example"]);
    assert_eq!(bases("localhost:1"), ["http://localhost:1"]);
    assert_eq!(bases("localhost.example"), ["https://localhost.example"]);
    assert_eq!(bases("[::1]:1"), ["http://[::1]:1"]);
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_sees_no_credentials() {
    let small = image("mirrored");
    let served = small.clone();
    // It even asks for them.
    let mirror = Fake::start(move |seen| match seen.path.contains("/greedy/") {
        true => answer(401, &[("www-authenticate", "Basic realm=\"m\"")], ""),
        false => honest(&served, &seen.path),
    })
    .await;
    let registry = Registry::start_locked();
    registry.push("greedy/app", "1", &small);
    let host = registry.address.to_string();
    let options = PullOptions {
        mirrors: BTreeMap::from([
            ("docker.io".into(), vec![mirror.url("")]),
            (host, vec!["http://127.0.0.1:1".into(), mirror.url("")]),
        ]),
        ..PullOptions::default()
    };
    let node = Node::new();
    let id = node.pull_with("app:1", &alice(), &options).await.unwrap();
    assert_eq!(id, digests(&small).1);
    let first = &mirror.paths()[0];
    assert_eq!(first, "/v2/library/app/manifests/1?ns=docker.io");
    assert!(node.store.status("docker.io/library/app:1").is_some());

    // Mirrors that are dead or refuse are passed over.
    let name = registry.name("greedy/app:1");
    Node::new()
        .pull_with(&name, &alice(), &options)
        .await
        .unwrap();
    assert!(mirror.paths().iter().any(|path| path.contains("/greedy/")));
    assert!(
        mirror
            .seen()
            .iter()
            .all(|seen| seen.authorization.is_none())
    );
}

/// Leads every name to one address.
#[derive(Debug)]
struct Always(SocketAddr);

#[async_trait::async_trait]
impl Dialer for Always {
    async fn dial(&self, _: &str, _: u16) -> io::Result<TcpStream> {
        TcpStream::connect(self.0).await
    }
}

#[tokio::test]
async fn a_registry_must_have_a_certificate_that_is_trusted() {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["registry.example".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.clone()],
            key.serialize_der().try_into().unwrap(),
        )
        .unwrap();
    let small = image("over TLS");
    let server = Fake::start_tls(config, move |seen| honest(&small, &seen.path)).await;

    let none = Credentials::default();
    let mut options = PullOptions {
        dialer: Arc::new(Always(server.address)),
        ..PullOptions::default()
    };
    let node = Node::new();
    let strange = node
        .pull_with("registry.example/app:1", &none, &options)
        .await;
    let strange = strange.unwrap_err().to_string();
    assert!(strange.contains("certificate"), "{strange}");

    options.certificate_authorities = vec![certificate];
    node.pull_with("registry.example/app:1", &none, &options)
        .await
        .unwrap();
    // It is nobody else.
    let other = node.pull_with("other.example/app:1", &none, &options).await;
    let other = other.unwrap_err().to_string();
    assert!(other.contains("certificate"), "{other}");
}
