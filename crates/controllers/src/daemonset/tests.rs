//! Which nodes get pods, how updates go over them, and the laws.

use control::{Key, Plan, Resource, Target};
use expect_test::expect;
use k8s_openapi::api::apps::v1::DaemonSet;
use proptest::prelude::*;
use serde_json::{Value, json};
use testkit::World;

use super::DaemonSetController;
use crate::harness::check_world;

const SET: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: mon
  namespace: default
  uid: mon-uid
  generation: 1
  annotations: {deprecated.daemonset.template.generation: '1'}
spec:
  revisionHistoryLimit: 1
  updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 1, maxSurge: 0}}
  selector: {matchLabels: {app: mon}}
  template:
    metadata: {labels: {app: mon}}
    spec: {nodeSelector: {disk: ssd}, containers: [{name: c, image: v1}]}
";

fn root() -> Target {
    Target {
        resource: Resource::of::<DaemonSet>(),
        key: Key::new("default", "mon"),
    }
}

fn node(name: &str, disk: &str, taints: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"disk": disk}},
        "spec": {"taints": taints},
    })
}

fn world() -> World {
    let mut world = World::from_yaml(SET);
    world.put(node("n1", "ssd", json!([])));
    world.put(node(
        "n2",
        "ssd",
        json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]),
    ));
    world.put(node("n3", "hdd", json!([])));
    world.put(node(
        "n4",
        "ssd",
        json!([{"key": "mine", "effect": "NoSchedule"}]),
    ));
    world
}

fn change(world: &mut World, change: impl FnOnce(&mut Value)) {
    let object = world.objects.get_mut(&root()).expect("the set");
    change(object);
    let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
    object["metadata"]["generation"] = (generation + 1).into();
}

/// As the API does it: the number of the template grows with it.
fn set_image(world: &mut World, image: &str) {
    change(world, |s| {
        s["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
        let key = "deprecated.daemonset.template.generation";
        let before: i64 = s["metadata"]["annotations"][key]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        s["metadata"]["annotations"][key] = (before + 1).to_string().into();
    });
}

fn made_for(pod: &Value) -> String {
    let affinity = &pod["spec"]["affinity"]["nodeAffinity"];
    let required = &affinity["requiredDuringSchedulingIgnoredDuringExecution"];
    let name = &required["nodeSelectorTerms"][0]["matchFields"][0]["values"][0];
    name.as_str().unwrap_or_default().to_owned()
}

/// Binds every pod where it was made for and lets it run and be ready, but those of this image.
fn run_pods(world: &mut World, broken: &str) {
    for (target, object) in &mut world.objects {
        if target.resource.kind != "Pod" {
            continue;
        }
        let ready = object["spec"]["containers"][0]["image"] != broken;
        object["spec"]["nodeName"] = made_for(object).into();
        object["status"] = json!({"phase": "Running", "conditions": [{
            "type": "Ready", "status": if ready { "True" } else { "False" },
            "lastTransitionTime": "2025-12-31T00:00:00Z",
        }]});
    }
}

fn step(world: &mut World) -> Plan {
    let plan = world
        .plan(&DaemonSetController, &root().key)
        .expect("a plan");
    world.apply_plan(&plan);
    world.seed += 1;
    plan
}

/// The nodes with pods and their images after every change, until nothing more happens.
fn roll(world: &mut World, broken: &str) -> String {
    let mut out = String::new();
    for _ in 0..60 {
        let plan = step(world);
        run_pods(world, broken);
        let mut pods: Vec<String> = world
            .of_kind("Pod")
            .map(|p| {
                let image = p["spec"]["containers"][0]["image"]
                    .as_str()
                    .unwrap_or_default();
                format!("{}:{image}", made_for(p))
            })
            .collect();
        pods.sort();
        let line = format!("{}\n", pods.join(" "));
        if !out.ends_with(&line) {
            out.push_str(&line);
        }
        if plan.is_idle() {
            break;
        }
    }
    let status = &world.objects[&root()]["status"];
    out.push_str(&format!("{status}\n"));
    out
}

#[test]
fn nodes_that_fit_get_a_pod_cordoned_or_not() {
    let mut world = world();
    check_world(
        &DaemonSetController,
        &world,
        "default/mon",
        &expect![[r#"
        because keeping the new template as a revision
        create controllerrevisions.apps default/mon-695978c7
    "#]],
    );
    step(&mut world);
    let plan = step(&mut world);
    expect![[r#"
        because making 2 pods and removing 0
        create pods default/mon-gbt48
          then SuccessfulCreate: Created pod: mon-gbt48
        create pods default/mon-6bmpd
          then SuccessfulCreate: Created pod: mon-6bmpd
        status daemonsets.apps default/mon: {"currentNumberScheduled":0,"desiredNumberScheduled":2,"numberMisscheduled":0,"numberReady":0,"numberUnavailable":2,"observedGeneration":1}
    "#]].assert_eq(&testkit::show(&plan));
    let pod = world.of_kind("Pod").next().expect("a pod");
    expect![[r#"
        [
          {
            "app": "mon",
            "controller-revision-hash": "695978c7",
            "pod-template-generation": "1"
          },
          {
            "affinity": {
              "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                  "nodeSelectorTerms": [
                    {
                      "matchFields": [
                        {
                          "key": "metadata.name",
                          "operator": "In",
                          "values": [
                            "n2"
                          ]
                        }
                      ]
                    }
                  ]
                }
              }
            },
            "containers": [
              {
                "image": "v1",
                "name": "c"
              }
            ],
            "nodeSelector": {
              "disk": "ssd"
            },
            "tolerations": [
              {
                "effect": "NoExecute",
                "key": "node.kubernetes.io/not-ready",
                "operator": "Exists"
              },
              {
                "effect": "NoExecute",
                "key": "node.kubernetes.io/unreachable",
                "operator": "Exists"
              },
              {
                "effect": "NoSchedule",
                "key": "node.kubernetes.io/disk-pressure",
                "operator": "Exists"
              },
              {
                "effect": "NoSchedule",
                "key": "node.kubernetes.io/memory-pressure",
                "operator": "Exists"
              },
              {
                "effect": "NoSchedule",
                "key": "node.kubernetes.io/pid-pressure",
                "operator": "Exists"
              },
              {
                "effect": "NoSchedule",
                "key": "node.kubernetes.io/unschedulable",
                "operator": "Exists"
              }
            ]
          }
        ]"#]]
    .assert_eq(
        &serde_json::to_string_pretty(&json!([pod["metadata"]["labels"], pod["spec"]])).unwrap(),
    );
}

#[test]
fn labels_of_nodes_decide() {
    let mut world = world();
    expect![[r#"

        n1:v1 n2:v1
        {"currentNumberScheduled":2,"desiredNumberScheduled":2,"numberAvailable":2,"numberMisscheduled":0,"numberReady":2,"observedGeneration":1,"updatedNumberScheduled":2}
    "#]].assert_eq(&roll(&mut world, ""));
    world.put(node("n3", "ssd", json!([])));
    world.put(node("n1", "hdd", json!([])));
    expect![[r#"
        n2:v1 n3:v1
        {"currentNumberScheduled":2,"desiredNumberScheduled":2,"numberAvailable":2,"numberMisscheduled":0,"numberReady":2,"observedGeneration":1,"updatedNumberScheduled":2}
    "#]].assert_eq(&roll(&mut world, ""));
    // What only keeps new pods away lets the old one stay; what drives pods out does not.
    world.put(node(
        "n2",
        "ssd",
        json!([{"key": "mine", "effect": "NoSchedule"}]),
    ));
    world.put(node(
        "n3",
        "ssd",
        json!([{"key": "mine", "effect": "NoExecute"}]),
    ));
    expect![[r#"
        n2:v1
        {"currentNumberScheduled":0,"desiredNumberScheduled":0,"numberMisscheduled":1,"numberReady":0,"observedGeneration":1}
    "#]].assert_eq(&roll(&mut world, ""));
}

#[test]
fn a_new_template_goes_over_the_nodes_one_by_one() {
    let mut world = world();
    world.put(node("n3", "ssd", json!([])));
    roll(&mut world, "");
    set_image(&mut world, "v2");
    expect![[r#"
        n1:v1 n2:v1 n3:v1
        n1:v2 n2:v1 n3:v1
        n1:v2 n3:v1
        n1:v2 n2:v2 n3:v1
        n1:v2 n2:v2
        n1:v2 n2:v2 n3:v2
        {"currentNumberScheduled":3,"desiredNumberScheduled":3,"numberAvailable":3,"numberMisscheduled":0,"numberReady":3,"observedGeneration":2,"updatedNumberScheduled":3}
    "#]].assert_eq(&roll(&mut world, ""));
    set_image(&mut world, "bad");
    expect![[r#"
        n1:v2 n2:v2 n3:v2
        n1:bad n2:v2 n3:v2
        {"currentNumberScheduled":3,"desiredNumberScheduled":3,"numberAvailable":2,"numberMisscheduled":0,"numberReady":2,"numberUnavailable":1,"observedGeneration":3,"updatedNumberScheduled":1}
    "#]].assert_eq(&roll(&mut world, "bad"));
    // What does not serve is replaced without counting.
    set_image(&mut world, "v2");
    expect![[r#"
        n1:bad n2:v2 n3:v2
        n1:v2 n2:v2 n3:v2
        {"currentNumberScheduled":3,"desiredNumberScheduled":3,"numberAvailable":3,"numberMisscheduled":0,"numberReady":3,"observedGeneration":4,"updatedNumberScheduled":3}
    "#]].assert_eq(&roll(&mut world, ""));
}

#[test]
fn a_surge_puts_the_new_pod_beside_the_old_one() {
    let mut world = world();
    change(&mut world, |s| {
        s["spec"]["updateStrategy"]["rollingUpdate"] = json!({"maxUnavailable": 0, "maxSurge": 1});
    });
    roll(&mut world, "");
    set_image(&mut world, "v2");
    expect![[r#"
        n1:v1 n2:v1
        n1:v1 n1:v2 n2:v1
        n1:v2 n2:v1 n2:v2
        n1:v2 n2:v2
        {"currentNumberScheduled":2,"desiredNumberScheduled":2,"numberAvailable":2,"numberMisscheduled":0,"numberReady":2,"observedGeneration":3,"updatedNumberScheduled":2}
    "#]].assert_eq(&roll(&mut world, ""));
}

#[test]
fn on_delete_waits_for_the_user() {
    let mut world = world();
    change(&mut world, |s| {
        s["spec"]["updateStrategy"] = json!({"type": "OnDelete"})
    });
    roll(&mut world, "");
    set_image(&mut world, "v2");
    expect![[r#"
        n1:v1 n2:v1
        {"currentNumberScheduled":2,"desiredNumberScheduled":2,"numberAvailable":2,"numberMisscheduled":0,"numberReady":2,"observedGeneration":3}
    "#]].assert_eq(&roll(&mut world, ""));
}

#[test]
fn failed_pods_are_replaced_but_not_in_a_rush() {
    let mut world = world();
    roll(&mut world, "");
    for (target, object) in &mut world.objects {
        if target.resource.kind == "Pod" && object["spec"]["nodeName"] == "n1" {
            object["status"] = json!({"phase": "Failed"});
        }
    }
    let plan = step(&mut world);
    expect!["Some(10s) 0"].assert_eq(&format!("{:?} {}", plan.requeue_after, plan.actions.len()));
    world.now += jiff::SignedDuration::from_secs(10);
    expect![[r#"
        because making 0 pods and removing 1
        event Warning FailedDaemonPod: Found failed daemon pod default/mon-gbt48 on node n1, will try to kill it
        delete pods default/mon-gbt48
          then SuccessfulDelete: Deleted pod: mon-gbt48
    "#]].assert_eq(&testkit::show(&step(&mut world)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_laws_hold(
        disks in proptest::collection::vec(any::<bool>(), 4), images in proptest::collection::vec(0..3_u8, 0..3),
        surge in any::<bool>(), ready in any::<bool>(), orphan in any::<bool>(),
    ) {
        let mut world = world();
        if surge {
            change(&mut world, |s| {
                s["spec"]["updateStrategy"]["rollingUpdate"] = json!({"maxUnavailable": 0, "maxSurge": 1});
            });
        }
        if orphan {
            world.put(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "stray", "namespace": "default", "labels": {"app": "mon"}},
                "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "v0"}]},
                "status": {"phase": "Running"},
            }));
        }
        for image in images {
            set_image(&mut world, &format!("v{image}"));
            step(&mut world);
            step(&mut world);
            if ready {
                run_pods(&mut world, "");
            }
        }
        for (i, ssd) in disks.iter().enumerate() {
            world.put(node(&format!("n{i}"), if *ssd { "ssd" } else { "hdd" }, json!([])));
        }
        testkit::laws::hold(&DaemonSetController, &world, &root().key, &root());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// While pods become ready at some time, an update never takes more nodes away than it may, nor doubles more.
    #[test]
    fn an_update_keeps_its_bounds(
        nodes in 1..6_usize, bound in 1..4_usize, surge in any::<bool>(),
        dice in proptest::collection::vec(any::<bool>(), 200),
    ) {
        let mut world = World::from_yaml(SET);
        for i in 0..nodes {
            world.put(node(&format!("n{i}"), "ssd", json!([])));
        }
        change(&mut world, |s| {
            s["spec"]["updateStrategy"]["rollingUpdate"] = match surge {
                true => json!({"maxUnavailable": 0, "maxSurge": bound}),
                false => json!({"maxUnavailable": bound, "maxSurge": 0}),
            };
        });
        roll(&mut world, "");
        set_image(&mut world, "v2");
        let mut dice = dice.into_iter().chain(std::iter::repeat(true));
        for _ in 0..80 {
            step(&mut world);
            let mut serving = std::collections::BTreeSet::new();
            let mut doubled = 0;
            for i in 0..nodes {
                let name = format!("n{i}");
                let pods: Vec<&Value> = world.of_kind("Pod").filter(|p| made_for(p) == name).collect();
                doubled += usize::from(pods.len() > 1);
                prop_assert!(pods.len() <= 1 + usize::from(surge));
                if pods.iter().any(|p| p["status"]["conditions"][0]["status"] == "True") {
                    serving.insert(name);
                }
            }
            if surge {
                prop_assert!(serving.len() == nodes && doubled <= bound);
            } else {
                prop_assert!(serving.len() + bound >= nodes, "{serving:?}");
            }
            for (target, object) in &mut world.objects {
                if target.resource.kind == "Pod" && object["status"].is_null() && dice.next() == Some(true) {
                    object["spec"]["nodeName"] = made_for(object).into();
                    object["status"] = json!({"phase": "Running", "conditions": [{
                        "type": "Ready", "status": "True", "lastTransitionTime": "2025-12-31T00:00:00Z",
                    }]});
                }
            }
        }
        prop_assert!(world.of_kind("Pod").all(|p| p["spec"]["containers"][0]["image"] == "v2"));
        prop_assert_eq!(world.of_kind("Pod").count(), nodes);
    }
}
