//! Tables and laws for mirrored Endpoints.

use control::{Key, Resource, Target};
use expect_test::expect;
use k8s_openapi::api::core::v1::Endpoints;
use serde_json::json;
use testkit::World;

use super::EndpointSliceMirroringController;
use crate::harness::check_world;

const OWN: &str = "
apiVersion: v1
kind: Service
metadata: {name: db, namespace: default}
spec: {ports: [{port: 5432}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: db, namespace: default, uid: db-endpoints}
subsets:
- addresses: [{ip: 192.0.2.1}, {ip: 2001:db8::1}]
  notReadyAddresses: [{ip: 192.0.2.2}]
  ports: [{port: 5432, protocol: TCP}]
";

fn root() -> Target {
    Target {
        resource: Resource::of::<Endpoints>(),
        key: Key::new("default", "db"),
    }
}

#[test]
fn every_family_gets_a_slice_and_loses_it_with_the_endpoints() {
    let mut world = World::from_yaml(OWN);
    check_world(
        &EndpointSliceMirroringController,
        &world,
        "default/db",
        &expect![[r#"
            because the endpoints have changed
            create endpointslices.discovery.k8s.io default/db-8vcx9
            create endpointslices.discovery.k8s.io default/db-hvls4
        "#]],
    );
    let controller = EndpointSliceMirroringController;
    testkit::laws::hold(&controller, &world, &root().key, &root());
    world = testkit::laws::settle(&controller, world, &root().key, &root());
    let slice = world
        .of_kind("EndpointSlice")
        .find(|s| s["addressType"] == "IPv4");
    expect![[r#"[{"addresses":["192.0.2.1"],"conditions":{"ready":true}},{"addresses":["192.0.2.2"],"conditions":{"ready":false}}]"#]].assert_eq(&slice.expect("made")["endpoints"].to_string());
    world.objects.remove(&root());
    check_world(
        &EndpointSliceMirroringController,
        &world,
        "default/db",
        &expect![[r#"
            because there is nothing to mirror
            delete endpointslices.discovery.k8s.io default/db-8vcx9
            delete endpointslices.discovery.k8s.io default/db-hvls4
        "#]],
    );
}

#[test]
fn what_has_a_selector_or_asks_to_be_skipped_is_not_mirrored() {
    let mut world = World::from_yaml(&OWN.replace("spec: {", "spec: {selector: {a: b}, "));
    let key = root().key;
    let idle = |world: &World| {
        let plan = world.plan(&EndpointSliceMirroringController, &key);
        plan.is_some_and(|p| p.is_idle())
    };
    assert!(idle(&world));
    world = World::from_yaml(OWN);
    assert!(!idle(&world));
    let skip = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
    world.objects.get_mut(&root()).expect("there")["metadata"]["labels"] = skip;
    assert!(idle(&world));
}
