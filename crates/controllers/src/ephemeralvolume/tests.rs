//! Tables for the claims of pods.

use control::{Key, Resource, Target};
use expect_test::expect;
use k8s_openapi::api::core::v1::Pod;
use testkit::{World, laws};

use super::EphemeralVolumeController;
use crate::harness::check_world;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: ns}
spec:
  containers: []
  volumes:
  - name: scratch
    ephemeral:
      volumeClaimTemplate:
        metadata: {labels: {kind: scratch}}
        spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";

#[test]
fn a_missing_claim_is_made() {
    let world = World::from_yaml(POD);
    check_world(
        &EphemeralVolumeController,
        &world,
        "ns/p",
        &expect![[r#"
        because 1 of its claims are missing
        create persistentvolumeclaims ns/p-scratch
    "#]],
    );
    let root = Target {
        resource: Resource::of::<Pod>(),
        key: Key::new("ns", "p"),
    };
    laws::hold(&EphemeralVolumeController, &world, &root.key.clone(), &root);
}

#[test]
fn a_claim_of_somebody_else_is_not_used() {
    let mut world = World::from_yaml(POD);
    world.put(serde_json::json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "p-scratch", "namespace": "ns"},
    }));
    check_world(
        &EphemeralVolumeController,
        &world,
        "ns/p",
        &expect![[r#"
        because ephemeral volume scratch: PVC ns/p-scratch was not created for pod ns/p (pod is not owner)
        event Warning FailedBinding: ephemeral volume scratch: PVC ns/p-scratch was not created for pod ns/p (pod is not owner)
    "#]],
    );
}
