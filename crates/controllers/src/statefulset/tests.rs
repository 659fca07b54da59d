//! Pods in order, updates from the top, claims and revisions, and the laws.

use control::{Key, Plan, Resource, Target};
use expect_test::expect;
use k8s_openapi::api::apps::v1::StatefulSet;
use proptest::prelude::*;
use serde_json::{Value, json};
use testkit::World;

use super::StatefulSetController;
use crate::harness::check_world;

const WEB: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web, namespace: default, uid: web-uid, generation: 1}
spec:
  replicas: 3
  serviceName: nginx
  revisionHistoryLimit: 2
  podManagementPolicy: OrderedReady
  updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 0, maxUnavailable: 1}}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: v1}]}
";

fn root() -> Target {
    Target {
        resource: Resource::of::<StatefulSet>(),
        key: Key::new("default", "web"),
    }
}

fn change(world: &mut World, change: impl FnOnce(&mut Value)) {
    let object = world.objects.get_mut(&root()).expect("the set");
    change(object);
    let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
    object["metadata"]["generation"] = (generation + 1).into();
}

fn set_image(world: &mut World, image: &str) {
    change(world, |s| {
        s["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
    });
}

/// Lets every pod run and be ready, but those of this image.
fn run_pods(world: &mut World, broken: &str) {
    for (target, object) in &mut world.objects {
        if target.resource.kind != "Pod" {
            continue;
        }
        let ready = object["spec"]["containers"][0]["image"] != broken;
        object["status"] = json!({"phase": "Running", "conditions": [{
            "type": "Ready", "status": if ready { "True" } else { "False" },
            "lastTransitionTime": "2025-12-31T00:00:00Z",
        }]});
    }
}

fn step(world: &mut World) -> Plan {
    let plan = world
        .plan(&StatefulSetController, &root().key)
        .expect("a plan");
    world.apply_plan(&plan);
    world.seed += 1;
    plan
}

/// What is told until nothing more happens.
fn roll(world: &mut World, broken: &str) -> String {
    let mut out = String::new();
    for _ in 0..60 {
        let plan = step(world);
        for action in &plan.actions {
            if let Some((_, text)) = action.report().and_then(|r| r.success.as_ref()) {
                out.push_str(&format!("{text}\n"));
            }
        }
        run_pods(world, broken);
        if plan.is_idle() {
            out.push_str(&format!("because {}\n", plan.because));
            break;
        }
    }
    let status = &world.objects[&root()]["status"];
    let number = |key: &str| status[key].as_i64().unwrap_or(0);
    out.push_str(&format!(
        "replicas {} ready {} updated {} current {} done {}\n",
        number("replicas"),
        number("readyReplicas"),
        number("updatedReplicas"),
        number("currentReplicas"),
        status["currentRevision"] == status["updateRevision"],
    ));
    out
}

fn world() -> World {
    World::from_yaml(WEB)
}

#[test]
fn the_first_step_keeps_the_template() {
    check_world(
        &StatefulSetController,
        &world(),
        "default/web",
        &expect![[r#"
            because keeping the new template as a revision
            create controllerrevisions.apps default/web-6b4875785f
        "#]],
    );
}

#[test]
fn pods_come_and_go_in_order() {
    let mut world = world();
    let first = roll(&mut world, "");
    expect![[r#"
        Create Pod web-0 in StatefulSet web successful
        Create Pod web-1 in StatefulSet web successful
        Create Pod web-2 in StatefulSet web successful
        because 3 replicas are available
        replicas 3 ready 3 updated 3 current 3 done true
    "#]]
    .assert_eq(&first);
    let pod = world.get("Pod", "default", "web-1").expect("the pod");
    expect![[r#"
        [
          {
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "generateName": "web-",
            "generation": 1,
            "labels": {
              "app": "web",
              "apps.kubernetes.io/pod-index": "1",
              "controller-revision-hash": "web-6b4875785f",
              "statefulset.kubernetes.io/pod-name": "web-1"
            },
            "name": "web-1",
            "namespace": "default",
            "ownerReferences": [
              {
                "apiVersion": "apps/v1",
                "blockOwnerDeletion": true,
                "controller": true,
                "kind": "StatefulSet",
                "name": "web",
                "uid": "web-uid"
              }
            ],
            "resourceVersion": "105",
            "uid": "made-3"
          },
          {
            "containers": [
              {
                "image": "v1",
                "name": "c"
              }
            ],
            "hostname": "web-1",
            "subdomain": "nginx"
          }
        ]"#]]
    .assert_eq(&serde_json::to_string_pretty(&json!([pod["metadata"], pod["spec"]])).unwrap());
    change(&mut world, |s| s["spec"]["replicas"] = 1.into());
    expect![[r#"
        Delete Pod web-2 in StatefulSet web successful
        Delete Pod web-1 in StatefulSet web successful
        because 1 replicas are available
        replicas 1 ready 1 updated 1 current 1 done true
    "#]]
    .assert_eq(&roll(&mut world, ""));
}

#[test]
fn a_new_template_goes_from_the_top_down() {
    let mut world = world();
    roll(&mut world, "");
    set_image(&mut world, "v2");
    expect![[r#"
        Delete Pod web-2 in StatefulSet web successful
        Create Pod web-2 in StatefulSet web successful
        Delete Pod web-1 in StatefulSet web successful
        Create Pod web-1 in StatefulSet web successful
        Delete Pod web-0 in StatefulSet web successful
        Create Pod web-0 in StatefulSet web successful
        because 3 replicas are available
        replicas 3 ready 3 updated 3 current 3 done true
    "#]]
    .assert_eq(&roll(&mut world, ""));
    // Back again: the revision of before gets a new number.
    set_image(&mut world, "v1");
    roll(&mut world, "");
    let mut revisions: Vec<i64> = world
        .of_kind("ControllerRevision")
        .map(|r| r["revision"].as_i64().unwrap())
        .collect();
    revisions.sort_unstable();
    assert_eq!(revisions, [2, 3]);
}

#[test]
fn an_update_stops_at_the_partition_and_at_a_pod_that_fails() {
    let mut partitioned = world();
    roll(&mut partitioned, "");
    change(&mut partitioned, |s| {
        s["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = 2.into();
    });
    set_image(&mut partitioned, "v2");
    expect![[r#"
        Delete Pod web-2 in StatefulSet web successful
        Create Pod web-2 in StatefulSet web successful
        because 3 replicas are available
        replicas 3 ready 3 updated 1 current 2 done false
    "#]]
    .assert_eq(&roll(&mut partitioned, ""));
    let mut broken = world();
    roll(&mut broken, "");
    set_image(&mut broken, "bad");
    expect![[r#"
        Delete Pod web-2 in StatefulSet web successful
        Create Pod web-2 in StatefulSet web successful
        because waiting for pod web-2 to be running and ready
        replicas 3 ready 2 updated 1 current 2 done false
    "#]]
    .assert_eq(&roll(&mut broken, "bad"));
}

#[test]
fn parallel_sets_do_all_at_once_and_on_delete_waits_for_the_user() {
    let mut parallel = world();
    change(&mut parallel, |s| {
        s["spec"]["podManagementPolicy"] = "Parallel".into();
        s["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = 2.into();
    });
    step(&mut parallel);
    let plan = step(&mut parallel);
    assert_eq!(plan.actions.len(), 3);
    run_pods(&mut parallel, "");
    roll(&mut parallel, "");
    set_image(&mut parallel, "v2");
    step(&mut parallel);
    assert_eq!(step(&mut parallel).actions.len(), 2);
    let mut by_hand = world();
    change(&mut by_hand, |s| {
        s["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    });
    roll(&mut by_hand, "");
    set_image(&mut by_hand, "v2");
    expect![[r#"
        because 3 replicas are available
        replicas 3 ready 3 updated 0 current 3 done false
    "#]]
    .assert_eq(&roll(&mut by_hand, ""));
}

fn with_claims(retention: &str) -> World {
    let mut world = world();
    change(&mut world, |s| {
        s["spec"]["volumeClaimTemplates"] = json!([{
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }]);
        s["spec"]["persistentVolumeClaimRetentionPolicy"] =
            json!({"whenDeleted": retention, "whenScaled": retention});
        s["spec"]["replicas"] = 2.into();
    });
    world
}

#[test]
fn claims_outlive_pods_unless_they_shall_not() {
    let owners = |world: &World| -> Vec<String> {
        let claims = world.of_kind("PersistentVolumeClaim");
        claims
            .map(|c| {
                format!(
                    "{} {}",
                    c["metadata"]["name"], c["metadata"]["ownerReferences"][0]["name"]
                )
            })
            .collect()
    };
    let mut kept = with_claims("Retain");
    expect![[r#"
        Create Claim data-web-0 Pod web-0 in StatefulSet web success
        Create Pod web-0 in StatefulSet web successful
        Create Claim data-web-1 Pod web-1 in StatefulSet web success
        Create Pod web-1 in StatefulSet web successful
        because 2 replicas are available
        replicas 2 ready 2 updated 2 current 2 done true
    "#]]
    .assert_eq(&roll(&mut kept, ""));
    assert_eq!(
        owners(&kept),
        ["\"data-web-0\" null", "\"data-web-1\" null"]
    );
    let mut deleted = with_claims("Delete");
    roll(&mut deleted, "");
    assert_eq!(
        owners(&deleted),
        ["\"data-web-0\" \"web\"", "\"data-web-1\" \"web\""]
    );
    change(&mut deleted, |s| s["spec"]["replicas"] = 1.into());
    step(&mut deleted);
    step(&mut deleted);
    assert_eq!(
        owners(&deleted),
        ["\"data-web-0\" \"web\"", "\"data-web-1\" \"web-1\""]
    );
}

#[test]
fn a_claim_on_its_way_out_holds_its_pod_back() {
    let mut world = with_claims("Retain");
    step(&mut world);
    world.put(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data-web-0", "namespace": "default", "deletionTimestamp": "2026-01-01T00:00:00Z"},
    }));
    check_world(
        &StatefulSetController,
        &world,
        "default/web",
        &expect![[r#"
            because pvc data-web-0 is being deleted
            event Warning FailedCreate: Create Pod web-0 in StatefulSet web failed error: pvc data-web-0 is being deleted
            status statefulsets.apps default/web: {"availableReplicas":0,"collisionCount":0,"currentRevision":"web-6b4875785f","observedGeneration":2,"replicas":0,"updateRevision":"web-6b4875785f"}
        "#]],
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_laws_hold(
        replicas in 0..4_i64, images in proptest::collection::vec(0..3_u8, 0..4),
        parallel in any::<bool>(), partition in 0..3_i64, orphan in any::<bool>(), ready in any::<bool>(),
    ) {
        let mut world = world();
        change(&mut world, |s| {
            s["spec"]["replicas"] = replicas.into();
            s["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = partition.into();
            if parallel {
                s["spec"]["podManagementPolicy"] = "Parallel".into();
            }
        });
        if orphan {
            world.put(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "web-1", "namespace": "default", "labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "v0"}]}, "status": {"phase": "Running"},
            }));
        }
        for image in images {
            set_image(&mut world, &format!("v{image}"));
            step(&mut world);
            if ready {
                run_pods(&mut world, "");
            }
        }
        testkit::laws::hold(&StatefulSetController, &world, &root().key, &root());
    }
}

/// Lets each pod that is not ready become so, or not, as the dice say.
fn run_some_pods(world: &mut World, dice: &mut impl Iterator<Item = bool>) {
    for (target, object) in &mut world.objects {
        if target.resource.kind != "Pod" {
            continue;
        }
        let ready =
            object["status"]["conditions"][0]["status"] == "True" || dice.next() == Some(true);
        object["status"] = json!({"phase": "Running", "conditions": [{
            "type": "Ready", "status": if ready { "True" } else { "False" },
            "lastTransitionTime": "2025-12-31T00:00:00Z",
        }]});
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// In order: one pod at a time, made when all before it serve, removed from the top when all that stay do.
    #[test]
    fn one_at_a_time(
        sizes in proptest::collection::vec(0..5_i64, 1..4), images in proptest::collection::vec(0..2_u8, 4),
        dice in proptest::collection::vec(any::<bool>(), 200),
    ) {
        let mut world = world();
        let mut dice = dice.into_iter().chain(std::iter::repeat(true));
        for (size, image) in sizes.iter().zip(images) {
            change(&mut world, |s| s["spec"]["replicas"] = (*size).into());
            set_image(&mut world, &format!("v{image}"));
            for _ in 0..40 {
                let pods: Vec<(i32, bool)> = world
                    .of_kind("Pod")
                    .map(|p| {
                        let name = p["metadata"]["name"].as_str().unwrap();
                        let (_, ordinal) = super::identity::parent_and_ordinal(name).unwrap();
                        (ordinal, p["status"]["conditions"][0]["status"] == "True")
                    })
                    .collect();
                let plan = step(&mut world);
                let of_pods = |a: &&control::Action| a.to_string().contains(" pods ");
                prop_assert!(plan.actions.iter().filter(of_pods).count() <= 1, "{plan:?}");
                if let Some(control::Action::Create { target, .. }) = plan.actions.iter().find(of_pods) {
                    let (_, ordinal) = super::identity::parent_and_ordinal(&target.key.name).unwrap();
                    let mut before = pods.iter().filter(|(o, _)| *o < ordinal);
                    prop_assert!(before.clone().count() == usize::try_from(ordinal).unwrap());
                    prop_assert!(before.all(|(_, ready)| *ready));
                }
                run_some_pods(&mut world, &mut dice);
            }
        }
        prop_assert_eq!(world.of_kind("Pod").count(), usize::try_from(*sizes.last().unwrap()).unwrap());
    }
}
