//! Tables and laws for quotas.

use control::{Key, Resource, Target};
use expect_test::expect;
use k8s_openapi::api::core::v1::ResourceQuota;
use serde_json::{Value, json};
use testkit::World;

use super::ResourceQuotaController;
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
