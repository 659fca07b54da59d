//! Tables for the binder: claims and volumes in YAML, plans out.

use control::Key;
use expect_test::expect;
use serde_json::Value;
use testkit::{World, laws};

use super::PersistentVolumeController;
use crate::harness::check_world;

const CLAIM: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: ns}
spec: {storageClassName: CLASS, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
status: {phase: Pending}
";
const VOLUME: &str = "
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: disk}
spec: {storageClassName: CLASS, accessModes: [ReadWriteOnce], capacity: {storage: 5Gi}, hostPath: {path: /a}, persistentVolumeReclaimPolicy: POLICY}
status: {phase: Available}
";
const LATE: &str = "
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: late}
provisioner: example.com/disks
volumeBindingMode: WaitForFirstConsumer
";

fn world(class: &str, more: &str) -> World {
    let text = format!("{CLAIM}{more}").replace("CLASS", class);
    World::from_yaml(&text.replace("POLICY", "Retain"))
}

/// Lets claim and volume take turns until both rest.
fn settle(mut world: World) -> World {
    for _ in 0..3 {
        let claim = Key::new("ns", "data");
        world = laws::settle_loosely(&PersistentVolumeController, world, &claim);
        let disk = Key::cluster("disk");
        world = laws::settle_loosely(&PersistentVolumeController, world, &disk);
    }
    world
}

fn claim(world: &World) -> &Value {
    world
        .get("PersistentVolumeClaim", "ns", "data")
        .expect("the claim")
}

fn disk(world: &World) -> &Value {
    world
        .get("PersistentVolume", "", "disk")
        .expect("the volume")
}

#[test]
fn claim_and_volume_find_each_other() {
    let both = world("manual", VOLUME);
    check_world(
        &PersistentVolumeController,
        &both,
        "ns/data",
        &expect![[r#"
        because the volume disk becomes this claim's
        update persistentvolumes disk
    "#]],
    );
    let bound = settle(both);
    assert_eq!(claim(&bound)["spec"]["volumeName"], "disk");
    assert_eq!(claim(&bound)["status"]["phase"], "Bound");
    assert_eq!(claim(&bound)["status"]["capacity"]["storage"], "5Gi");
    let notes = &claim(&bound)["metadata"]["annotations"];
    assert_eq!(notes["pv.kubernetes.io/bind-completed"], "yes");
    assert_eq!(notes["pv.kubernetes.io/bound-by-controller"], "yes");
    assert_eq!(disk(&bound)["spec"]["claimRef"]["uid"], "data-uid");
    assert_eq!(disk(&bound)["status"]["phase"], "Bound");
}

#[test]
fn without_a_volume_the_claim_says_what_it_waits_for() {
    check_world(
        &PersistentVolumeController,
        &world("''", ""),
        "ns/data",
        &expect![[r#"
        because no persistent volumes available for this claim and no storage class is set
        event Normal FailedBinding: no persistent volumes available for this claim and no storage class is set
    "#]],
    );
    check_world(
        &PersistentVolumeController,
        &world("manual", ""),
        "ns/data",
        &expect![[r#"
        because storageclass.storage.k8s.io "manual" not found
        event Warning ProvisioningFailed: storageclass.storage.k8s.io "manual" not found
    "#]],
    );
    check_world(
        &PersistentVolumeController,
        &world("late", LATE),
        "ns/data",
        &expect![[r#"
        because waiting for first consumer to be created before binding
        event Normal WaitForFirstConsumer: waiting for first consumer to be created before binding
    "#]],
    );
    let pod = "
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: ns}
spec: {containers: [], volumes: [{name: d, persistentVolumeClaim: {claimName: data}}]}
";
    let waiting = world("late", &format!("{LATE}{pod}"));
    check_world(
        &PersistentVolumeController,
        &waiting,
        "ns/data",
        &expect![[r#"
        because waiting for pod web to be scheduled
        event Normal WaitForPodScheduled: waiting for pod web to be scheduled
    "#]],
    );
}

#[test]
fn a_provisioner_is_asked_once_a_node_is_chosen() {
    let chosen = world("late", LATE);
    let mut claim = claim(&chosen).clone();
    claim["metadata"]["annotations"] =
        serde_json::json!({"volume.kubernetes.io/selected-node": "n1"});
    let mut chosen = chosen;
    chosen.put(claim);
    check_world(
        &PersistentVolumeController,
        &chosen,
        "ns/data",
        &expect![[r#"
        because Waiting for a volume to be created either by the external provisioner 'example.com/disks' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.
        update persistentvolumeclaims ns/data
        event Normal ExternalProvisioning: Waiting for a volume to be created either by the external provisioner 'example.com/disks' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.
    "#]],
    );
}

#[test]
fn a_named_volume_must_fit() {
    let mut named = world("manual", &VOLUME.replace("5Gi", "1Mi"));
    let mut asks = claim(&named).clone();
    asks["spec"]["volumeName"] = "disk".into();
    named.put(asks);
    check_world(
        &PersistentVolumeController,
        &named,
        "ns/data",
        &expect![[r#"
        because Cannot bind to requested volume "disk": requested PV is too small
        event Warning VolumeMismatch: Cannot bind to requested volume "disk": requested PV is too small
    "#]],
    );
}

/// The volume of a claim that has been deleted.
fn orphaned(policy: &str, phase: &str) -> World {
    let text = VOLUME.replace("CLASS", "manual").replace("POLICY", policy);
    let mut world = World::from_yaml(text.trim_start_matches("\n---"));
    let mut volume = disk(&world).clone();
    volume["spec"]["claimRef"] = serde_json::json!({"namespace": "ns", "name": "data", "uid": "x"});
    volume["status"]["phase"] = phase.into();
    world.put(volume);
    world
}

#[test]
fn a_volume_is_released_after_a_live_look_and_kept_for_its_owner() {
    let bound = orphaned("Retain", "Bound");
    check_world(
        &PersistentVolumeController,
        &bound,
        "disk",
        &expect![[r#"
        because its claim seems to be gone, the API is asked
        confirm persistentvolumeclaims ns/data
        because its claim is gone
        update/status persistentvolumes disk
    "#]],
    );
    let rest = laws::settle_loosely(&PersistentVolumeController, bound, &Key::cluster("disk"));
    assert_eq!(disk(&rest)["status"]["phase"], "Released");
    assert_eq!(disk(&rest)["spec"]["claimRef"]["uid"], "x");
}

#[test]
fn what_nobody_can_delete_fails() {
    check_world(
        &PersistentVolumeController,
        &orphaned("Delete", "Released"),
        "disk",
        &expect![[r#"
        because host_path deleter only supports /tmp/.+ but received provided /a
        update/status persistentvolumes disk
        event Warning VolumeFailedDelete: host_path deleter only supports /tmp/.+ but received provided /a
    "#]],
    );
    check_world(
        &PersistentVolumeController,
        &orphaned("Recycle", "Released"),
        "disk",
        &expect![[r#"
        because No recycler plugin found for the volume!
        update/status persistentvolumes disk
        event Warning VolumeFailedRecycle: No recycler plugin found for the volume!
    "#]],
    );
}

#[test]
fn a_claim_without_its_volume_is_lost() {
    let mut bound = settle(world("manual", VOLUME));
    bound
        .objects
        .retain(|target, _| target.resource.kind != "PersistentVolume");
    check_world(
        &PersistentVolumeController,
        &bound,
        "ns/data",
        &expect![[r#"
        because Bound claim has lost its PersistentVolume. Data on the volume is lost!
        update/status persistentvolumeclaims ns/data
        event Warning ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!
    "#]],
    );
}

#[test]
fn a_claim_without_class_gets_the_default_one_later() {
    let class = LATE.replace(
        "{name: late}",
        "{name: late, annotations: {storageclass.kubernetes.io/is-default-class: 'true'}}",
    );
    let text = format!("{CLAIM}{class}").replace("storageClassName: CLASS, ", "");
    check_world(
        &PersistentVolumeController,
        &World::from_yaml(&text),
        "ns/data",
        &expect![[r#"
        because it names no class, and there is a default one by now
        update persistentvolumeclaims ns/data
    "#]],
    );
}
