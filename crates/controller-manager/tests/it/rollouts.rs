//! Deployments from the first pod to the last.

use serde_json::{Value, json};

use crate::cluster::Cluster;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn deployment(replicas: i32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
    })
}

/// Runs every pod that does not run yet, until the deployment says that it is complete.
async fn roll(cluster: &Cluster, replicas: i64) {
    cluster
        .until("a complete rollout", async || {
            for pod in cluster.items(PODS).await {
                let meta = &pod["metadata"];
                if pod["status"]["phase"] != "Running" && meta["deletionTimestamp"].is_null() {
                    let name = meta["name"].as_str().expect("a name");
                    cluster.run_pod("default", name, "10.244.0.9").await;
                }
            }
            let found = cluster.get(&format!("{DEPLOYMENTS}/web")).await?;
            let status = &found["status"];
            let complete = status["updatedReplicas"] == replicas
                && status["replicas"] == replicas
                && status["availableReplicas"] == replicas
                && status["observedGeneration"] == found["metadata"]["generation"];
            complete.then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_rolls_out_updates_scales_and_goes() {
    let cluster = Cluster::start().await;
    cluster.create(DEPLOYMENTS, deployment(3, "v1")).await;
    roll(&cluster, 3).await;
    let path = format!("{DEPLOYMENTS}/web");
    let image =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "v2"}]}}}});
    cluster.merge(&path, image).await;
    roll(&cluster, 3).await;
    let found = cluster.get(&path).await.expect("there");
    assert_eq!(
        found["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
        "2"
    );
    let sets = cluster.items(SETS).await;
    assert_eq!(sets.len(), 2, "the new one and the history");
    cluster.merge(&path, json!({"spec": {"replicas": 5}})).await;
    roll(&cluster, 5).await;

    let events = cluster.items("/api/v1/namespaces/default/events").await;
    let messages: Vec<&str> = events
        .iter()
        .filter_map(|e| e["message"].as_str())
        .collect();
    let told = |text: &str| messages.iter().any(|m| m.starts_with(text));
    assert!(told("Scaled up replica set web-"), "{messages:?}");
    assert!(told("Created pod: web-"), "{messages:?}");

    cluster.delete(&path, "Foreground").await;
    cluster
        .until("everything to be gone", async || {
            let gone = cluster.get(&path).await.is_none()
                && cluster.items(SETS).await.is_empty()
                && cluster
                    .items(PODS)
                    .await
                    .iter()
                    .all(|p| p["metadata"]["deletionTimestamp"].is_string());
            gone.then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphaned_pods_stay_and_are_adopted_again() {
    let cluster = Cluster::start().await;
    cluster.create(DEPLOYMENTS, deployment(2, "v1")).await;
    roll(&cluster, 2).await;
    let uids = async || {
        let pods = cluster.items(PODS).await;
        let mut uids: Vec<String> = pods
            .iter()
            .map(|p| p["metadata"]["uid"].to_string())
            .collect();
        uids.sort();
        uids
    };
    let before = uids().await;
    cluster
        .delete(&format!("{DEPLOYMENTS}/web"), "Orphan")
        .await;
    cluster
        .until("an orphaned replica set", async || {
            let gone = cluster.get(&format!("{DEPLOYMENTS}/web")).await.is_none();
            let sets = cluster.items(SETS).await;
            let owner = |s: &Value| {
                s["metadata"]["ownerReferences"]
                    .as_array()
                    .is_some_and(|o| !o.is_empty())
            };
            (gone && sets.len() == 1 && !sets.iter().any(owner)).then_some(())
        })
        .await;
    cluster.create(DEPLOYMENTS, deployment(2, "v1")).await;
    roll(&cluster, 2).await;
    assert_eq!(before, uids().await);
    assert_eq!(cluster.items(SETS).await.len(), 1);
}

/// Controllers that end in the middle leave nothing behind that their successors could not finish.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn controllers_may_end_at_any_time() {
    let mut cluster = Cluster::start().await;
    cluster.create(DEPLOYMENTS, deployment(40, "v1")).await;
    for least in [1, 5, 20] {
        cluster
            .until("some pods", async || {
                (cluster.items(PODS).await.len() >= least).then_some(())
            })
            .await;
        cluster.restart_controllers().await;
    }
    roll(&cluster, 40).await;
    assert_eq!(cluster.items(PODS).await.len(), 40);
    assert_eq!(cluster.items(SETS).await.len(), 1);
}
