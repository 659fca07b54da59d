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

const NETWORKING: &str = "/apis/networking.k8s.io/v1";

fn parent(address: &Value) -> String {
    let parent = &address["spec"]["parentRef"];
    let at = |key: &str| parent[key].as_str().unwrap_or("").to_owned();
    format!("{}/{}/{}", at("resource"), at("namespace"), at("name"))
}

#[tokio::test]
async fn an_address_is_an_object_that_comes_and_goes_with_its_service() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let all = admin.get(&format!("{NETWORKING}/servicecidrs")).await.ok();
    assert_eq!(all["items"][0]["spec"]["cidrs"], json!(["10.96.0.0/16"]));
    assert_eq!(all["items"][0]["status"]["conditions"][0]["status"], "True");
    let own = admin
        .get(&format!("{NETWORKING}/ipaddresses/10.96.0.1"))
        .await
        .ok();
    assert_eq!(parent(&own), "services/default/kubernetes");

    let made = admin.post(SERVICES, service("a", json!({}))).await.ok();
    let ip = made["spec"]["clusterIP"]
        .as_str()
        .expect("an address")
        .to_owned();
    let path = format!("{NETWORKING}/ipaddresses/{ip}");
    let address = admin.get(&path).await.ok();
    assert_eq!(parent(&address), "services/default/a");
    assert_eq!(
        address["metadata"]["labels"],
        json!({"ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"})
    );
    let gone = json!({"spec": {"type": "ExternalName", "externalName": "example.com", "clusterIP": null, "clusterIPs": null}});
    admin
        .patch(&format!("{SERVICES}/a"), "merge", gone)
        .await
        .ok();
    admin.get(&path).await.refused(404);
    let back = json!({"spec": {"type": "ClusterIP", "externalName": null, "clusterIP": ip}});
    admin
        .patch(&format!("{SERVICES}/a"), "merge", back)
        .await
        .ok();
    admin.get(&path).await.ok();
    admin.delete(&format!("{SERVICES}/a")).await.ok();
    admin.get(&path).await.refused(404);
}

#[tokio::test]
async fn addresses_come_from_every_network_that_is_ready() {
    let cluster = Cluster::with(|config| {
        config.service_cidr = "10.96.0.0/30".parse().expect("a range");
    })
    .await;
    let admin = &cluster.admin;
    admin.post(SERVICES, service("a", json!({}))).await.ok();
    let full = admin
        .post(SERVICES, service("b", json!({})))
        .await
        .refused(500);
    assert_eq!(
        full.message(),
        "Internal error occurred: failed to allocate a serviceIP for Service \"b\": range is full"
    );
    let outside = service("b", json!({"clusterIP": "10.97.0.9"}));
    let refused = admin.post(SERVICES, outside.clone()).await.refused(422);
    assert_eq!(
        refused.message(),
        "Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"10.97.0.9\"]: failed to allocate IP 10.97.0.9: \
         the provided network does not match the current range"
    );
    let more = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.97.0.0/24"]}});
    admin
        .post(&format!("{NETWORKING}/servicecidrs"), more)
        .await
        .ok();
    admin.post(SERVICES, outside).await.ok();
    let made = admin.post(SERVICES, service("c", json!({}))).await.ok();
    let ip = made["spec"]["clusterIP"].as_str().expect("an address");
    assert!(ip.starts_with("10.97.0."), "{ip}");
    let other = json!({"metadata": {"name": "10.97.0.77"},
        "spec": {"parentRef": {"group": "example.com", "resource": "gateways", "name": "g"}}});
    admin
        .post(&format!("{NETWORKING}/ipaddresses"), other)
        .await
        .ok();
    let taken = service("d", json!({"clusterIP": "10.97.0.77"}));
    let taken = admin.post(SERVICES, taken).await.refused(422);
    assert!(
        taken
            .message()
            .ends_with("provided IP is already allocated")
    );
    let dry = format!("{SERVICES}?dryRun=All");
    let dry = admin.post(&dry, service("d", json!({}))).await.ok();
    let ip = dry["spec"]["clusterIP"].as_str().expect("an address");
    assert!(["10.96.0.0", "10.97.0.0"].contains(&ip), "{ip}");
}

#[tokio::test]
async fn an_address_that_was_removed_comes_back() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let path = format!("{NETWORKING}/ipaddresses");
    let mut events = admin.watch(&format!("{path}?watch=1")).await;
    assert_eq!(events.next_name().await, "ADDED 10.96.0.1");
    admin.delete(&format!("{path}/10.96.0.1")).await.ok();
    assert_eq!(events.next_name().await, "DELETED 10.96.0.1");
    assert_eq!(events.next_name().await, "ADDED 10.96.0.1");
    let changed = json!({"metadata": {"labels": {"ipaddress.kubernetes.io/ip-family": "IPv6"}}});
    admin
        .patch(&format!("{path}/10.96.0.1"), "merge", changed)
        .await
        .ok();
    assert_eq!(events.next_name().await, "MODIFIED 10.96.0.1");
}

#[tokio::test]
async fn a_cluster_of_before_gets_its_addresses() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = apiserver::Server::new(config(dir.path()))
        .await
        .expect("a server");
    let admin = || access::User::new("admin", &["system:masters"]);
    let client = crate::harness::Client::of(&first, admin());
    let made = client.post(SERVICES, service("a", json!({}))).await.ok();
    first.shut_down();
    drop((client, first));
    let name = made["spec"]["clusterIP"]
        .as_str()
        .expect("an address")
        .to_owned();
    let key = format!("/registry/networking.k8s.io/ipaddresses/{name}");
    {
        let config = settled(dir.path()).await;
        let txn = store::Txn {
            success: vec![store::Op::Delete { key: key.into() }],
            ..store::Txn::default()
        };
        config.store.txn(txn).await.expect("a transaction");
    }
    let second = restarted(dir.path()).await;
    let client = crate::harness::Client::of(&second, admin());
    let path = format!("{NETWORKING}/ipaddresses/{name}");
    assert_eq!(parent(&client.get(&path).await.ok()), "services/default/a");
    second.shut_down();
}

/// The store is let go by the last task that follows it.
async fn settled(dir: &std::path::Path) -> apiserver::Config {
    for _ in 0..1000 {
        if store::embedded::Engine::open(dir, store::embedded::Options::default()).is_ok() {
            break;
        }
        tokio::task::yield_now().await;
    }
    config(dir)
}

async fn restarted(dir: &std::path::Path) -> std::sync::Arc<apiserver::Server> {
    let config = settled(dir).await;
    apiserver::Server::new(config).await.expect("a server")
}
