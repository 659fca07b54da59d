//! Tables for the removal of pods.

use control::Key;
use expect_test::expect;
use serde_json::{Value, json};
use testkit::World;

use super::PodGarbageCollector;
use crate::harness::check_world;

const COLLECTOR: PodGarbageCollector = PodGarbageCollector { terminated_pods: 2 };

fn pod(name: &str, node: &str, phase: &str, leaving: bool) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": []}, "status": {"phase": phase},
    });
    if !node.is_empty() {
        pod["spec"]["nodeName"] = node.into();
    }
    if leaving {
        pod["metadata"]["deletionTimestamp"] = "2025-12-31T23:00:00Z".into();
    }
    pod
}

#[test]
fn a_pod_of_a_missing_node_goes_after_the_quarantine_and_a_live_look() {
    let mut world = World::empty();
    world.put(pod("a", "gone", "Running", false));
    check_world(
        &COLLECTOR,
        &world,
        "default/a",
        &expect![[r#"
        because its node is missing, which may pass
        again after 40s
    "#]],
    );
    let plan = world
        .plan(&COLLECTOR, &Key::new("default", "a"))
        .expect("a plan");
    world.since = plan.since;
    world.now += plan.requeue_after.expect("a quarantine");
    check_world(
        &COLLECTOR,
        &world,
        "default/a",
        &expect![[r#"
            because its node has been missing for long, the API is asked
            confirm nodes gone
            because its node no longer exists
            patch/status pods default/a: {"metadata":{"uid":"a-uid"},"status":{"conditions":[{"lastTransitionTime":"2026-01-01T00:00:40Z","message":"PodGC: node no longer exists","reason":"DeletionByPodGC","status":"True","type":"DisruptionTarget"}],"phase":"Failed"}}
            delete pods default/a (grace 0s)
        "#]],
    );
}

#[test]
fn a_leaving_pod_that_was_never_bound_goes_at_once() {
    let mut world = World::empty();
    world.put(pod("a", "", "Pending", true));
    check_world(
        &COLLECTOR,
        &world,
        "default/a",
        &expect![[r#"
        because it is leaving and was never bound to a node
        patch/status pods default/a: {"metadata":{"uid":"a-uid"},"status":{"phase":"Failed"}}
        delete pods default/a (grace 0s)
    "#]],
    );
}

#[test]
fn a_leaving_pod_of_a_node_out_of_service_goes_at_once() {
    let mut world = World::from_yaml(
        "
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {taints: [{key: node.kubernetes.io/out-of-service, effect: NoExecute}]}
status: {conditions: [{type: Ready, status: Unknown}]}
",
    );
    world.put(pod("a", "n1", "Running", true));
    world.put(pod("b", "n1", "Running", false));
    check_world(
        &COLLECTOR,
        &world,
        "default/a",
        &expect![[r#"
        because it is leaving and its node is out of service
        patch/status pods default/a: {"metadata":{"uid":"a-uid"},"status":{"phase":"Failed"}}
        delete pods default/a (grace 0s)
    "#]],
    );
    check_world(
        &COLLECTOR,
        &world,
        "default/b",
        &expect![[r#"
        because its node is there
    "#]],
    );
}

#[test]
fn the_oldest_of_too_many_ended_pods_go() {
    let mut world = World::empty();
    for (name, phase, created) in [
        ("a", "Succeeded", "2025-01-03T00:00:00Z"),
        ("b", "Failed", "2025-01-01T00:00:00Z"),
        ("c", "Succeeded", "2025-01-02T00:00:00Z"),
        ("d", "Running", "2024-01-01T00:00:00Z"),
    ] {
        let mut pod = pod(name, "n1", phase, false);
        pod["metadata"]["creationTimestamp"] = created.into();
        world.put(pod);
    }
    check_world(
        &COLLECTOR,
        &world,
        "/",
        &expect![[r#"
        because 3 pods have ended, 2 are kept
        delete pods default/b (grace 0s)
    "#]],
    );
}
