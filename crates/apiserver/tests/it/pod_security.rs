//! What a namespace asks of its pods is refused, warned of and told over the API.

use serde_json::{Value, json};

use crate::harness::Cluster;

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "strict"},
        "spec": {"containers": [{"name": "c", "image": "i", "securityContext": {"privileged": true}}]}})
}

#[tokio::test]
async fn a_level_counts_from_its_label_on() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let namespace = json!({"metadata": {"name": "strict"}});
    admin.post("/api/v1/namespaces", namespace).await.ok();
    let account = json!({"metadata": {"name": "default", "namespace": "strict"}});
    let accounts = "/api/v1/namespaces/strict/serviceaccounts";
    admin.post(accounts, account).await.ok();
    let pods = "/api/v1/namespaces/strict/pods";
    admin.post(pods, pod("first")).await.ok();
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    let labelled = admin
        .patch("/api/v1/namespaces/strict", "merge", label)
        .await;
    let warnings = labelled.headers.get_all("warning").iter();
    let warnings: Vec<&str> = warnings.filter_map(|value| value.to_str().ok()).collect();
    assert_eq!(
        warnings,
        [
            r#"299 - "existing pods in namespace \"strict\" violate the new PodSecurity enforce level \"baseline:latest\"""#,
            r#"299 - "first: privileged""#,
        ]
    );
    let refused = admin.post(pods, pod("second")).await.refused(403);
    assert_eq!(
        refused.message(),
        r#"pods "second" is forbidden: violates PodSecurity "baseline:latest": privileged (container "c" must not set securityContext.privileged=true)"#
    );
    let wrong = json!({"metadata": {"labels": {"pod-security.kubernetes.io/warn": "much"}}});
    let refused = admin
        .patch("/api/v1/namespaces/strict", "merge", wrong)
        .await;
    assert_eq!(refused.refused(422).body["details"]["kind"], "Namespace");
}
