//! Node ports of several servers on one store.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use access::User;
use apiserver::Server;
use serde_json::{Value, json};
use store::embedded::{Engine, Options};
use store::{Op, Range, Store, Txn};

use crate::harness::{Answer, Client, config};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const KEYS: &str = "/registry/ranges/servicenodeports/";

struct Peer {
    server: Arc<Server>,
    admin: Client,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.server.shut_down();
    }
}

struct Shared {
    store: Arc<Engine>,
    ports: RangeInclusive<u16>,
    _dir: tempfile::TempDir,
}

impl Shared {
    fn new(ports: RangeInclusive<u16>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Engine::open(dir.path(), Options::default()).expect("a store");
        Self {
            store,
            ports,
            _dir: dir,
        }
    }

    async fn server(&self) -> Peer {
        let elsewhere = tempfile::tempdir().expect("a directory");
        let mut config = config(elsewhere.path());
        config.store = self.store.clone();
        config.node_ports = self.ports.clone();
        let server = Server::new(config).await.expect("a server");
        let admin = Client::of(&server, User::new("admin", &["system:masters"]));
        Peer { server, admin }
    }

    /// The ports that have a key.
    async fn keys(&self) -> BTreeSet<u16> {
        let found = self.store.range(Range::prefix(KEYS)).await.expect("read");
        let numbers = found.kvs.iter().map(|kv| {
            let key = std::str::from_utf8(&kv.key).expect("text");
            key[KEYS.len()..].parse().expect("a number")
        });
        numbers.collect()
    }

    async fn write(&self, op: Op) {
        let txn = Txn {
            success: vec![op],
            ..Txn::default()
        };
        self.store.txn(txn).await.expect("written");
    }
}

fn node_port(name: &str, wanted: Option<u16>) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": wanted.unwrap_or(0)}]},
    })
}

fn ports_of(service: &Value) -> Vec<u16> {
    let ports = service["spec"]["ports"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let own = ports.iter().map(|port| port["nodePort"].clone());
    let all = own.chain([service["spec"]["healthCheckNodePort"].clone()]);
    all.filter_map(|port| u16::try_from(port.as_u64()?).ok())
        .collect()
}

async fn make(peers: &[Peer], services: impl IntoIterator<Item = Value>) -> Vec<Answer> {
    let made = services.into_iter().enumerate().map(|(n, service)| {
        let admin = peers[n % peers.len()].admin.clone();
        tokio::spawn(async move { admin.post(SERVICES, service).await })
    });
    let made: Vec<_> = made.collect();
    let mut answers = Vec::new();
    for one in made {
        answers.push(one.await.expect("an answer"));
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_on_one_store_give_no_port_out_twice() {
    let shared = Shared::new(30000..=30063);
    let peers = [shared.server().await, shared.server().await];
    // As many as there are, at the same time: both servers try the same ones again and again.
    let balanced = |name: String| {
        json!({
            "metadata": {"name": name},
            "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]},
        })
    };
    let services = (0..40).map(|n| match n < 24 {
        true => balanced(format!("s{n}")),
        false => node_port(&format!("s{n}"), None),
    });
    let made = make(&peers, services).await;
    let given: Vec<u16> = made
        .into_iter()
        .flat_map(|one| ports_of(&one.ok()))
        .collect();
    let once: BTreeSet<u16> = given.iter().copied().collect();
    assert_eq!((given.len(), &once), (64, &(30000..=30063).collect()));
    assert_eq!(shared.keys().await, once);
    for peer in &peers {
        let full = peer.admin.post(SERVICES, node_port("more", None)).await;
        let why = "failed to allocate a nodePort: range is full";
        assert!(full.message().contains(why), "{}", full.text);
    }

    // What one server takes back, the other one gives.
    let wanted = ports_of(&peers[0].admin.get(&format!("{SERVICES}/s30")).await.ok())[0];
    peers[0].admin.delete(&format!("{SERVICES}/s30")).await.ok();
    assert_eq!(shared.keys().await.len(), 63);
    // The same one, asked for by many at once: one gets it.
    let services = (0..20).map(|n| node_port(&format!("same{n}"), Some(wanted)));
    let made = make(&peers, services).await;
    let (got, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(|one| one.code == 201);
    assert_eq!(got.len(), 1);
    for one in refused {
        let message = one.refused(422).message().to_owned();
        assert!(
            message.ends_with("provided port is already allocated"),
            "{message}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_change_hands_with_updates() {
    let shared = Shared::new(30000..=30063);
    let peers = [shared.server().await, shared.server().await];
    let admin = &peers[0].admin;
    admin.post(SERVICES, node_port("a", Some(30001))).await.ok();
    let patch = |port: u16| json!({"spec": {"ports": [{"port": 80, "nodePort": port}]}});
    let path = format!("{SERVICES}/a");
    admin.patch(&path, "merge", patch(30002)).await.ok();
    assert_eq!(shared.keys().await, BTreeSet::from([30002]));
    let b = peers[1]
        .admin
        .post(SERVICES, node_port("b", Some(30001)))
        .await;
    assert_eq!(ports_of(&b.ok()), [30001]);
    let taken = peers[1].admin.patch(&path, "merge", patch(30001)).await;
    assert!(
        taken
            .refused(422)
            .message()
            .ends_with("provided port is already allocated")
    );
    let inner = json!({"spec": {"type": "ClusterIP", "ports": [{"port": 80, "nodePort": null}]}});
    peers[1].admin.patch(&path, "merge", inner).await.ok();
    assert_eq!(shared.keys().await, BTreeSet::from([30001]));
    // Without a word of what it would be.
    let dry = format!("{SERVICES}?dryRun=All");
    admin.post(&dry, node_port("c", Some(30009))).await.ok();
    assert_eq!(shared.keys().await, BTreeSet::from([30001]));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_services_that_do_not_fit_are_put_right() {
    let shared = Shared::new(30000..=30063);
    let first = shared.server().await;
    first
        .admin
        .post(SERVICES, node_port("a", Some(30001)))
        .await
        .ok();
    first
        .admin
        .post(SERVICES, node_port("b", Some(30002)))
        .await
        .ok();
    drop(first);
    // As a release leaves it that kept no keys, and as one that died halfway.
    let key = |port: u16| bytes::Bytes::from(format!("{KEYS}{port}"));
    let stray = |port: u16| Op::Put {
        key: key(port),
        value: "default/gone".into(),
        ttl: None,
    };
    shared.write(Op::Delete { key: key(30001) }).await;
    shared.write(stray(30005)).await;
    let again = shared.server().await;
    assert_eq!(shared.keys().await, BTreeSet::from([30001, 30002]));
    let taken = again
        .admin
        .post(SERVICES, node_port("c", Some(30001)))
        .await;
    assert!(
        taken
            .refused(422)
            .message()
            .ends_with("provided port is already allocated")
    );
    // In the middle of its life: whoever wants the port finds that nobody has it.
    shared.write(stray(30006)).await;
    let made = again
        .admin
        .post(SERVICES, node_port("c", Some(30006)))
        .await;
    assert_eq!(ports_of(&made.ok()), [30006]);
    assert_eq!(shared.keys().await, BTreeSet::from([30001, 30002, 30006]));
}
