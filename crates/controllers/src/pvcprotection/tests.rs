//! Tables for the protection of claims.

use control::{Key, Resource, Target};
use expect_test::expect;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::{Value, json};
use testkit::{World, laws};

use super::PvcProtectionController;
use crate::harness::check_world;

fn claim(leaving: bool) -> Value {
    let mut claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "ns", "finalizers": ["kubernetes.io/pvc-protection"]},
        "status": {"phase": "Bound"},
    });
    if leaving {
        claim["metadata"]["deletionTimestamp"] = "2025-12-31T23:00:00Z".into();
    }
    claim
}

fn pod(node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ns"},
        "spec": {"nodeName": node, "containers": [],
            "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]},
    })
}

#[test]
fn a_claim_stays_while_a_pod_uses_it() {
    let mut world = World::empty();
    world.put(claim(true));
    world.put(pod("n1"));
    check_world(
        &PvcProtectionController,
        &world,
        "ns/data",
        &expect![[r#"
        because pod p uses it
    "#]],
    );
}

#[test]
fn an_unused_claim_goes_after_a_live_look() {
    let mut world = World::empty();
    world.put(claim(true));
    world.put(pod(""));
    check_world(
        &PvcProtectionController,
        &world,
        "ns/data",
        &expect![[r#"
        because no pod seems to use it, the API is asked
        confirm all pods in ns
        because no pod uses it
        update persistentvolumeclaims ns/data
    "#]],
    );
    let root = Target {
        resource: Resource::of::<PersistentVolumeClaim>(),
        key: Key::new("ns", "data"),
    };
    laws::hold(&PvcProtectionController, &world, &root.key.clone(), &root);
}

#[test]
fn it_is_told_since_when_nobody_uses_it() {
    let mut world = World::empty();
    world.put(claim(false));
    check_world(
        &PvcProtectionController,
        &world,
        "ns/data",
        &expect![[r#"
        because No pods are currently referencing this PVC
        update/status persistentvolumeclaims ns/data
    "#]],
    );
    world.put(pod("n1"));
    check_world(
        &PvcProtectionController,
        &world,
        "ns/data",
        &expect![[r#"
        because A pod is currently referencing this PVC
        update/status persistentvolumeclaims ns/data
    "#]],
    );
}
