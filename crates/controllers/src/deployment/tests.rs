//! Whole rollouts, step by step, and the laws.

use std::fmt::Write;

use control::{Key, Plan, Resource, Target};
use expect_test::{Expect, expect};
use k8s_openapi::api::apps::v1::Deployment;
use proptest::prelude::*;
use serde_json::{Value, json};
use testkit::World;

use super::DeploymentController;
use crate::harness::check_world;

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default, uid: web-uid, generation: 1, annotations: {note: kept}}
spec:
  replicas: 3
  progressDeadlineSeconds: 600
  revisionHistoryLimit: 1
  selector: {matchLabels: {app: web}}
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 25%, maxUnavailable: 25%}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: v1}]}
";

fn root() -> Target {
    Target {
        resource: Resource::of::<Deployment>(),
        key: Key::new("default", "web"),
    }
}

fn change(world: &mut World, change: impl FnOnce(&mut Value)) {
    let object = world.objects.get_mut(&root()).expect("the deployment");
    change(object);
    let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
    object["metadata"]["generation"] = (generation + 1).into();
}

fn set_image(world: &mut World, image: &str) {
    change(world, |d| {
        d["spec"]["template"]["spec"]["containers"][0]["image"] = image.into()
    });
}

/// Lets every ReplicaSet have its pods, all of them available but the given number.
fn run_pods(world: &mut World, unavailable: i64) {
    let mut missing = unavailable;
    for (target, object) in &mut world.objects {
        if target.resource.kind != "ReplicaSet" {
            continue;
        }
        let size = object["spec"]["replicas"].as_i64().unwrap_or(0);
        let old = object["status"]["availableReplicas"].as_i64().unwrap_or(0);
        let lost = if old < size {
            missing.min(size - old)
        } else {
            0
        };
        missing -= lost;
        object["status"] = json!({
            "replicas": size, "readyReplicas": size - lost, "availableReplicas": size - lost,
            "terminatingReplicas": 0, "observedGeneration": object["metadata"]["generation"],
        });
    }
}

fn step(world: &mut World) -> Plan {
    let plan = world
        .plan(&DeploymentController, &root().key)
        .expect("a plan");
    world.apply_plan(&plan);
    plan
}

/// The events and the sizes of a rollout until nothing more happens.
fn roll(world: &mut World) -> String {
    let mut out = String::new();
    for _ in 0..40 {
        let plan = step(world);
        for action in &plan.actions {
            if let Some((_, text)) = action.report().and_then(|r| r.success.as_ref()) {
                let _ = writeln!(out, "{text}");
            }
        }
        if plan.is_idle() {
            break;
        }
        run_pods(world, 0);
    }
    let status = &world.objects[&root()]["status"];
    for condition in status["conditions"].as_array().into_iter().flatten() {
        let part = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
        let (kind, state) = (part("type"), part("status"));
        let _ = writeln!(
            out,
            "{kind}={state} {}: {}",
            part("reason"),
            part("message")
        );
    }
    out
}

fn check_roll(world: &mut World, expect: &Expect) {
    expect.assert_eq(&roll(world));
}

#[test]
fn the_first_step_makes_a_replica_set() {
    check_world(
        &DeploymentController,
        &World::from_yaml(WEB),
        "default/web",
        &expect![[r#"
            because making a replica set for the new template
            create replicasets.apps default/web-548df6b887
              then ScalingReplicaSet: Scaled up replica set web-548df6b887 from 0 to 3
            status deployments.apps default/web: {"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","lastUpdateTime":"2026-01-01T00:00:00Z","message":"Created new replica set \"web-548df6b887\"","reason":"NewReplicaSetCreated","status":"True","type":"Progressing"},{"lastTransitionTime":"2026-01-01T00:00:00Z","lastUpdateTime":"2026-01-01T00:00:00Z","message":"Deployment does not have minimum availability.","reason":"MinimumReplicasUnavailable","status":"False","type":"Available"}],"observedGeneration":1,"terminatingReplicas":0,"unavailableReplicas":3}
        "#]],
    );
}

#[test]
fn a_new_replica_set_carries_selector_labels_annotations_and_owner() {
    let mut world = World::from_yaml(WEB);
    step(&mut world);
    let set = world.of_kind("ReplicaSet").next().expect("made");
    expect![[r#"
        {
          "apiVersion": "apps/v1",
          "kind": "ReplicaSet",
          "metadata": {
            "annotations": {
              "deployment.kubernetes.io/desired-replicas": "3",
              "deployment.kubernetes.io/max-replicas": "4",
              "deployment.kubernetes.io/revision": "1",
              "note": "kept"
            },
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "generation": 1,
            "labels": {
              "app": "web",
              "pod-template-hash": "548df6b887"
            },
            "name": "web-548df6b887",
            "namespace": "default",
            "ownerReferences": [
              {
                "apiVersion": "apps/v1",
                "blockOwnerDeletion": true,
                "controller": true,
                "kind": "Deployment",
                "name": "web",
                "uid": "web-uid"
              }
            ],
            "resourceVersion": "102",
            "uid": "made-1"
          },
          "spec": {
            "replicas": 3,
            "selector": {
              "matchLabels": {
                "app": "web",
                "pod-template-hash": "548df6b887"
              }
            },
            "template": {
              "metadata": {
                "labels": {
                  "app": "web",
                  "pod-template-hash": "548df6b887"
                }
              },
              "spec": {
                "containers": [
                  {
                    "image": "v1",
                    "name": "c"
                  }
                ]
              }
            }
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(set).expect("encodes"));
}

#[test]
fn a_rollout_an_update_an_undo_and_the_history() {
    let mut world = World::from_yaml(WEB);
    check_roll(
        &mut world,
        &expect![[r#"
        Scaled up replica set web-548df6b887 from 0 to 3
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        Progressing=True NewReplicaSetAvailable: ReplicaSet "web-548df6b887" has successfully progressed.
    "#]],
    );
    set_image(&mut world, "v2");
    check_roll(
        &mut world,
        &expect![[r#"
        Scaled up replica set web-756f99f4f8 from 0 to 1
        Scaled down replica set web-548df6b887 from 3 to 2
        Scaled up replica set web-756f99f4f8 from 1 to 2
        Scaled down replica set web-548df6b887 from 2 to 1
        Scaled up replica set web-756f99f4f8 from 2 to 3
        Scaled down replica set web-548df6b887 from 1 to 0
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        Progressing=True NewReplicaSetAvailable: ReplicaSet "web-756f99f4f8" has successfully progressed.
    "#]],
    );
    set_image(&mut world, "v1");
    check_roll(
        &mut world,
        &expect![[r#"
        Scaled up replica set web-548df6b887 from 0 to 1
        Scaled down replica set web-756f99f4f8 from 3 to 2
        Scaled up replica set web-548df6b887 from 1 to 2
        Scaled down replica set web-756f99f4f8 from 2 to 1
        Scaled up replica set web-548df6b887 from 2 to 3
        Scaled down replica set web-756f99f4f8 from 1 to 0
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        Progressing=True NewReplicaSetAvailable: ReplicaSet "web-548df6b887" has successfully progressed.
    "#]],
    );
    let history = |image: &str| {
        let set = world
            .of_kind("ReplicaSet")
            .find(|s| s["spec"]["template"]["spec"]["containers"][0]["image"] == image);
        set.map(|s| s["metadata"]["annotations"].to_string())
    };
    expect![[r#"
        Some("{\"deployment.kubernetes.io/desired-replicas\":\"3\",\"deployment.kubernetes.io/max-replicas\":\"4\",\"deployment.kubernetes.io/revision\":\"3\",\"deployment.kubernetes.io/revision-history\":\"1\",\"note\":\"kept\"}")
        Some("{\"deployment.kubernetes.io/desired-replicas\":\"3\",\"deployment.kubernetes.io/max-replicas\":\"4\",\"deployment.kubernetes.io/revision\":\"2\",\"note\":\"kept\"}")"#]].assert_eq(&format!("{:?}\n{:?}", history("v1"), history("v2")));
    set_image(&mut world, "v3");
    roll(&mut world);
    assert_eq!(world.of_kind("ReplicaSet").count(), 2, "one new, one old");
}

#[test]
fn a_rollout_that_is_stuck_times_out() {
    let mut world = World::from_yaml(WEB);
    roll(&mut world);
    set_image(&mut world, "broken");
    let plan = (0..20).find_map(|_| {
        let plan = step(&mut world);
        run_pods(&mut world, 1);
        plan.is_idle().then_some(plan)
    });
    let plan = plan.expect("it stands still");
    world.now += plan.requeue_after.expect("a progress check");
    check_world(
        &DeploymentController,
        &world,
        "default/web",
        &expect![[r#"
        because 3 pods are available, 3 are wanted
        status deployments.apps default/web: {"availableReplicas":3,"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","lastUpdateTime":"2026-01-01T00:00:00Z","message":"Deployment has minimum availability.","reason":"MinimumReplicasAvailable","status":"True","type":"Available"},{"lastTransitionTime":"2026-01-01T00:10:01Z","lastUpdateTime":"2026-01-01T00:10:01Z","message":"ReplicaSet \"web-5d4fff7555\" has timed out progressing.","reason":"ProgressDeadlineExceeded","status":"False","type":"Progressing"}],"observedGeneration":2,"readyReplicas":3,"replicas":4,"terminatingReplicas":0,"unavailableReplicas":1,"updatedReplicas":1}
    "#]],
    );
}

#[test]
fn recreation_waits_for_the_old_pods() {
    let mut world = World::from_yaml(WEB);
    change(&mut world, |d| {
        d["spec"]["strategy"] = json!({"type": "Recreate"})
    });
    roll(&mut world);
    set_image(&mut world, "v2");
    check_roll(
        &mut world,
        &expect![[r#"
        Scaled down replica set web-548df6b887 from 3 to 0
        Scaled up replica set web-756f99f4f8 from 0 to 3
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
        Progressing=True NewReplicaSetAvailable: ReplicaSet "web-756f99f4f8" has successfully progressed.
    "#]],
    );
}

#[test]
fn a_paused_deployment_scales_in_proportion_but_does_not_roll() {
    let mut world = World::from_yaml(WEB);
    change(&mut world, |d| d["spec"]["replicas"] = 10.into());
    roll(&mut world);
    set_image(&mut world, "v2");
    step(&mut world);
    run_pods(&mut world, 0);
    step(&mut world);
    change(&mut world, |d| {
        d["spec"]["paused"] = true.into();
        d["spec"]["replicas"] = 20.into();
    });
    check_roll(
        &mut world,
        &expect![[r#"
        Scaled up replica set web-756f99f4f8 from 5 to 10
        Scaled up replica set web-548df6b887 from 8 to 15
        Progressing=Unknown DeploymentPaused: Deployment is paused
        Available=True MinimumReplicasAvailable: Deployment has minimum availability.
    "#]],
    );
}

#[test]
fn a_taken_name_counts_as_a_collision() {
    let mut world = World::from_yaml(WEB);
    let plan = world
        .plan(&DeploymentController, &root().key)
        .expect("a plan");
    let control::Action::Create { object, .. } = &plan.actions[0] else {
        panic!("no creation: {plan:?}");
    };
    let mut foreign = object.clone();
    foreign["metadata"]["ownerReferences"][0]["uid"] = "other".into();
    world.put(foreign);
    check_world(
        &DeploymentController,
        &world,
        "default/web",
        &expect![[r#"
        because the name of the new replica set is taken, trying another
        status deployments.apps default/web: {"collisionCount":1}
    "#]],
    );
}

#[test]
fn a_rollout_goes_on_when_the_old_set_has_the_new_size_already() {
    let mut world = World::from_yaml(WEB);
    change(&mut world, |d| {
        d["spec"]["replicas"] = 2.into();
        d["spec"]["strategy"]["rollingUpdate"] = json!({"maxSurge": 0, "maxUnavailable": 1});
    });
    roll(&mut world);
    set_image(&mut world, "v2");
    step(&mut world);
    run_pods(&mut world, 0);
    change(&mut world, |d| d["spec"]["replicas"] = 1.into());
    roll(&mut world);
    let status = &world.objects[&root()]["status"];
    assert_eq!(
        (&status["updatedReplicas"], &status["replicas"]),
        (&1.into(), &1.into())
    );
}

proptest! {
    #[test]
    fn laws(
        replicas in 0..8_i64, surge in 0..4_i64, unavailable in 0..4_i64,
        recreate in any::<bool>(), paused in any::<bool>(), steps in 0..4_usize,
        rescale in prop::option::of(0..8_i64),
    ) {
        let mut world = World::from_yaml(WEB);
        change(&mut world, |d| {
            d["spec"]["replicas"] = replicas.into();
            d["spec"]["strategy"] = if recreate {
                json!({"type": "Recreate"})
            } else {
                json!({"type": "RollingUpdate", "rollingUpdate":
                    {"maxSurge": surge, "maxUnavailable": unavailable}})
            };
        });
        roll(&mut world);
        set_image(&mut world, "v2");
        for _ in 0..steps {
            step(&mut world);
            run_pods(&mut world, 0);
        }
        change(&mut world, |d| {
            d["spec"]["paused"] = paused.into();
            if let Some(rescale) = rescale {
                d["spec"]["replicas"] = rescale.into();
            }
        });
        testkit::laws::hold(&DeploymentController, &world, &root().key, &root());
        roll(&mut world);
        if !paused {
            let wanted = rescale.unwrap_or(replicas);
            prop_assert_eq!(world.objects[&root()]["status"]["updatedReplicas"].as_i64().unwrap_or(0), wanted);
            prop_assert_eq!(world.objects[&root()]["status"]["replicas"].as_i64().unwrap_or(0), wanted);
        }
    }

    /// Never more pods than allowed, never fewer available than promised, whatever the sizes.
    #[test]
    fn the_bounds_hold_in_every_step(
        replicas in 1..12_i64, surge in 0..5_i64, unavailable in 0..5_i64,
    ) {
        let mut world = World::from_yaml(WEB);
        change(&mut world, |d| {
            d["spec"]["replicas"] = replicas.into();
            d["spec"]["strategy"]["rollingUpdate"] =
                json!({"maxSurge": surge, "maxUnavailable": unavailable});
        });
        roll(&mut world);
        set_image(&mut world, "v2");
        let missing = if surge == 0 { unavailable.max(1) } else { unavailable };
        for _ in 0..60 {
            let plan = step(&mut world);
            let sum = |path: &[&str]| -> i64 {
                let value = |s: &Value| path.iter().fold(s.clone(), |v, k| v[*k].clone());
                world.of_kind("ReplicaSet").map(|s| value(s).as_i64().unwrap_or(0)).sum()
            };
            prop_assert!(sum(&["spec", "replicas"]) <= replicas + surge);
            let kept: i64 = world.of_kind("ReplicaSet").map(|s| {
                let size = s["spec"]["replicas"].as_i64().unwrap_or(0);
                size.min(s["status"]["availableReplicas"].as_i64().unwrap_or(0))
            }).sum();
            prop_assert!(kept >= (replicas - missing).max(0), "{} of {}", kept, replicas);
            if plan.is_idle() {
                break;
            }
            run_pods(&mut world, 0);
        }
    }
}
