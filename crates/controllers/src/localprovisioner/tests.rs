//! Tables for the provisioner of local storage.

use control::Key;
use expect_test::expect;
use serde_json::{Value, json};
use testkit::{World, laws};

use super::LocalProvisioner;
use crate::harness::check_world;

fn world(mode: &str, claim: Value) -> World {
    let mut world = World::from_yaml(&format!(
        "
apiVersion: v1
kind: Node
metadata: {{name: n1, labels: {{kubernetes.io/hostname: n1}}}}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {{name: standard}}
provisioner: oxikube.io/local
reclaimPolicy: Delete
volumeBindingMode: {mode}
"
    ));
    let mut whole = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "ns", "annotations": {
            "volume.kubernetes.io/storage-provisioner": "oxikube.io/local"}},
        "spec": {"storageClassName": "standard", "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}},
    });
    for (key, value) in claim.as_object().expect("an object") {
        match key.as_str() {
            "node" => {
                whole["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] =
                    value.clone();
            }
            key => whole["spec"][key] = value.clone(),
        }
    }
    world.put(whole);
    world
}

#[test]
fn a_claim_gets_a_directory_on_the_chosen_node() {
    let chosen = world("WaitForFirstConsumer", json!({"node": "n1"}));
    check_world(
        &LocalProvisioner,
        &chosen,
        "ns/data",
        &expect![[r#"
        because it gets a directory on node n1
        event Normal Provisioning: External provisioner is provisioning volume for claim "ns/data"
        create persistentvolumes pvc-data-uid
          then ProvisioningSucceeded: Successfully provisioned volume pvc-data-uid
    "#]],
    );
    let rest = laws::settle_loosely(&LocalProvisioner, chosen, &Key::new("ns", "data"));
    let volume = rest
        .get("PersistentVolume", "", "pvc-data-uid")
        .expect("a volume");
    assert_eq!(
        volume["spec"]["local"]["path"],
        "/var/lib/kubelet/local-volumes/pvc-data-uid"
    );
    assert_eq!(volume["spec"]["capacity"]["storage"], "1Gi");
    assert_eq!(volume["spec"]["persistentVolumeReclaimPolicy"], "Delete");
}

#[test]
fn it_waits_for_the_scheduler_unless_the_class_does_not() {
    let waits = world("WaitForFirstConsumer", json!({}));
    check_world(
        &LocalProvisioner,
        &waits,
        "ns/data",
        &expect![[r#"
        because the scheduler has not chosen a node yet
    "#]],
    );
    let at_once = world("Immediate", json!({}));
    check_world(
        &LocalProvisioner,
        &at_once,
        "ns/data",
        &expect![[r#"
        because it gets a directory on node n1
        event Normal Provisioning: External provisioner is provisioning volume for claim "ns/data"
        create persistentvolumes pvc-data-uid
          then ProvisioningSucceeded: Successfully provisioned volume pvc-data-uid
    "#]],
    );
    let gone = world("WaitForFirstConsumer", json!({"node": "n9"}));
    check_world(
        &LocalProvisioner,
        &gone,
        "ns/data",
        &expect![[r#"
        because node n9 is gone, another has to be chosen
        update persistentvolumeclaims ns/data
    "#]],
    );
}

#[test]
fn what_a_directory_cannot_be_is_refused() {
    let many = world("Immediate", json!({"accessModes": ["ReadWriteMany"]}));
    check_world(
        &LocalProvisioner,
        &many,
        "ns/data",
        &expect![[r#"
        because failed to provision volume with StorageClass "standard": Only support ReadWriteOnce and ReadWriteOncePod access modes
        event Warning ProvisioningFailed: failed to provision volume with StorageClass "standard": Only support ReadWriteOnce and ReadWriteOncePod access modes
    "#]],
    );
    let block = world("Immediate", json!({"volumeMode": "Block"}));
    check_world(
        &LocalProvisioner,
        &block,
        "ns/data",
        &expect![[r#"
        because failed to provision volume with StorageClass "standard": Block volumes are not supported by local storage
        event Warning ProvisioningFailed: failed to provision volume with StorageClass "standard": Block volumes are not supported by local storage
    "#]],
    );
}

fn volume(phase: &str, policy: &str, leaving: bool) -> Value {
    let mut volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": "pvc-1", "finalizers": ["oxikube.io/local-volume"],
            "annotations": {"pv.kubernetes.io/provisioned-by": "oxikube.io/local"}},
        "spec": {"local": {"path": "/x"}, "persistentVolumeReclaimPolicy": policy,
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}]}]}}},
        "status": {"phase": phase},
    });
    if leaving {
        volume["metadata"]["deletionTimestamp"] = "2025-12-31T23:00:00Z".into();
    }
    volume
}

#[test]
fn a_released_volume_goes_and_a_retained_one_stays() {
    let mut world = World::empty();
    world.put(volume("Released", "Delete", false));
    check_world(
        &LocalProvisioner,
        &world,
        "pvc-1",
        &expect![[r#"
        because its claim is gone
        delete persistentvolumes pvc-1
    "#]],
    );
    world.put(volume("Released", "Retain", false));
    check_world(
        &LocalProvisioner,
        &world,
        "pvc-1",
        &expect![[r#"
        because it is in use or to be retained
    "#]],
    );
    world.put(volume("Released", "Delete", true));
    check_world(
        &LocalProvisioner,
        &world,
        "pvc-1",
        &expect![[r#"
        because its node is gone, and the data with it
        update persistentvolumes pvc-1
    "#]],
    );
    world.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n2"}}));
    check_world(
        &LocalProvisioner,
        &world,
        "pvc-1",
        &expect![[r#"
        because its node removes the data
    "#]],
    );
}
