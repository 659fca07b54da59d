//! The contract, on every engine there is.

use std::sync::Arc;

use etcd_store::{EtcdStore, Options};
use store::Store;
use store::embedded::{self, Engine};
use store::sim_disk::SimDisk;
use store_proof::etcd::Cluster;
use store_proof::history;
use store_proof::suite;
use store_proof::workload::Clients;
use tokio::net::TcpListener;

#[tokio::test]
async fn the_embedded_engine_keeps_the_contract() {
    let homes = tempfile::tempdir().unwrap();
    let mut count = 0;
    suite::run(async || {
        count += 1;
        let dir = homes.path().join(count.to_string());
        let store: Arc<dyn Store> = Engine::open(&dir, embedded::Options::default()).unwrap();
        store
    })
    .await;
}

fn tiny() -> embedded::Options {
    embedded::Options {
        segment_bytes: 400,
        checkpoint_bytes: 600,
        checkpoint_chunk_bytes: 100,
        ..embedded::Options::default()
    }
}

#[tokio::test]
async fn the_embedded_engine_keeps_it_on_a_disk_with_slow_syncs_and_checkpoints_all_the_time() {
    suite::run(async || {
        let disk = SimDisk::new(2);
        disk.slow_syncs(Some(3));
        let store: Arc<dyn Store> = Engine::open_on(Arc::new(disk), tiny()).unwrap();
        store
    })
    .await;
}

/// An etcd engine on our own API over the embedded engine: both ends of the protocol are ours.
pub(crate) async fn served(engine: Arc<Engine>) -> Arc<dyn Store> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let listener = etcd_serve::Listener::Open(listener);
    tokio::spawn(etcd_serve::serve(engine, listener, std::future::pending()));
    open(&[endpoint]).await
}

pub(crate) async fn open(endpoints: &[String]) -> Arc<EtcdStore> {
    let options = Options {
        compact_every: None,
        ..Options::default()
    };
    EtcdStore::open(endpoints, None, options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_etcd_engine_keeps_it_on_our_own_api() {
    for (name, test) in suite::TESTS {
        // There leases are the server's, so keys with a time to live go in whole seconds.
        println!("{name}");
        let engine = Engine::open_on(Arc::new(SimDisk::new(1)), embedded::Options::default());
        test(served(engine.unwrap()).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_etcd_engine_keeps_it_on_etcd() {
    for (name, test) in suite::TESTS {
        println!("{name}");
        let mut etcd = Cluster::start(1, None).unwrap();
        etcd.wait().unwrap();
        test(open(&etcd.endpoints()).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_of_the_embedded_engine_fit_one_order() {
    let engine = Engine::open_on(Arc::new(SimDisk::new(5)), tiny()).unwrap();
    let store: Arc<dyn Store> = engine;
    let clients = Clients::start(std::slice::from_ref(&store), 16, 7);
    while clients.recording().acknowledged() < 3000 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let seen = clients.finish(&store).await.unwrap();
    history::check(&seen).unwrap();
    assert!(
        seen.watches
            .iter()
            .all(|watched| !watched.events.is_empty())
    );
}
