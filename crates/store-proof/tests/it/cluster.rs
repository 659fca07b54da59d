//! A real etcd cluster of three, whose members are killed and paused while clients write.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use etcd_store::{EtcdStore, Options, Tls};
use store::{Op, Range, Store, Txn};
use store_proof::etcd::{Cluster, Files};
use store_proof::history;
use store_proof::workload::Clients;

async fn until(clients: &Clients, more: u64) {
    let target = clients.recording().acknowledged() + more;
    let wait = async {
        while clients.recording().acknowledged() < target {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
    assert!(waited.is_ok(), "nothing is acknowledged any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_and_go_and_nothing_is_lost() {
    let mut etcd = Cluster::start(3, None).unwrap();
    etcd.wait().unwrap();
    let endpoints = etcd.endpoints();
    let mut stores: Vec<Arc<dyn Store>> = Vec::new();
    for first in 0..3 {
        let mut own = endpoints.clone();
        own.rotate_left(first);
        let options = Options {
            compact_every: None,
            request_timeout: Duration::from_secs(2),
            ..Options::default()
        };
        stores.push(EtcdStore::open(&own, None, options).await.unwrap());
    }
    let clients = Clients::start(&stores, 9, 3);
    until(&clients, 100).await;
    for number in 0..3 {
        etcd.kill(number).unwrap();
        until(&clients, 60).await;
        etcd.start_member(number).unwrap();
        until(&clients, 30).await;
    }
    for number in 0..3 {
        etcd.pause(number).unwrap();
        until(&clients, 60).await;
        etcd.resume(number).unwrap();
        until(&clients, 30).await;
    }
    let seen = clients.finish(&stores[0]).await.unwrap();
    history::check(&seen).unwrap();
}

/// An authority, and a certificate for loopback that members and clients both show.
pub(crate) fn certificates(dir: &Path) -> Files {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["authority".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let own_key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let own = rcgen::CertificateParams::new(names).unwrap();
    let own = own.signed_by(&own_key, &issuer).unwrap();
    let write = |name: &str, pem: String| {
        std::fs::write(dir.join(name), pem).unwrap();
        dir.join(name)
    };
    Files {
        authority: write("ca.pem", authority.pem()),
        identity: (
            write("own.pem", own.pem()),
            write("own.key", own_key.serialize_pem()),
        ),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_is_spoken_to_over_tls_with_a_client_certificate() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let home = tempfile::tempdir().unwrap();
    let files = certificates(home.path());
    let mut etcd = Cluster::start(1, Some(&files)).unwrap();
    etcd.wait().unwrap();
    let read = |path: &Path| std::fs::read(path).unwrap();
    let mut tls = Tls {
        authority: read(&files.authority),
        identity: Some((read(&files.identity.0), read(&files.identity.1))),
    };
    let endpoints = etcd.endpoints();
    let store = EtcdStore::open(&endpoints, Some(&tls), Options::default())
        .await
        .unwrap();
    let txn = Txn {
        success: vec![Op::Put {
            key: "a".into(),
            value: "1".into(),
            ttl: None,
        }],
        ..Txn::default()
    };
    store.txn(txn).await.unwrap();
    assert_eq!(store.range(Range::key("a")).await.unwrap().count, 1);
    tls.identity = None;
    let impatient = Options {
        patience: Duration::from_millis(500),
        ..Options::default()
    };
    let refused = EtcdStore::open(&endpoints, Some(&tls), impatient).await;
    assert!(
        refused.is_err(),
        "a client without a certificate was let in"
    );
}
