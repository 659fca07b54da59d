//! Tables and laws for quotas.

use std::sync::Arc;

use api::quota::Item;
use control::{Change, Key, Resource, Target};
use expect_test::expect;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use serde_json::{Value, json};
use testkit::World;

use super::{ResourceQuotaController, observe};
use crate::harness::check_world;

fn world(used: Option<Value>) -> World {
    let mut world = World::empty();
    let hard = json!({"pods": "5", "requests.cpu": "2", "services.nodeports": "1", "secrets": "9",
        "count/deployments.apps": "2"});
    let mut quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "team", "namespace": "default"}, "spec": {"hard": hard},
    });
    if let Some(used) = used {
        quota["status"] = json!({"hard": hard, "used": used});
    }
    world.put(quota);
    for (name, phase) in [("a", "Running"), ("b", "Pending"), ("c", "Succeeded")] {
        world.put(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "250m"}}}]},
            "status": {"phase": phase},
        }));
    }
    world.put(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"},
    }));
    world.put(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "other"},
    }));
    world
}

#[test]
fn what_is_there_is_counted() {
    check_world(
        &ResourceQuotaController,
        &world(None),
        "default/team",
        &expect![[r#"
            because uses count/deployments.apps=0, pods=2, requests.cpu=500m, secrets=1, services.nodeports=0
            status resourcequotas default/team: {"hard":{"count/deployments.apps":"2","pods":"5","requests.cpu":"2","secrets":"9","services.nodeports":"1"},"used":{"count/deployments.apps":"0","pods":"2","requests.cpu":"500m","secrets":"1","services.nodeports":"0"}}
        "#]],
    );
}

#[test]
fn less_is_believed_after_a_moment_more_at_once() {
    let used = json!({"pods": "3", "requests.cpu": "100m", "services.nodeports": "0", "secrets": "1", "count/deployments.apps": "0"});
    let mut world = world(Some(used));
    check_world(
        &ResourceQuotaController,
        &world,
        "default/team",
        &expect![[r#"
            because uses count/deployments.apps=0, pods=2, requests.cpu=500m, secrets=1, services.nodeports=0, unless something is about to appear
            status resourcequotas default/team: {"hard":{"count/deployments.apps":"2","pods":"5","requests.cpu":"2","secrets":"9","services.nodeports":"1"},"used":{"count/deployments.apps":"0","pods":"3","requests.cpu":"500m","secrets":"1","services.nodeports":"0"}}
            again after 500ms
        "#]],
    );
    let plan = world
        .plan(&ResourceQuotaController, &Key::new("default", "team"))
        .unwrap();
    world.since = plan.since;
    world.now += plan.requeue_after.unwrap();
    check_world(
        &ResourceQuotaController,
        &world,
        "default/team",
        &expect![[r#"
            because uses count/deployments.apps=0, pods=2, requests.cpu=500m, secrets=1, services.nodeports=0
            status resourcequotas default/team: {"hard":{"count/deployments.apps":"2","pods":"5","requests.cpu":"2","secrets":"9","services.nodeports":"1"},"used":{"count/deployments.apps":"0","pods":"2","requests.cpu":"500m","secrets":"1","services.nodeports":"0"}}
        "#]],
    );
}

#[test]
fn a_pod_that_gets_a_deadline_wakes_the_quota_it_leaves_and_the_one_it_enters() {
    let mut world = World::empty();
    for (name, scopes) in [
        ("all", json!([])),
        (
            "ending",
            json!([{"scopeName": "Terminating", "operator": "Exists"}]),
        ),
        (
            "lasting",
            json!([{"scopeName": "NotTerminating", "operator": "Exists"}]),
        ),
    ] {
        world.put(json!({
            "apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"hard": {"pods": "5"}, "scopeSelector": {"matchExpressions": scopes}},
        }));
    }
    let pod = |deadline: Option<i64>| {
        let pod = json!({
            "metadata": {"name": "a", "namespace": "default"},
            "spec": {"containers": [{"name": "c"}], "activeDeadlineSeconds": deadline},
        });
        Some(Arc::new(serde_json::from_value::<Pod>(pod).unwrap()))
    };
    let caches = world.caches::<ResourceQuotaController>();
    let woken = |old: Option<i64>, new: Option<i64>| {
        let (old, new) = (pod(old), pod(new));
        let keys = observe::quotas_of(&Change { old, new }, &caches, "pods", |pod| {
            Item::Pod(Box::new(pod.clone()))
        });
        keys.into_iter().map(|key| key.name).collect::<Vec<_>>()
    };
    assert_eq!(woken(None, Some(60)), ["ending", "lasting"]);
    assert_eq!(woken(Some(60), Some(30)), [""; 0]);
}

#[test]
fn laws_hold() {
    let more = json!({"pods": "4", "requests.cpu": "0", "services.nodeports": "0", "secrets": "2", "count/deployments.apps": "0"});
    for used in [None, Some(more), Some(json!({}))] {
        let root = Target {
            resource: Resource::of::<ResourceQuota>(),
            key: Key::new("default", "team"),
        };
        testkit::laws::hold(&ResourceQuotaController, &world(used), &root.key, &root);
    }
}
