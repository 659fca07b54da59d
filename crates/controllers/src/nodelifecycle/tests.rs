//! A node from its registration over its silence to its return.

use std::time::Duration;

use control::{Caches, Key, Look, Names, Plan, Reconciler, Wake};
use expect_test::{Expect, expect};
use jiff::Timestamp;
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
            key: &Key::cluster("n1"),
            now: world.now + silence,
            names: Names::new(1),
            answers: &answers,
            failure: None,
            since: Some(Timestamp::UNIX_EPOCH),
        };
        let observed = NodeLifecycleController.observe(&look).expect("there");
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
        .plan(&NodeLifecycleController, &Key::cluster("n2"))
        .expect("a plan");
    expect![[r#"
        because it is ready
        event Normal RegisteredNode: Node n2 event: Registered Node n2 in Controller
        again after 50.01s
    "#]]
    .assert_eq(&testkit::show(&plan));
}
