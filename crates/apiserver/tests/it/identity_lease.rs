//! The lease by which a server is known.

use access::User;
use apiserver::Server;
use serde_json::{Value, json};

use crate::harness::{Client, config};

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const OWN: &str = "apiserver-wlv32tlttr4jl3gtroqexyxapa";

fn of_server(name: &str, renewed: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "labels": {"apiserver.kubernetes.io/identity": "kube-apiserver"}},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 3600, "renewTime": renewed},
    })
}

#[tokio::test]
async fn a_server_is_known_by_a_lease_while_it_lives() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut first = config(dir.path());
    let store = first.store.clone();
    // Keeps no lease, and so removes none.
    first.host_name = None;
    let server = Server::new(first).await.expect("a server");
    let admin = Client::of(&server, User::new("admin", &["system:masters"]));
    let expired = of_server("apiserver-gone", "2020-01-01T00:00:00.000000Z");
    let living = of_server("apiserver-other", "2999-01-01T00:00:00.000000Z");
    let died = of_server(OWN, "2999-01-01T00:00:00.000000Z");
    for lease in [expired, living, died] {
        admin.post(PATH, lease).await.ok();
    }
    let version = admin.get(PATH).await.ok()["metadata"]["resourceVersion"].clone();
    let from = format!(
        "{PATH}?watch=1&resourceVersion={}",
        version.as_str().unwrap()
    );
    let mut events = admin.watch(&from).await;

    let second = apiserver::Config {
        store,
        host_name: Some("vm".to_owned()),
        ..config(tempfile::tempdir().expect("a directory").path())
    };
    let second = Server::new(second).await.expect("a server");
    let mut seen = Vec::new();
    let mut made = Value::Null;
    while seen.len() < 3 {
        let event = events.next().await.expect("an event");
        let name = event["object"]["metadata"]["name"].as_str().unwrap();
        seen.push(format!("{} {name}", event["type"].as_str().unwrap()));
        if event["type"] == "ADDED" {
            made = event["object"].clone();
        }
    }
    seen.sort();
    let own = |what: &str| format!("{what} {OWN}");
    assert_eq!(
        seen,
        [
            own("ADDED"),
            "DELETED apiserver-gone".to_owned(),
            own("DELETED")
        ]
    );
    let labels = json!({
        "apiserver.kubernetes.io/identity": "kube-apiserver", "kubernetes.io/hostname": "vm",
    });
    assert_eq!(made["metadata"]["labels"], labels);
    assert_eq!(made["spec"]["leaseDurationSeconds"], 3600);
    let holder = made["spec"]["holderIdentity"].as_str().unwrap();
    assert!(holder.starts_with(&format!("{OWN}_")), "{holder}");

    second.leave().await;
    let event = events.next().await.expect("an event");
    assert_eq!(event["type"], "DELETED");
    assert_eq!(event["object"]["metadata"]["name"], OWN);
    second.shut_down();
    server.shut_down();
}
