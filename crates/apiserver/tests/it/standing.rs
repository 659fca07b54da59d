//! Objects that follow from others: flow schemas and what they refer to, APIServices of what is served.

use serde_json::{Value, json};

use crate::harness::Cluster;

const FLOW: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";
const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

fn dangling(schema: &Value) -> Value {
    let conditions = schema["status"]["conditions"].as_array().cloned();
    let mut found = conditions.unwrap_or_default().into_iter();
    found
        .find(|c| c["type"] == "Dangling")
        .map(|c| c["status"].clone())
        .unwrap_or_default()
}

#[tokio::test]
async fn a_cluster_has_the_flow_schemas_of_every_cluster_and_keeps_them() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let all = admin.get(&format!("{FLOW}/flowschemas")).await.ok();
    assert_eq!(all["items"].as_array().map(Vec::len), Some(11));
    let levels = format!("{FLOW}/prioritylevelconfigurations");
    let all = admin.get(&levels).await.ok();
    assert_eq!(all["items"].as_array().map(Vec::len), Some(8));
    let path = format!("{FLOW}/flowschemas/catch-all");
    while dangling(&admin.get(&path).await.ok()) != "False" {
        tokio::task::yield_now().await;
    }
    admin.delete(&path).await.ok();
    // Its status is told a moment after it is there again, and changes its version.
    while dangling(&admin.get(&path).await.body) != "False" {
        tokio::task::yield_now().await;
    }
    let mut changed = admin.get(&path).await.ok();
    changed["spec"]["matchingPrecedence"] = json!(7);
    let refused = admin.put(&path, changed).await.refused(422);
    assert!(
        refused
            .message()
            .contains("spec of 'catch-all' must equal the fixed value")
    );
    let own = json!({"metadata": {"name": "own"},
        "spec": {"priorityLevelConfiguration": {"name": "nowhere"}}});
    admin.post(&format!("{FLOW}/flowschemas"), own).await.ok();
    while dangling(&admin.get(&format!("{FLOW}/flowschemas/own")).await.ok()) != "True" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_served_here_has_an_apiservice() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let apps = admin.get(&format!("{SERVICES}/v1.apps")).await.ok();
    assert_eq!(
        apps["spec"],
        json!({"group": "apps", "version": "v1", "groupPriorityMinimum": 17800, "versionPriority": 15})
    );
    assert_eq!(apps["status"]["conditions"][0]["reason"], "Local");
    admin.get(&format!("{SERVICES}/v1.")).await.ok();
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = json!({"metadata": {"name": "things.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced",
        "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
        "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object"}}}],
    }});
    admin.post(crds, definition).await.ok();
    let path = format!("{SERVICES}/v1.example.com");
    while admin.get(&path).await.code != 200 {
        tokio::task::yield_now().await;
    }
    let own = admin.get(&path).await.ok();
    assert_eq!(own["spec"]["groupPriorityMinimum"], 1000);
    admin
        .delete(&format!("{crds}/things.example.com"))
        .await
        .ok();
    while admin.get(&path).await.code != 404 {
        tokio::task::yield_now().await;
    }
    let wrong = json!({"metadata": {"name": "other"}, "spec": {
        "group": "example.com", "version": "v2", "groupPriorityMinimum": 0, "versionPriority": 1}});
    let refused = admin.post(SERVICES, wrong).await.refused(422);
    assert!(
        refused
            .message()
            .contains("must be `spec.version+\".\"+spec.group`"),
        "{}",
        refused.text
    );
}
