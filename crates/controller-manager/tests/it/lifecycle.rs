//! Namespaces and nodes come and go.

use serde_json::json;

use crate::cluster::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_furnished_and_ends_with_all_its_content() {
    let cluster = Cluster::start().await;
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    cluster.create("/api/v1/namespaces", body).await;
    let root = "/api/v1/namespaces/team";
    cluster
        .until("account and certificates", async || {
            cluster
                .get(&format!("{root}/serviceaccounts/default"))
                .await?;
            let map = cluster
                .get(&format!("{root}/configmaps/kube-root-ca.crt"))
                .await?;
            (map["data"]["ca.crt"] == "PEM").then_some(())
        })
        .await;
    cluster
        .create(
            &format!("{root}/secrets"),
            json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
            }),
        )
        .await;
    cluster
        .create(
            &format!("{root}/replicationcontrollers"),
            json!({
                "apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "rc"},
                "spec": {"replicas": 2, "selector": {"app": "x"}, "template": {
                    "metadata": {"labels": {"app": "x"}},
                    "spec": {"containers": [{"name": "c", "image": "i"}]},
                }},
            }),
        )
        .await;
    cluster
        .until("two pods", async || {
            (cluster.items(&format!("{root}/pods")).await.len() == 2).then_some(())
        })
        .await;
    cluster.delete(root, "Background").await;
    cluster
        .until("the end of the namespace", async || {
            cluster.get(root).await.is_none().then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_gets_a_network_and_taints() {
    let cluster = Cluster::start().await;
    let body = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    cluster.create("/api/v1/nodes", body).await;
    let status = json!({"status": {"conditions": [
        {"type": "Ready", "status": "False"}, {"type": "DiskPressure", "status": "True"},
    ]}});
    cluster.merge("/api/v1/nodes/n1/status", status).await;
    cluster
        .until("network and taints", async || {
            let node = cluster.get("/api/v1/nodes/n1").await?;
            let taints = node["spec"]["taints"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let has = |key: &str| {
                taints
                    .iter()
                    .any(|t| t["key"] == key && t["effect"] == "NoSchedule")
            };
            let tainted =
                has("node.kubernetes.io/not-ready") && has("node.kubernetes.io/disk-pressure");
            (node["spec"]["podCIDR"] == "10.244.0.0/24" && tainted).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_without_owner_is_collected() {
    let cluster = Cluster::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}});
    let owner = cluster.create(maps, owner).await;
    let child = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": "child",
        "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner",
                             "uid": owner["metadata"]["uid"]}],
    }});
    cluster.create(maps, child.clone()).await;
    cluster.delete(&format!("{maps}/owner"), "Background").await;
    let gone = async || {
        cluster
            .get(&format!("{maps}/child"))
            .await
            .is_none()
            .then_some(())
    };
    cluster.until("the child to go", gone).await;
    // An owner that has never been there is the same.
    cluster.create(maps, child).await;
    cluster.until("the second child to go", gone).await;
}

/// Nothing is decided and nothing is asked while nothing happens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_is_idle() {
    let cluster = Cluster::start().await;
    cluster
        .until("furnished namespaces", async || {
            let accounts = cluster.items("/api/v1/serviceaccounts").await.len();
            let maps = cluster.items("/api/v1/configmaps").await.len();
            (accounts >= 4 && maps >= 4).then_some(())
        })
        .await;
    // What the last creations wake may still be under way; after that a whole second must stay empty.
    let second = std::time::Duration::from_secs(1);
    let mut calm = false;
    for _ in 0..10 {
        let before = cluster.metrics.counts();
        tokio::time::sleep(second).await;
        calm = before == cluster.metrics.counts();
        if calm {
            break;
        }
    }
    assert!(calm, "{:#?}", cluster.metrics.counts());
}
