//! Tables and laws for disruption budgets.

use control::{Key, Resource, Target};
use expect_test::expect;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};
use testkit::World;

use super::{DisruptionController, StaleDisruptions};
use crate::harness::{check, check_world};

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default, uid: web}
spec: {replicas: 4, selector: {}, template: {}}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: web-1
  namespace: default
  uid: web-1
  ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: web, uid: web, controller: true}]
spec: {replicas: 3, selector: {}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web, namespace: default, generation: 2}
spec: {SPEC, selector: {matchLabels: {app: web}}}
";

fn pod(name: &str, owner: Option<&str>, ready: bool) -> Value {
    let owners: Vec<Value> = owner
        .map(|kind| {
            json!({"apiVersion": "apps/v1", "kind": kind, "name": "web-1", "uid": "web-1", "controller": true})
        })
        .into_iter()
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}, "ownerReferences": owners},
        "spec": {"containers": []},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    })
}

fn world(spec: &str, pods: impl IntoIterator<Item = Value>) -> World {
    let mut world = World::from_yaml(&WEB.replace("SPEC", spec));
    pods.into_iter().for_each(|pod| world.put(pod));
    world
}

fn three() -> [Value; 3] {
    let owner = Some("ReplicaSet");
    [
        pod("a", owner, true),
        pod("b", owner, true),
        pod("c", owner, false),
    ]
}

#[test]
fn the_wanted_replicas_of_the_deployment_are_expected() {
    check_world(
        &DisruptionController,
        &world("maxUnavailable: 75%", three()),
        "default/web",
        &expect![[r#"
            because 2 of 4 pods are healthy, 1 must be: 1 may be disrupted
            status poddisruptionbudgets.policy default/web: {"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"","observedGeneration":2,"reason":"SufficientPods","status":"True","type":"DisruptionAllowed"}],"currentHealthy":2,"desiredHealthy":1,"disruptionsAllowed":1,"expectedPods":4,"observedGeneration":2}
        "#]],
    );
    check_world(
        &DisruptionController,
        &world("minAvailable: 2", three()),
        "default/web",
        &expect![[r#"
            because 2 of 3 pods are healthy, 2 must be: 0 may be disrupted
            status poddisruptionbudgets.policy default/web: {"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"","observedGeneration":2,"reason":"InsufficientPods","status":"False","type":"DisruptionAllowed"}],"currentHealthy":2,"desiredHealthy":2,"disruptionsAllowed":0,"expectedPods":3,"observedGeneration":2}
        "#]],
    );
}

#[test]
fn a_pod_that_was_let_go_counts_as_gone_for_a_while() {
    let mut world = world("minAvailable: 1", three());
    let mut budget = world
        .get("PodDisruptionBudget", "default", "web")
        .unwrap()
        .clone();
    budget["status"] = json!({"disruptedPods": {"a": "2025-12-31T23:59:00Z", "b": "2025-12-31T23:50:00Z", "x": "2025-12-31T23:59:00Z"}});
    world.put(budget);
    check_world(
        &DisruptionController,
        &world,
        "default/web",
        &expect![[r#"
        because 1 of 3 pods are healthy, 1 must be: 0 may be disrupted
        event Warning NotDeleted: Pod was expected by PDB default/default to be deleted but it wasn't
        status poddisruptionbudgets.policy default/web: {"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"","observedGeneration":2,"reason":"InsufficientPods","status":"False","type":"DisruptionAllowed"}],"currentHealthy":1,"desiredHealthy":1,"disruptedPods":{"a":"2025-12-31T23:59:00Z"},"disruptionsAllowed":0,"expectedPods":3,"observedGeneration":2}
        again after 60s
    "#]],
    );
}

#[test]
fn what_cannot_be_worked_out_allows_nothing() {
    check_world(
        &DisruptionController,
        &world("minAvailable: 50%", [pod("a", Some("Job"), true)]),
        "default/web",
        &expect![[r#"
            because no matches for kind "Job" in version "apps/v1"
            event Warning CalculateExpectedPodCountFailed: Failed to calculate the number of expected pods: no matches for kind "Job" in version "apps/v1"
            status poddisruptionbudgets.policy default/web: {"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"no matches for kind \"Job\" in version \"apps/v1\"","reason":"SyncFailed","status":"False","type":"DisruptionAllowed"}],"disruptionsAllowed":0}
        "#]],
    );
    check_world(
        &DisruptionController,
        &world("minAvailable: 50%", [pod("a", None, true)]),
        "default/web",
        &expect![[r#"
            because 1 of 0 pods are healthy, 0 must be: 0 may be disrupted
            event Warning UnmanagedPods: Pods selected by this PodDisruptionBudget (selector: &LabelSelector{MatchLabels:map[string]string{app: web,},MatchExpressions:[]LabelSelectorRequirement{},}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set ".spec.minAvailable" field of the PDB to an integer value.
            status poddisruptionbudgets.policy default/web: {"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"","observedGeneration":2,"reason":"InsufficientPods","status":"False","type":"DisruptionAllowed"}],"currentHealthy":1,"desiredHealthy":0,"disruptionsAllowed":0,"expectedPods":0,"observedGeneration":2}
        "#]],
    );
    check(
        &DisruptionController,
        &WEB.replace("SPEC", "minAvailable: 1"),
        "default/web",
        &expect![[r#"
            because 0 of 0 pods are healthy, 1 must be: 0 may be disrupted
            event Normal NoPods: No matching pods found
            status poddisruptionbudgets.policy default/web: {"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"","observedGeneration":2,"reason":"InsufficientPods","status":"False","type":"DisruptionAllowed"}],"currentHealthy":0,"desiredHealthy":1,"disruptionsAllowed":0,"expectedPods":0,"observedGeneration":2}
        "#]],
    );
}

#[test]
fn laws_hold() {
    for spec in ["minAvailable: 1", "maxUnavailable: 1", "minAvailable: 50%"] {
        for pods in [three().to_vec(), vec![pod("a", None, true)], Vec::new()] {
            let root = Target {
                resource: Resource::of::<PodDisruptionBudget>(),
                key: Key::new("default", "web"),
            };
            testkit::laws::hold(&DisruptionController, &world(spec, pods), &root.key, &root);
        }
    }
}

#[test]
fn a_mark_that_nobody_follows_is_taken_back() {
    let marked = |since: &str| {
        let mut pod = pod("a", None, true);
        pod["status"]["conditions"] = json!([{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "lastTransitionTime": since}]);
        let mut world = World::empty();
        world.put(pod);
        world
    };
    check_world(
        &StaleDisruptions,
        &marked("2025-12-31T23:59:30Z"),
        "default/a",
        &expect![[r#"
            because it is marked for disruption and should go soon
            again after 90s
        "#]],
    );
    check_world(
        &StaleDisruptions,
        &marked("2025-12-31T23:50:00Z"),
        "default/a",
        &expect![[r#"
            because it was marked for disruption but nobody deleted it
            patch/status pods default/a: {"metadata":{"resourceVersion":"101","uid":"a-uid"},"status":{"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":null,"reason":null,"status":"False","type":"DisruptionTarget"}]}}
        "#]],
    );
}
