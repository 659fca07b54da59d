//! Tables for taint evictions.

use control::Key;
use expect_test::expect;
use serde_json::json;
use testkit::World;

use super::TaintEvictionController;
use crate::harness::check_world;

fn world(tolerations: serde_json::Value) -> World {
    let mut world = World::from_yaml(
        "
apiVersion: v1
kind: Node
metadata: {name: n1}
spec:
  taints:
  - {key: node.kubernetes.io/unreachable, effect: NoExecute, timeAdded: '2025-12-31T23:58:00Z'}
  - {key: node.kubernetes.io/unreachable, effect: NoSchedule}
",
    );
    world.put(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "default"},
        "spec": {"nodeName": "n1", "containers": [], "tolerations": tolerations},
        "status": {"phase": "Running"},
    }));
    world
}

#[test]
fn a_pod_without_toleration_goes_at_once() {
    check_world(
        &TaintEvictionController,
        &world(json!([])),
        "default/a",
        &expect![[r#"
            because it does not tolerate the taints of its node any longer
            event Normal TaintManagerEviction: Marking for deletion Pod default/a
            patch/status pods default/a: {"metadata":{"uid":"a-uid"},"status":{"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"Taint manager: deleting due to NoExecute taint","reason":"DeletionByTaintManager","status":"True","type":"DisruptionTarget"}]}}
            delete pods default/a
        "#]],
    );
}

#[test]
fn a_limited_toleration_is_granted_in_full() {
    let tolerations = json!([{"key": "node.kubernetes.io/unreachable", "operator": "Exists",
                              "effect": "NoExecute", "tolerationSeconds": 300}]);
    let mut world = world(tolerations);
    check_world(
        &TaintEvictionController,
        &world,
        "default/a",
        &expect![[r#"
            because it tolerates the taints for 300s
            again after 180s
        "#]],
    );
    let key = Key::new("default", "a");
    let plan = world.plan(&TaintEvictionController, &key).expect("a plan");
    world.since = plan.since;
    world.now += plan.requeue_after.expect("a limit");
    let plan = world.plan(&TaintEvictionController, &key).expect("a plan");
    assert_eq!(plan.actions.len(), 3, "{plan:?}");
    for object in world.objects.values_mut() {
        object["spec"]["taints"] = json!([]);
    }
    check_world(
        &TaintEvictionController,
        &world,
        "default/a",
        &expect![[r#"
            because it tolerates all taints of its node
            event Normal TaintManagerEviction: Cancelling deletion of Pod default/a
        "#]],
    );
}

#[test]
fn an_unlimited_toleration_lasts() {
    let all = json!([{"operator": "Exists"}]);
    check_world(
        &TaintEvictionController,
        &world(all),
        "default/a",
        &expect![[r#"
            because it tolerates all taints of its node
        "#]],
    );
}
