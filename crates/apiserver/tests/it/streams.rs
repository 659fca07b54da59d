//! Streams through the server to a kubelet: a stand-in that speaks TLS and asks for the server's certificate.

use std::net::SocketAddr;
use std::sync::Arc;

use access::User;
use apiserver::{Config, Identity, KubeletClient, Server};
use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{DnType, ExtendedKeyUsagePurpose};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tower::ServiceExt;

use crate::harness::{Client, config};
use crate::tls::Authority;

/// Answers logs with the path it was asked for, exec with an echo, attach and 302 lines of a log with a redirect.
async fn kubelet(
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let path = request
        .uri()
        .path_and_query()
        .map(ToString::to_string)
        .unwrap_or_default();
    let mut response = Response::new(Full::from(path.clone()));
    if path.starts_with("/exec/") {
        assert!(request.headers().get("authorization").is_none());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, http::HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, http::HeaderValue::from_static("echo"));
        tokio::spawn(async move {
            let upgraded = hyper::upgrade::on(request).await.expect("an upgrade");
            let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
            tokio::io::copy(&mut reader, &mut writer)
                .await
                .expect("an echo");
            writer.shutdown().await.expect("an end");
        });
    } else if path.starts_with("/attach/") || path.ends_with("tailLines=302") {
        *response.status_mut() = StatusCode::FOUND;
        let elsewhere = http::HeaderValue::from_static("https://elsewhere.example/");
        response.headers_mut().insert("location", elsewhere);
    }
    Ok(response)
}

async fn serve_kubelet(authority: &Authority) -> SocketAddr {
    let (der, key) = authority.sign(&["127.0.0.1"], &[], ExtendedKeyUsagePurpose::ServerAuth);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der.clone()).expect("an authority");
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
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(kubelet));
                let _ = connection.with_upgrades().await;
            });
        }
    });
    address
}

struct Node {
    server: Arc<Server>,
    admin: Client,
    _dir: tempfile::TempDir,
}

/// A server, and a pod `p` with the container `c` on a node.
async fn with_pod() -> Node {
    let authority = Authority::new();
    let address = serve_kubelet(&authority).await;
    let subject = [(DnType::CommonName, "kube-apiserver-kubelet-client")];
    let (der, key) = authority.sign(&[], &subject, ExtendedKeyUsagePurpose::ClientAuth);
    let dir = tempfile::tempdir().expect("a directory");
    let kubelet_client = Some(KubeletClient {
        identity: Identity {
            chain: vec![der],
            key,
        },
        authorities: vec![authority.der.clone()],
    });
    let server = Server::new(Config {
        kubelet_client,
        ..config(dir.path())
    })
    .await
    .expect("a server");
    let admin = Client::of(&server, User::new("admin", &["system:masters"]));
    admin
        .post("/api/v1/nodes", json!({"metadata": {"name": "n"}}))
        .await
        .ok();
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": address.ip().to_string()}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": address.port()}},
    }});
    admin
        .patch("/api/v1/nodes/n/status", "merge", status)
        .await
        .ok();
    let account = json!({"metadata": {"name": "default"}});
    admin
        .post("/api/v1/namespaces/default/serviceaccounts", account)
        .await
        .ok();
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]},
    });
    admin
        .post("/api/v1/namespaces/default/pods", pod)
        .await
        .ok();
    Node {
        server,
        admin,
        _dir: dir,
    }
}

const POD: &str = "/api/v1/namespaces/default/pods/p";

#[tokio::test]
async fn logs_come_from_the_kubelet() {
    let node = with_pod().await;
    let log = node
        .admin
        .get(&format!("{POD}/log?tailLines=5&follow=true"))
        .await;
    assert_eq!(
        (log.code, log.text.as_str()),
        (200, "/containerLogs/default/p/c?follow=true&tailLines=5")
    );
    let other = node
        .admin
        .get(&format!("{POD}/log?container=x"))
        .await
        .refused(400);
    assert_eq!(other.message(), "container x is not valid for pod p");
    node.admin
        .get(&format!("{POD}/log?tailLines=-1"))
        .await
        .refused(422);
    node.server.shut_down();
}

#[tokio::test]
async fn exec_is_a_pipe_to_the_kubelet() {
    let node = with_pod().await;
    let service = node
        .server
        .in_process(User::new("admin", &["system:masters"]));
    let request = Request::get(format!("{POD}/exec?command=id&stdout=true"))
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
    node.server.shut_down();
}

/// 2018-1002102, 2020-8559: a kubelet leads nobody elsewhere, neither the server nor its client.
#[tokio::test]
async fn cve_2020_8559_kubelets_lead_nowhere_else() {
    let node = with_pod().await;
    let log = node.admin.get(&format!("{POD}/log?tailLines=302")).await;
    assert!(log.code >= 400, "{log:?}");
    assert!(log.headers.get("location").is_none());
    node.server.shut_down();
}

/// 2022-3294: a node is asked at no address that is nobody's or this machine's, whatever its status says.
#[tokio::test]
async fn cve_2022_3294_nodes_are_not_where_they_cannot_be() {
    let node = with_pod().await;
    for address in [
        "127.0.0.1",
        "::1",
        "169.254.169.254",
        "fe80::1",
        "224.0.0.1",
    ] {
        let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": address}]}});
        let path = "/api/v1/nodes/n/status";
        node.admin.patch(path, "merge", status).await.ok();
        let refused = node.admin.get("/api/v1/nodes/n/proxy/healthz").await;
        let refused = refused.refused(400);
        assert_eq!(refused.message(), "address not allowed", "{address}");
    }
    node.server.shut_down();
}

/// 2018-1002105, 2018-1002102, 2020-8559: anything but 101 ends the connection, and a redirect is not followed.
#[tokio::test]
async fn cve_2018_1002105_a_refused_upgrade_ends_the_connection() {
    let node = with_pod().await;
    let headers = [("connection", "Upgrade"), ("upgrade", "echo")];
    let path = format!("{POD}/attach?container=c");
    let answer = node.admin.send(Method::GET, &path, &headers, "").await;
    assert_eq!(answer.code, 502);
    assert_eq!(answer.headers["connection"], "close");
    assert!(answer.headers.get("location").is_none());
    node.admin
        .get(&format!("{POD}/exec?command=id"))
        .await
        .refused(400);
    node.server.shut_down();
}

/// 2020-8562, 2022-3294: proxies do not reach the machine itself.
#[tokio::test]
async fn cve_2020_8562_proxies_do_not_reach_loopback() {
    let node = with_pod().await;
    let refused = node
        .admin
        .get("/api/v1/nodes/n/proxy/healthz")
        .await
        .refused(400);
    assert_eq!(refused.message(), "address not allowed");
    let status = json!({"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}});
    node.admin
        .patch(&format!("{POD}/status"), "merge", status)
        .await;
    node.admin.get(&format!("{POD}/proxy/")).await.refused(400);
    node.server.shut_down();
}
