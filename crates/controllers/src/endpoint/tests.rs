//! Tables and laws for Endpoints.

use control::{Key, Resource, Target};
use expect_test::expect;
use k8s_openapi::api::core::v1::Service;
use proptest::prelude::*;
use testkit::World;

use super::EndpointsController;
use crate::harness::{check, check_world};
use crate::services::tests::{SERVICE, pod, service_with};

#[test]
fn ready_and_unready_addresses_stand_apart() {
    let mut world = World::from_yaml(SERVICE);
    world.put(pod("a", "10.0.0.1", true, false));
    world.put(pod("b", "10.0.0.2", false, false));
    world.put(pod("leaving", "10.0.0.3", true, true));
    check_world(
        &EndpointsController,
        &world,
        "default/web",
        &expect![[r#"
        because 1 addresses are ready
        create endpoints default/web
    "#]],
    );
}

#[test]
fn a_service_without_selector_is_let_be() {
    check(
        &EndpointsController,
        "{apiVersion: v1, kind: Service, metadata: {name: own, namespace: default}, spec: {}}",
        "default/own",
        &expect![[r#"
            because the service has no selector
        "#]],
    );
}

#[test]
fn what_a_gone_service_leaves_is_removed() {
    check(
        &EndpointsController,
        "{apiVersion: v1, kind: Endpoints, metadata: {name: gone, namespace: default}}",
        "default/gone",
        &expect![[r#"
            because the service is gone
            delete endpoints default/gone
        "#]],
    );
}

#[test]
fn over_a_thousand_addresses_are_cut() {
    let mut world = World::from_yaml(SERVICE);
    for i in 0..1010 {
        let ip = format!("10.1.{}.{}", i / 250, i % 250);
        world.put(pod(&format!("p{i}"), &ip, i % 2 == 0, false));
    }
    let key = Key::new("default", "web");
    let plan = world.plan(&EndpointsController, &key).expect("a plan");
    world.apply_plan(&plan);
    let object = world.get("Endpoints", "default", "web").expect("made");
    let subset = &object["subsets"][0];
    let count = |list: &str| subset[list].as_array().map_or(0, Vec::len);
    assert_eq!((count("addresses"), count("notReadyAddresses")), (505, 495));
    let annotations = &object["metadata"]["annotations"];
    assert_eq!(
        annotations["endpoints.kubernetes.io/over-capacity"],
        "truncated"
    );
}

proptest! {
    #[test]
    fn laws(
        headless in any::<bool>(), all in any::<bool>(),
        pods in prop::collection::vec((any::<bool>(), any::<bool>()), 0..6),
    ) {
        let mut world = World::empty();
        world.put(service_with(headless, all));
        for (i, (ready, leaving)) in pods.into_iter().enumerate() {
            world.put(pod(&format!("p{i}"), &format!("10.0.0.{i}"), ready, leaving));
        }
        let root = Target {
            resource: Resource::of::<Service>(),
            key: Key::new("default", "web"),
        };
        testkit::laws::same_input_same_plan(&EndpointsController, &world, &root.key);
        testkit::laws::settle_loosely(&EndpointsController, world, &root.key);
    }
}
