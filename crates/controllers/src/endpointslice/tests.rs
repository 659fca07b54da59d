//! Tables and laws for EndpointSlices.

use std::collections::BTreeSet;

use control::{Key, Resource, Target};
use expect_test::expect;
use k8s_openapi::api::core::v1::Service;
use proptest::prelude::*;
use serde_json::{Value, json};
use testkit::World;

use super::EndpointSliceController;
use crate::harness::check_world;
use crate::services::tests::{SERVICE, pod, service_with};

const NODE: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/zone: z1}}
";

fn world() -> World {
    World::from_yaml(&format!("{SERVICE}\n---\n{NODE}"))
}

fn shown(world: &World) -> String {
    let slices = world.of_kind("EndpointSlice");
    let shown: Vec<Value> = slices.cloned().collect();
    serde_json::to_string_pretty(&shown).expect("encodes")
}

#[test]
fn the_first_slice_has_everything() {
    let mut world = world();
    world.put(pod("a", "10.0.0.1", true, false));
    world.put(pod("leaving", "10.0.0.3", true, true));
    let key = Key::new("default", "web");
    let plan = world.plan(&EndpointSliceController, &key).expect("a plan");
    world.apply_plan(&plan);
    expect![[r#"
        [
          {
            "addressType": "IPv4",
            "apiVersion": "discovery.k8s.io/v1",
            "endpoints": [
              {
                "addresses": [
                  "10.0.0.1"
                ],
                "conditions": {
                  "ready": true,
                  "serving": true,
                  "terminating": false
                },
                "nodeName": "n1",
                "targetRef": {
                  "kind": "Pod",
                  "name": "a",
                  "namespace": "default",
                  "uid": "a-uid"
                },
                "zone": "z1"
              },
              {
                "addresses": [
                  "10.0.0.3"
                ],
                "conditions": {
                  "ready": false,
                  "serving": true,
                  "terminating": true
                },
                "nodeName": "n1",
                "targetRef": {
                  "kind": "Pod",
                  "name": "leaving",
                  "namespace": "default",
                  "uid": "leaving-uid"
                },
                "zone": "z1"
              }
            ],
            "kind": "EndpointSlice",
            "metadata": {
              "annotations": {
                "endpoints.kubernetes.io/last-change-trigger-time": "2025-12-31T00:00:00Z"
              },
              "creationTimestamp": "2026-01-01T00:00:00Z",
              "generateName": "web-",
              "generation": 1,
              "labels": {
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": "web",
                "tier": "front"
              },
              "name": "web-hvls4",
              "namespace": "default",
              "ownerReferences": [
                {
                  "apiVersion": "v1",
                  "blockOwnerDeletion": true,
                  "controller": true,
                  "kind": "Service",
                  "name": "web",
                  "uid": "svc-uid"
                }
              ],
              "resourceVersion": "105",
              "uid": "made-1"
            },
            "ports": [
              {
                "name": "http",
                "port": 8080,
                "protocol": "TCP"
              },
              {
                "name": "metrics",
                "port": 9999,
                "protocol": "TCP"
              }
            ]
          }
        ]"#]]
    .assert_eq(&shown(&world));
}

#[test]
fn without_pods_there_is_a_placeholder_that_is_used_later() {
    let mut world = world();
    check_world(
        &EndpointSliceController,
        &world,
        "default/web",
        &expect![[r#"
            because 0 pods are selected
            create endpointslices.discovery.k8s.io default/web-hvls4
        "#]],
    );
    let key = Key::new("default", "web");
    let plan = world.plan(&EndpointSliceController, &key).expect("a plan");
    world.apply_plan(&plan);
    check_world(
        &EndpointSliceController,
        &world,
        "default/web",
        &expect![[r#"
            because the slices show the 0 selected pods
        "#]],
    );
    world.put(pod("a", "10.0.0.1", true, false));
    check_world(
        &EndpointSliceController,
        &world,
        "default/web",
        &expect![[r#"
            because 1 pods are selected
            update endpointslices.discovery.k8s.io default/web-hvls4
        "#]],
    );
}

#[test]
fn pods_of_a_gone_node_are_left_out() {
    let mut world = world();
    let mut lost = pod("lost", "10.0.0.9", true, false);
    lost["spec"]["nodeName"] = json!("gone");
    world.put(lost);
    let key = Key::new("default", "web");
    let plan = world.plan(&EndpointSliceController, &key).expect("a plan");
    world.apply_plan(&plan);
    let slice = world
        .of_kind("EndpointSlice")
        .next()
        .expect("a placeholder");
    assert_eq!(slice["endpoints"], json!([]));
}

#[test]
fn a_hundred_and_one_end_points_need_two_slices_and_one_change_touches_one() {
    let mut world = world();
    for i in 0..101 {
        world.put(pod(
            &format!("p{i:03}"),
            &format!("10.0.0.{i}"),
            true,
            false,
        ));
    }
    let key = Key::new("default", "web");
    let plan = world.plan(&EndpointSliceController, &key).expect("a plan");
    world.apply_plan(&plan);
    let mut sizes: Vec<usize> = world
        .of_kind("EndpointSlice")
        .map(|s| s["endpoints"].as_array().map_or(0, Vec::len))
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 100]);
    world.put(pod("p050", "10.0.0.50", false, false));
    let plan = world.plan(&EndpointSliceController, &key).expect("a plan");
    assert_eq!(plan.actions.len(), 1, "{:?}", plan.actions);
}

proptest! {
    #[test]
    fn laws(
        headless in any::<bool>(), all in any::<bool>(),
        pods in prop::collection::vec((any::<bool>(), any::<bool>()), 0..6),
    ) {
        let mut world = World::from_yaml(NODE);
        world.put(service_with(headless, all));
        for (i, (ready, leaving)) in pods.iter().enumerate() {
            world.put(pod(&format!("p{i}"), &format!("10.0.0.{i}"), *ready, *leaving));
        }
        let root = Target {
            resource: Resource::of::<Service>(),
            key: Key::new("default", "web"),
        };
        testkit::laws::hold(&EndpointSliceController, &world, &root.key, &root);
        let rest = testkit::laws::settle(&EndpointSliceController, world, &root.key, &root);
        let shown: BTreeSet<String> = rest
            .of_kind("EndpointSlice")
            .flat_map(|s| s["endpoints"].as_array().cloned().unwrap_or_default())
            .map(|e| e["addresses"][0].as_str().unwrap_or_default().to_owned())
            .collect();
        prop_assert_eq!(shown.len(), pods.len());
    }
}
