//! A node from its registration over its silence to its return.

use std::time::Duration;

use control::{Caches, Key, Look, Names, Plan, Reconciler, Wake};
use expect_test::{Expect, expect};
use jiff::Timestamp;
use serde_json::json;
use testkit::World;

use super::NodeLifecycleController;

const READY: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {kubernetes.io/os: linux}}
spec: {taints: [{key: mine, effect: NoSchedule}]}
status: {conditions: [{type: Ready, status: 'True'}, {type: DiskPressure, status: 'True'}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
status: {conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: n1, namespace: kube-node-lease}
---
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: default}
spec: {nodeName: n1, containers: []}
status: {phase: Running, conditions: [{type: Ready, status: 'True'}]}
";

/// The plan some time after everything in the world arrived here.
fn plan_after(world: &World, silence: Duration) -> Plan {
    plan_of("n1", world, silence)
}

fn plan_of(node: &str, world: &World, silence: Duration) -> Plan {
    let mut caches = Caches::new();
    let mut wake = Wake::new(&mut caches, 0);
    NodeLifecycleController::wake(&mut wake);
    wake.finish();
    for (target, object) in &world.objects {
        let store = caches.find(&target.resource).expect("declared");
        let text = object.to_string();
        store
            .apply(&text, world.now, &caches, &mut |_, _| {})
            .expect("readable");
    }
    let look_at = |answers| {
        let look = Look {
            caches: &caches,
            key: &Key::cluster(node),
            now: world.now + silence,
            names: Names::new(1),
            answers: &answers,
            failure: None,
            since: Some(Timestamp::UNIX_EPOCH),
        };
        let observed = NodeLifecycleController::default()
            .observe(&look)
            .expect("there");
        NodeLifecycleController::reconcile(&observed)
    };
    let plan = look_at(control::Answers::new());
    let answers = world.answer(&plan);
    if answers.is_empty() {
        plan
    } else {
        look_at(answers)
    }
}

fn check(world: &World, seconds: u64, expect: &Expect) {
    let plan = plan_after(world, Duration::from_secs(seconds));
    expect.assert_eq(&testkit::show(&plan));
}

#[test]
fn conditions_become_taints_and_old_labels_follow() {
    check(
        &World::from_yaml(READY),
        0,
        &expect![[r#"
        because it is ready
        patch nodes n1: {"metadata":{"labels":{"beta.kubernetes.io/os":"linux"},"resourceVersion":"101","uid":"n1-uid"},"spec":{"taints":[{"effect":"NoSchedule","key":"mine"},{"effect":"NoSchedule","key":"node.kubernetes.io/disk-pressure","timeAdded":"2026-01-01T00:00:00Z"}]}}
        again after 50.01s
    "#]],
    );
}

#[test]
fn a_silent_node_is_unknown_then_tainted_and_its_pods_are_not_ready() {
    let mut world = World::from_yaml(READY);
    let plan = plan_after(&world, Duration::ZERO);
    world.apply_plan(&plan);
    check(
        &world,
        49,
        &expect![[r#"
        because it is ready
        again after 1.01s
    "#]],
    );
    let plan = plan_after(&world, Duration::from_secs(51));
    expect![[r#"
        because it has fallen silent
        event Normal NodeNotReady: Node n1 status is now: NodeNotReady
        status nodes n1: {"conditions":[{"lastTransitionTime":"2026-01-01T00:00:51Z","message":"Kubelet stopped posting node status.","reason":"NodeStatusUnknown","status":"Unknown","type":"Ready"},{"lastTransitionTime":"2026-01-01T00:00:51Z","message":"Kubelet stopped posting node status.","reason":"NodeStatusUnknown","status":"Unknown","type":"DiskPressure"},{"lastHeartbeatTime":"2025-12-31T00:00:00Z","lastTransitionTime":"2026-01-01T00:00:51Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"MemoryPressure"},{"lastHeartbeatTime":"2025-12-31T00:00:00Z","lastTransitionTime":"2026-01-01T00:00:51Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"PIDPressure"}]}
    "#]].assert_eq(&testkit::show(&plan));
    world.apply_plan(&plan);
    check(
        &world,
        51,
        &expect![[r#"
        because it is silent
        patch nodes n1: {"metadata":{"resourceVersion":"106","uid":"n1-uid"},"spec":{"taints":[{"effect":"NoSchedule","key":"mine"},{"effect":"NoSchedule","key":"node.kubernetes.io/unreachable","timeAdded":"2026-01-01T00:00:51Z"},{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","timeAdded":"2026-01-01T00:00:51Z"}]}}
        patch/status pods default/p: {"metadata":{"uid":"p-uid"},"status":{"conditions":[{"lastTransitionTime":"2026-01-01T00:00:51Z","status":"False","type":"Ready"}]}}
        event Warning NodeNotReady: Node is not ready
    "#]],
    );
}

#[test]
fn when_no_node_is_ready_nobody_is_driven_out() {
    let yaml = READY.replace(
        "{type: Ready, status: 'True'}]",
        "{type: Ready, status: Unknown}]",
    );
    let mut world = World::from_yaml(&yaml);
    for object in world.objects.values_mut() {
        if object["metadata"]["name"] == "n1" && object["kind"] == "Node" {
            object["status"]["conditions"][0]["status"] = "Unknown".into();
        }
    }
    let plan = plan_after(&world, Duration::from_secs(10));
    let text = testkit::show(&plan);
    assert!(!text.contains("NoExecute"), "{text}");
}

#[test]
fn registration_is_told_once() {
    let world = World::from_yaml(READY);
    let plan = world
        .plan(&NodeLifecycleController::default(), &Key::cluster("n2"))
        .expect("a plan");
    expect![[r#"
        because it is ready
        event Normal RegisteredNode: Node n2 event: Registered Node n2 in Controller
        again after 50.01s
    "#]]
    .assert_eq(&testkit::show(&plan));
}

/// Nodes of one zone: so many ready, and these silent; the others have been so for longer.
fn zone(ready: usize, silent: &[&str]) -> World {
    let mut world = World::empty();
    let mut node = |name: &str, status: &str, since: usize| {
        let conditions = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"].map(|kind| {
            json!({"type": kind, "status": status,
                   "lastTransitionTime": format!("2025-12-31T23:{since:02}:00Z")})
        });
        world.put(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
            "status": {"conditions": conditions},
        }));
    };
    for i in 0..ready {
        node(&format!("ready{i}"), "True", 0);
    }
    for (i, name) in silent.iter().enumerate() {
        node(name, "Unknown", i + 1);
    }
    world
}

/// Who is tainted at this moment, and when a node asks to be looked at again for its turn.
fn turn(world: &World, seconds: u64, nodes: &[&str]) -> String {
    let of = |node: &&str| {
        let plan = plan_of(node, world, Duration::from_secs(seconds));
        let text = testkit::show(&plan);
        let turn = plan.requeue_after.filter(|_| seconds > 60);
        match (text.contains("NoExecute"), turn) {
            (true, _) => format!("{node} now"),
            (false, Some(after)) => format!("{node} after {after:?}"),
            (false, None) => format!("{node} not yet"),
        }
    };
    nodes.iter().map(of).collect::<Vec<_>>().join(", ")
}

#[test]
fn nodes_of_a_zone_are_drained_one_after_the_other() {
    let nodes = ["a", "b"];
    let mut world = zone(3, &nodes);
    // One that has never told its status holds up nobody.
    world.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "0"}}));
    assert_eq!(turn(&world, 100, &nodes), "a now, b not yet");
    let plan = plan_of("a", &world, Duration::from_secs(100));
    world.apply_plan(&plan);
    assert_eq!(turn(&world, 104, &nodes[1..]), "b after 6s");
    assert_eq!(turn(&world, 110, &nodes[1..]), "b now");
}

#[test]
fn a_zone_that_is_mostly_down_is_drained_slowly_if_large_and_not_at_all_if_small() {
    let silent: Vec<String> = (0..40).map(|i| format!("s{i:02}")).collect();
    let silent: Vec<&str> = silent.iter().map(String::as_str).collect();
    assert_eq!(
        turn(&zone(10, &silent), 100, &silent[..1]),
        "s00 not yet",
        "fifty"
    );
    let mut large = zone(11, &silent);
    assert_eq!(turn(&large, 100, &silent[..1]), "s00 now", "fifty-one");
    let plan = plan_of("s00", &large, Duration::from_secs(100));
    large.apply_plan(&plan);
    assert_eq!(turn(&large, 110, &silent[1..2]), "s01 after 90s");
    assert_eq!(
        turn(&zone(1, &silent[..2]), 100, &silent[..1]),
        "s00 now",
        "two are few"
    );
    assert_eq!(
        turn(&zone(2, &silent[..3]), 100, &silent[..1]),
        "s00 not yet",
        "three of five"
    );
}

#[test]
fn a_zone_that_is_down_as_a_whole_is_drained_if_there_are_others() {
    let mut world = zone(0, &["a", "b", "c"]);
    assert_eq!(
        turn(&world, 100, &["a"]),
        "a not yet",
        "nothing else is left"
    );
    world.put(json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "far", "labels": {"topology.kubernetes.io/zone": "far"}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }));
    assert_eq!(turn(&world, 100, &["a", "b"]), "a now, b not yet");
}

#[test]
fn a_node_that_was_known_is_missed() {
    let plan = NodeLifecycleController::reconcile(&super::Observed::Gone("n1".to_owned()));
    expect![[r#"
        because the node is gone
        event Normal RemovingNode: Node n1 event: Removing Node n1 from Controller
    "#]]
    .assert_eq(&testkit::show(&plan));
}
