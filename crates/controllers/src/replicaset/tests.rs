//! Tables and laws for ReplicaSets.

use control::{Failure, Key, Resource, Target, Verb};
use expect_test::expect;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::{Value, json};
use testkit::World;

use super::ReplicaSetController;
use crate::harness::{check, check_world};

const WEB: &str = "
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: web, namespace: default, uid: web-uid, generation: 1}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: i}]}
";

fn pod(name: &str, owner: Option<&str>, app: &str, ready: Option<&str>) -> Value {
    let owners: Vec<Value> = owner
        .map(|uid| {
            json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": uid,
                   "controller": true, "blockOwnerDeletion": true})
        })
        .into_iter()
        .collect();
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": app},
                     "ownerReferences": owners},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Running"},
    });
    if let Some(since) = ready {
        pod["status"]["conditions"] =
            json!([{"type": "Ready", "status": "True", "lastTransitionTime": since}]);
    }
    pod
}

fn world(pods: impl IntoIterator<Item = Value>) -> World {
    let mut world = World::from_yaml(WEB);
    pods.into_iter().for_each(|pod| world.put(pod));
    world
}

#[test]
fn missing_pods_are_made_under_final_names() {
    check(
        &ReplicaSetController,
        WEB,
        "default/web",
        &expect![[r#"
            because 0 of 3 replicas are there, creating 3
            create pods default/web-hvls4
              then SuccessfulCreate: Created pod: web-hvls4
            create pods default/web-8vcx9
              then SuccessfulCreate: Created pod: web-8vcx9
            create pods default/web-q2f89
              then SuccessfulCreate: Created pod: web-q2f89
            status replicasets.apps default/web: {"observedGeneration":1,"replicas":0,"terminatingReplicas":0}
        "#]],
    );
}

#[test]
fn a_matching_orphan_is_adopted_after_a_live_look() {
    let world = world([
        pod("a", Some("web-uid"), "web", Some("2025-12-31T00:00:00Z")),
        pod("b", Some("web-uid"), "web", None),
        pod("orphan", None, "web", None),
    ]);
    check_world(
        &ReplicaSetController,
        &world,
        "default/web",
        &expect![[r#"
        because there are pods to adopt, the owner is looked at live first
        confirm replicasets.apps default/web
        because 3 replicas are there, 1 available
        patch pods default/orphan: {"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicaSet","name":"web","uid":"web-uid"}],"resourceVersion":"104","uid":"orphan-uid"}}
        status replicasets.apps default/web: {"availableReplicas":1,"fullyLabeledReplicas":3,"observedGeneration":1,"readyReplicas":1,"replicas":3,"terminatingReplicas":0}
    "#]],
    );
}

#[test]
fn a_pod_that_no_longer_matches_is_let_go_and_replaced() {
    let world = world([
        pod("a", Some("web-uid"), "web", None),
        pod("b", Some("web-uid"), "web", None),
        pod("c", Some("web-uid"), "other", None),
    ]);
    check_world(
        &ReplicaSetController,
        &world,
        "default/web",
        &expect![[r#"
            because 2 of 3 replicas are there, creating 1
            patch pods default/c: {"metadata":{"ownerReferences":[],"resourceVersion":"104","uid":"c-uid"}}
            create pods default/web-hvls4
              then SuccessfulCreate: Created pod: web-hvls4
            status replicasets.apps default/web: {"fullyLabeledReplicas":2,"observedGeneration":1,"replicas":2,"terminatingReplicas":0}
        "#]],
    );
}

#[test]
fn the_cheapest_pods_go_first() {
    let mut cheap = pod(
        "cheap",
        Some("web-uid"),
        "web",
        Some("2025-12-31T00:00:00Z"),
    );
    cheap["metadata"]["annotations"] = json!({"controller.kubernetes.io/pod-deletion-cost": "-5"});
    let world = world([
        pod("old", Some("web-uid"), "web", Some("2025-12-01T00:00:00Z")),
        pod(
            "older",
            Some("web-uid"),
            "web",
            Some("2025-01-01T00:00:00Z"),
        ),
        pod(
            "fresh",
            Some("web-uid"),
            "web",
            Some("2025-12-31T23:59:00Z"),
        ),
        pod("unready", Some("web-uid"), "web", None),
        pod("foreign", Some("other-uid"), "web", None),
        cheap,
    ]);
    check_world(
        &ReplicaSetController,
        &world,
        "default/web",
        &expect![[r#"
        because 5 of 3 replicas are there, deleting 2
        delete pods default/unready
          then SuccessfulDelete: Deleted pod: unready
        delete pods default/cheap
          then SuccessfulDelete: Deleted pod: cheap
        status replicasets.apps default/web: {"availableReplicas":4,"fullyLabeledReplicas":5,"observedGeneration":1,"readyReplicas":4,"replicas":5,"terminatingReplicas":0}
    "#]],
    );
}

#[test]
fn readiness_becomes_availability_by_time() {
    let mut world = world([
        pod("a", Some("web-uid"), "web", Some("2025-12-31T23:59:55Z")),
        pod("b", Some("web-uid"), "web", Some("2025-12-31T23:00:00Z")),
        pod("c", Some("web-uid"), "web", None),
    ]);
    let key = Target {
        resource: Resource::of::<ReplicaSet>(),
        key: Key::new("default", "web"),
    };
    let root = world.objects.get_mut(&key).expect("the root");
    root["spec"]["minReadySeconds"] = 10.into();
    check_world(
        &ReplicaSetController,
        &world,
        "default/web",
        &expect![[r#"
        because 3 replicas are there, 1 available
        status replicasets.apps default/web: {"availableReplicas":1,"fullyLabeledReplicas":3,"observedGeneration":1,"readyReplicas":2,"replicas":3,"terminatingReplicas":0}
        again after 5s
    "#]],
    );
}

#[test]
fn a_refused_creation_shows_in_the_status() {
    let mut world = world([
        pod("a", Some("web-uid"), "web", None),
        pod("b", Some("web-uid"), "web", None),
    ]);
    world.failure = Some(Failure {
        verb: Verb::Create,
        resource: Resource::of::<Pod>(),
        code: 403,
        reason: "Forbidden".to_owned(),
        message: "pods \"web-x\" is forbidden: exceeded quota".to_owned(),
    });
    check_world(
        &ReplicaSetController,
        &world,
        "default/web",
        &expect![[r#"
            because 2 of 3 replicas are there, creating 1
            create pods default/web-hvls4
              then SuccessfulCreate: Created pod: web-hvls4
            status replicasets.apps default/web: {"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"pods \"web-x\" is forbidden: exceeded quota","reason":"FailedCreate","status":"True","type":"ReplicaFailure"}],"fullyLabeledReplicas":2,"observedGeneration":1,"replicas":2,"terminatingReplicas":0}
        "#]],
    );
}

proptest! {
    #[test]
    fn laws(
        replicas in 0..6_i64,
        pods in prop::collection::vec(
            (prop::option::of(prop::sample::select(vec!["web-uid", "other-uid"])),
             prop::sample::select(vec!["web", "other"]), any::<bool>(),
             prop::sample::select(vec!["Pending", "Running", "Failed"])),
            0..8,
        ),
    ) {
        let mut world = World::from_yaml(WEB);
        let root = Target {
            resource: Resource::of::<ReplicaSet>(),
            key: Key::new("default", "web"),
        };
        world.objects.get_mut(&root).expect("the root")["spec"]["replicas"] = replicas.into();
        for (i, (owner, app, ready, phase)) in pods.into_iter().enumerate() {
            let since = ready.then_some("2025-12-31T00:00:00Z");
            let mut pod = pod(&format!("p{i}"), owner, app, since);
            pod["status"]["phase"] = phase.into();
            world.put(pod);
        }
        testkit::laws::hold(&ReplicaSetController, &world, &root.key, &root);
    }
}
