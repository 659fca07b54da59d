//! Addresses and ports of services, and the service of the server itself.

use serde_json::{Value, json};

use crate::harness::{Cluster, config};

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, spec: Value) -> Value {
    let mut service = json!({
        "metadata": {"name": name}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]},
    });
    machinery::patch::merge::apply(&mut service["spec"], &spec);
    service
}

#[tokio::test]
async fn addresses_and_ports_are_given_out_once() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let own = admin.get(&format!("{SERVICES}/kubernetes")).await.ok();
    assert_eq!(own["spec"]["clusterIP"], "10.96.0.1");
    let made = admin
        .post(SERVICES, service("a", json!({"type": "NodePort"})))
        .await
        .ok();
    let (ip, port) = (
        &made["spec"]["clusterIP"],
        &made["spec"]["ports"][0]["nodePort"],
    );
    assert!(
        ip.as_str().is_some_and(|ip| ip.starts_with("10.96.")),
        "{ip}"
    );
    assert!(
        port.as_u64().is_some_and(|p| (30000..=32767).contains(&p)),
        "{port}"
    );

    let taken = admin
        .post(SERVICES, service("b", json!({"clusterIP": ip})))
        .await
        .refused(422);
    let wanted = format!(
        "Service \"b\" is invalid: spec.clusterIPs: Invalid value: [{ip}]: failed to allocate IP {}: provided IP is \
         already allocated",
        ip.as_str().unwrap_or("")
    );
    assert_eq!(taken.message(), wanted);
    let wish = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    let taken = admin
        .post(SERVICES, service("b", wish.clone()))
        .await
        .refused(422);
    assert!(
        taken
            .message()
            .ends_with("provided port is already allocated"),
        "{}",
        taken.message()
    );
    let outside = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]});
    let outside = admin
        .post(SERVICES, service("b", outside))
        .await
        .refused(422);
    assert!(
        outside
            .message()
            .ends_with("The range of valid ports is 30000-32767"),
        "{}",
        outside.message()
    );

    admin.delete(&format!("{SERVICES}/a")).await.ok();
    admin.post(SERVICES, service("b", wish)).await.ok();
}

#[tokio::test]
async fn the_way_to_the_server_is_kept() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let mut events = admin.watch(&format!("{SERVICES}?watch=1")).await;
    assert_eq!(events.next_name().await, "ADDED kubernetes");
    admin.delete(&format!("{SERVICES}/kubernetes")).await.ok();
    assert_eq!(events.next_name().await, "DELETED kubernetes");
    let back = events.next().await.expect("an event");
    assert_eq!(back["object"]["spec"]["clusterIP"], "10.96.0.1");
    let path = "/api/v1/namespaces/default/endpoints";
    let mut events = admin.watch(&format!("{path}?watch=1")).await;
    assert_eq!(events.next_name().await, "ADDED kubernetes");
    let elsewhere =
        json!({"subsets": [{"addresses": [{"ip": "192.0.2.66"}], "ports": [{"port": 1}]}]});
    admin
        .patch(&format!("{path}/kubernetes"), "merge", elsewhere)
        .await
        .ok();
    assert_eq!(events.next_name().await, "MODIFIED kubernetes");
    let back = events.next().await.expect("an event");
    assert_eq!(
        back["object"]["subsets"][0]["addresses"][0]["ip"],
        "192.0.2.1"
    );
}

#[tokio::test]
async fn a_change_of_type_gives_ports_back() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let made = admin
        .post(SERVICES, service("a", json!({"type": "NodePort"})))
        .await
        .ok();
    let port = &made["spec"]["ports"][0]["nodePort"];
    let plain = json!({"spec": {"type": "ClusterIP"}});
    let changed = admin
        .patch(&format!("{SERVICES}/a"), "merge", plain)
        .await
        .ok();
    assert_eq!(changed["spec"]["clusterIP"], made["spec"]["clusterIP"]);
    assert!(changed["spec"]["ports"][0].get("nodePort").is_none());
    let wish = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    admin.post(SERVICES, service("b", wish)).await.ok();
}

#[tokio::test]
async fn the_books_survive_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = apiserver::Server::new(config(dir.path()))
        .await
        .expect("a server");
    let admin = || access::User::new("admin", &["system:masters"]);
    let client = crate::harness::Client::of(&first, admin());
    let made = client.post(SERVICES, service("a", json!({}))).await.ok();
    first.shut_down();
    drop((client, first));
    let second = restarted(dir.path()).await;
    let client = crate::harness::Client::of(&second, admin());
    let wish = json!({"clusterIP": made["spec"]["clusterIP"]});
    client.post(SERVICES, service("b", wish)).await.refused(422);
    second.shut_down();
}

/// The store is let go by the last task that follows it.
async fn restarted(dir: &std::path::Path) -> std::sync::Arc<apiserver::Server> {
    for _ in 0..1000 {
        if store::embedded::Engine::open(dir, store::embedded::Options::default()).is_ok() {
            break;
        }
        tokio::task::yield_now().await;
    }
    apiserver::Server::new(config(dir)).await.expect("a server")
}
