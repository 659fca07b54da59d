//! Tables for claims that grow.

use control::Key;
use expect_test::expect;
use testkit::{World, laws};

use super::ExpandController;
use crate::harness::check_world;

fn world(provisioner: &str) -> World {
    World::from_yaml(&format!(
        "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: data, namespace: ns}}
spec: {{volumeName: disk, resources: {{requests: {{storage: 2Gi}}}}}}
status: {{phase: Bound, capacity: {{storage: 1Gi}}}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {{name: disk, annotations: {{pv.kubernetes.io/provisioned-by: {provisioner}}}}}
spec:
  claimRef: {{namespace: ns, name: data, uid: data-uid}}
  capacity: {{storage: 1Gi}}
  local: {{path: /var/lib/kubelet/local-volumes/disk}}
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [n1]}}]
"
    ))
}

#[test]
fn a_local_volume_grows_with_its_claim() {
    let world = world("oxikube.io/local");
    check_world(
        &ExpandController,
        &world,
        "ns/data",
        &expect![[r#"
        because its volume grows
        update persistentvolumes disk
    "#]],
    );
    let rest = laws::settle_loosely(&ExpandController, world, &Key::new("ns", "data"));
    let claim = rest
        .get("PersistentVolumeClaim", "ns", "data")
        .expect("the claim");
    assert_eq!(claim["status"]["capacity"]["storage"], "2Gi");
}

#[test]
fn others_wait_for_their_driver() {
    check_world(
        &ExpandController,
        &world("disks.example.com"),
        "ns/data",
        &expect![[r#"
        because waiting for an external controller to expand this PVC
        event Normal ExternalExpanding: waiting for an external controller to expand this PVC
    "#]],
    );
}
