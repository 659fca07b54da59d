//! The statuses of components: asked when somebody reads them.

use std::net::SocketAddr;

use apiserver::{Alive, Component, Pulse, Server};
use http::Method;
use serde_json::json;

use crate::harness::{Client, config};

/// An address of this machine where nobody listens.
fn nowhere() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

#[tokio::test]
async fn components_tell_how_they_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let (pulse, away) = (Pulse::default(), nowhere());
    let mut config = config(dir.path());
    config.components = vec![
        Component {
            name: "scheduler",
            alive: Alive::Here(pulse.clone()),
        },
        Component {
            name: "controller-manager",
            alive: Alive::At(away),
        },
    ];
    let server = Server::new(config).await.expect("a server");
    let admin = Client::of(&server, access::User::new("admin", &["system:masters"]));
    let path = "/api/v1/componentstatuses";
    let refused =
        format!("Get \"https://{away}/healthz\": dial tcp {away}: connect: connection refused");
    let unwell = |name: &str, message: &str| {
        let condition = json!({"type": "Healthy", "status": "False", "message": message});
        json!({"metadata": {"name": name}, "conditions": [condition]})
    };
    let list = admin.get(path).await;
    let told = list.headers["warning"].to_str().expect("text");
    assert_eq!(told, "299 - \"v1 ComponentStatus is deprecated in v1.19+\"");
    let well = json!({"type": "Healthy", "status": "True", "message": "ok"});
    assert_eq!(
        list.ok(),
        json!({"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": [
            unwell("controller-manager", &refused),
            {"metadata": {"name": "etcd-0"}, "conditions": [well]},
            unwell("scheduler", "the scheduler is not running"),
        ]})
    );
    // It is well as long as its work lasts.
    let one = format!("{path}/scheduler");
    let shown = pulse.during(admin.get(&one)).await.ok();
    assert_eq!(shown["conditions"], json!([well]));
    assert_eq!(
        admin.get(&one).await.ok()["conditions"][0]["status"],
        "False"
    );
    let none = admin.get(&format!("{path}?labelSelector=a%3Db")).await.ok();
    assert_eq!(none["items"], json!([]));
    let named = format!("{path}?fieldSelector=metadata.name%3Detcd-0");
    assert_eq!(
        admin.get(&named).await.ok()["items"][0]["metadata"]["name"],
        "etcd-0"
    );
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = admin.send(Method::GET, path, &table, "").await.ok();
    assert_eq!(
        table["rows"][1]["cells"],
        json!(["etcd-0", "Healthy", "ok", ""])
    );
    let missing = admin.get(&format!("{path}/nobody")).await.refused(404);
    assert_eq!(
        missing.body["message"],
        "componentstatus \"nobody\" not found"
    );
    admin.get(&format!("{path}?watch=1")).await.refused(405);
    admin.post(path, json!({})).await.refused(405);
    server.shut_down();
}
