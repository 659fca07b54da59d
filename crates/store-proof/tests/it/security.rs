//! The security lessons that concern the etcd API over the embedded store, one test each.

use std::sync::Arc;

use crate::etcdctl::etcdctl;
use etcd_api::etcdserverpb::kv_client::KvClient;
use etcd_api::etcdserverpb::lease_client::LeaseClient;
use etcd_api::etcdserverpb::request_op::Request as Op;
use etcd_api::etcdserverpb::response_op::Response as Answer;
use etcd_api::etcdserverpb::{
    DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use store::embedded::{Engine, Options};
use store::sim_disk::SimDisk;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

fn engine() -> Arc<Engine> {
    Engine::open_on(Arc::new(SimDisk::new(1)), Options::default()).expect("an engine")
}

/// A certificate for this name, and its key, PEM.
fn certificate(issuer: &rcgen::Issuer<'_, rcgen::KeyPair>, name: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = rcgen::CertificateParams::new(names).expect("parameters");
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    let made = params.signed_by(&key, issuer).expect("a certificate");
    (made.pem(), key.serialize_pem())
}

/// An authority, and its certificate.
fn authority() -> (rcgen::Issuer<'static, rcgen::KeyPair>, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).expect("a certificate").pem();
    (rcgen::Issuer::new(params, key), pem)
}

async fn connect(
    at: &str,
    trusted: &str,
    identity: Option<&(String, String)>,
) -> Result<Channel, tonic::transport::Error> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(trusted));
    if let Some((certificate, key)) = identity {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let endpoint = Channel::from_shared(at.to_owned()).expect("an address");
    endpoint.tls_config(tls)?.connect().await
}

/// Whether somebody with this certificate gets an answer.
async fn reads(at: &str, trusted: &str, identity: Option<&(String, String)>) -> bool {
    let Ok(channel) = connect(at, trusted, identity).await else {
        return false;
    };
    let request = RangeRequest {
        key: "a".into(),
        ..RangeRequest::default()
    };
    KvClient::new(channel).range(request).await.is_ok()
}

/// 2018-16886: the common name of a certificate makes nobody a user of the store, because there are none; and there is no
/// gateway whose own certificate its callers could act under.
#[tokio::test(flavor = "multi_thread")]
async fn cve_2018_16886_a_common_name_is_no_user() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ((own, trusted), (stranger, _)) = (authority(), authority());
    let identity = certificate(&own, "etcd-server");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let at = format!("https://localhost:{}", address.port());
    let listener = etcd_serve::Listener::Tls {
        listener,
        identity: (identity.0.into_bytes(), identity.1.into_bytes()),
        client_authority: trusted.clone().into_bytes(),
    };
    tokio::spawn(etcd_serve::serve(
        engine(),
        listener,
        std::future::pending(),
    ));
    let (root, somebody) = (certificate(&own, "root"), certificate(&own, "somebody"));
    assert!(reads(&at, &trusted, Some(&somebody)).await);
    // The name of the superuser opens nothing that is closed, and no authority but the server's own counts.
    assert!(!reads(&at, &trusted, Some(&certificate(&stranger, "root"))).await);
    assert!(!reads(&at, &trusted, None).await);
    let home = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let shown = format!(
        "--cacert={} --cert={} --key={}",
        file("ca.pem", &trusted),
        file("root.pem", &root.0),
        file("root.key", &root.1),
    );
    for what in ["auth enable", "user list", "role list"] {
        let said = etcdctl(&at, &format!("{shown} --command-timeout=5s {what}")).await;
        assert!(
            said.contains("unknown service") || said.contains("Unimplemented"),
            "{said}"
        );
    }
}

/// 2018-16886: HTTP with JSON, which etcd's gateway turns into its own requests, is not spoken.
#[tokio::test(flavor = "multi_thread")]
async fn cve_2018_16886_there_is_no_gateway() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let listener = etcd_serve::Listener::Open(listener);
    tokio::spawn(etcd_serve::serve(
        engine(),
        listener,
        std::future::pending(),
    ));
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let body = r#"{"key": "YQ=="}"#;
    let request = format!(
        "POST /v3/kv/range HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // Whatever becomes of the connection, no answer to the question comes over it.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(!answer.contains("\"header\""), "{answer}");
}

/// 2026-33413, 2026-33343, 2026-44283, 2026-73499: what is nobody's to read or write, the server's own keys, is kept back
/// on every way to a key: transactions within transactions, ranges without an end, the value before, and leases.
#[tokio::test(flavor = "multi_thread")]
async fn cve_2026_33413_own_keys_are_kept_back_on_every_way() {
    let channel = over_loopback().await;
    let mut kv = KvClient::new(channel.clone());
    let mut leases = LeaseClient::new(channel);
    let granted = leases.lease_grant(LeaseGrantRequest { ttl: 60, id: 7 });
    granted.await.expect("a lease");
    let put = |key: &'static [u8], lease: i64| PutRequest {
        key: key.into(),
        value: "1".into(),
        lease,
        prev_kv: true,
        ..PutRequest::default()
    };
    // With its first key the lease is written down, under a key of the server's own.
    kv.put(put(b"a", 7)).await.expect("put");
    let all = |key: &'static [u8]| RangeRequest {
        key: key.into(),
        range_end: b"\0".as_slice().into(),
        ..RangeRequest::default()
    };
    let nested = |op: Op, depth: usize| {
        let mut op = RequestOp { request: Some(op) };
        for _ in 0..depth {
            let inner = TxnRequest {
                success: vec![op],
                ..TxnRequest::default()
            };
            op = RequestOp {
                request: Some(Op::RequestTxn(inner)),
            };
        }
        TxnRequest {
            success: vec![op],
            ..TxnRequest::default()
        }
    };
    for start in [b"\0".as_slice(), b"\0oxikube/", b""] {
        let found = kv.range(all(start)).await;
        let found = found.map(|found| found.into_inner().kvs);
        assert!(
            found.iter().flatten().all(|kv| kv.key == b"a".as_slice()),
            "{start:?}"
        );
        for depth in 0..4 {
            let asked = kv.txn(nested(Op::RequestRange(all(start)), depth)).await;
            let Ok(answer) = asked else { continue };
            let mut responses = answer.into_inner().responses;
            while let Some(Answer::ResponseTxn(inner)) =
                responses.first().and_then(|op| op.response.clone())
            {
                responses = inner.responses;
            }
            let Some(Answer::ResponseRange(found)) =
                responses.first().and_then(|op| op.response.clone())
            else {
                panic!("no range at depth {depth}");
            };
            assert!(found.kvs.iter().all(|kv| kv.key == b"a".as_slice()));
        }
    }
    for depth in 0..4 {
        let write = Op::RequestPut(put(b"\0oxikube/etcd-lease/0000000000000007", 0));
        let refused = kv.txn(nested(write, depth)).await;
        assert_eq!(
            refused.expect_err("refused").code(),
            Code::InvalidArgument,
            "depth {depth}"
        );
        let remove = DeleteRangeRequest {
            key: b"\0".as_slice().into(),
            range_end: b"\x01".as_slice().into(),
            prev_kv: true,
        };
        let removed = kv.txn(nested(Op::RequestDeleteRange(remove), depth)).await;
        if let Ok(answer) = removed {
            let text = format!("{:?}", answer.into_inner());
            assert!(!text.contains("etcd-lease"), "{text}");
        }
    }
    // The lease is there as before: nothing has touched its record.
    let again = kv.put(put(b"b", 7)).await;
    assert!(again.is_ok(), "{again:?}");
}

/// A connection to a server that everybody may use.
async fn over_loopback() -> Channel {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = format!("http://{}", listener.local_addr().expect("an address"));
    let listener = etcd_serve::Listener::Open(listener);
    tokio::spawn(etcd_serve::serve(
        engine(),
        listener,
        std::future::pending(),
    ));
    let endpoint = Channel::from_shared(at).expect("an address");
    endpoint.connect().await.expect("a connection")
}
