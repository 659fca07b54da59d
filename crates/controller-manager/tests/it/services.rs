//! Services find their pods.

use serde_json::json;

use crate::cluster::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn end_points_follow_pods() {
    let cluster = Cluster::start().await;
    cluster
        .create(
            "/api/v1/nodes",
            json!({"apiVersion": "v1", "kind": "Node", "metadata":
            {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z1"}}}),
        )
        .await;
    cluster
        .create(
            "/api/v1/namespaces/default/services",
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
                "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]},
            }),
        )
        .await;
    let pods = "/api/v1/namespaces/default/pods";
    cluster
        .create(
            pods,
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "a", "labels": {"app": "web"}},
                "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i",
                    "ports": [{"name": "http", "containerPort": 8080}]}]},
            }),
        )
        .await;
    cluster.run_pod("default", "a", "10.244.0.7").await;
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices\
                  ?labelSelector=kubernetes.io/service-name%3Dweb";
    let slice = cluster
        .until("the pod in a slice", async || {
            let slices = cluster.items(slices).await;
            slices
                .into_iter()
                .find(|s| s["endpoints"][0]["conditions"]["ready"] == true)
        })
        .await;
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.244.0.7"]));
    assert_eq!(slice["endpoints"][0]["zone"], "z1");
    assert_eq!(slice["ports"][0]["port"], 8080);
    let endpoints = cluster
        .until("the pod in the endpoints", async || {
            let found = cluster
                .get("/api/v1/namespaces/default/endpoints/web")
                .await?;
            found["subsets"][0]["addresses"].is_array().then_some(found)
        })
        .await;
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "10.244.0.7");
    cluster.delete(&format!("{pods}/a"), "Background").await;
    cluster
        .until("no ready end point", async || {
            let slices = cluster.items(slices).await;
            let ready = |s: &serde_json::Value| s["endpoints"][0]["conditions"]["ready"] == true;
            (!slices.iter().any(ready)).then_some(())
        })
        .await;
    cluster
        .delete("/api/v1/namespaces/default/services/web", "Background")
        .await;
    cluster
        .until("no slices and no endpoints", async || {
            let endpoints = cluster
                .get("/api/v1/namespaces/default/endpoints/web")
                .await;
            (endpoints.is_none() && cluster.items(slices).await.is_empty()).then_some(())
        })
        .await;
}
