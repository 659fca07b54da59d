//! Tables for the protection of networks.

use control::{Key, Resource, Target};
use expect_test::expect;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde_json::{Value, json};
use testkit::{World, laws};

use super::ServiceCidrController;
use crate::harness::check_world;

fn cidr(name: &str, network: &str, deleted: Option<&str>) -> Value {
    let mut cidr = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name},
        "spec": {"cidrs": [network]},
    });
    if let Some(deleted) = deleted {
        cidr["metadata"]["deletionTimestamp"] = deleted.into();
        cidr["metadata"]["finalizers"] = json!(["networking.k8s.io/service-cidr-finalizer"]);
    }
    cidr
}

fn address(name: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {"name": name, "labels": {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}},
        "spec": {"parentRef": {"resource": "services", "namespace": "ns", "name": "web"}},
    })
}

fn holds(world: &World, name: &str) {
    let root = Target {
        resource: Resource::of::<ServiceCIDR>(),
        key: Key::cluster(name),
    };
    laws::hold(&ServiceCidrController, world, &root.key, &root);
}

const LONG_AGO: Option<&str> = Some("2025-12-31T23:00:00Z");

#[test]
fn a_network_is_protected_and_becomes_ready() {
    let mut world = World::empty();
    world.put(cidr("kubernetes", "10.96.0.0/16", None));
    check_world(
        &ServiceCidrController,
        &world,
        "kubernetes",
        &expect![[r#"
            because it is not protected yet
            update servicecidrs.networking.k8s.io kubernetes
        "#]],
    );
    holds(&world, "kubernetes");
}

#[test]
fn a_network_stays_while_an_address_needs_it() {
    let mut world = World::empty();
    world.put(cidr("more", "10.97.0.0/24", LONG_AGO));
    world.put(cidr("kubernetes", "10.96.0.0/16", None));
    world.put(address("10.97.0.7"));
    check_world(
        &ServiceCidrController,
        &world,
        "more",
        &expect![[r#"
        because There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR
        status servicecidrs.networking.k8s.io more: {"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR","reason":"Terminating","status":"False","type":"Ready"}]}
    "#]],
    );
    holds(&world, "more");
}

#[test]
fn a_network_goes_when_another_has_its_addresses() {
    let mut world = World::empty();
    world.put(cidr("more", "10.97.0.0/24", LONG_AGO));
    world.put(cidr("all", "10.97.0.0/16", None));
    world.put(address("10.97.0.7"));
    check_world(
        &ServiceCidrController,
        &world,
        "more",
        &expect![[r#"
        because no address needs it
        update servicecidrs.networking.k8s.io more
    "#]],
    );
    holds(&world, "more");
}

#[test]
fn a_network_waits_until_nobody_gives_out_its_addresses() {
    let mut world = World::empty();
    world.put(cidr("more", "10.97.0.0/24", Some("2025-12-31T23:59:57Z")));
    check_world(
        &ServiceCidrController,
        &world,
        "more",
        &expect![[r#"
        because API servers may still give addresses out of it
        again after 7s
    "#]],
    );
    holds(&world, "more");
}
