use expect_test::expect;

use crate::kind::Part;
use crate::testing::{check, check_row, check_update, created, object, updated};

fn volume(rest: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: PersistentVolume, metadata: {{name: disk}}, spec: {{accessModes: [ReadWriteOnce], \
         capacity: {{storage: 5Gi}}, {rest}}}}}"
    )
}

#[test]
fn one_source_is_right() {
    check(&volume("hostPath: {path: /data}"), expect![[""]]);
    check(
        &volume("storageClassName: x"),
        expect![[r#"
            spec: Required value: must specify a volume type
        "#]],
    );
    check(
        &volume(
            "hostPath: {path: /../etc, type: Door}, nfs: {server: a, path: b}, cephfs: {monitors: []}",
        ),
        expect![[r#"
            spec.hostPath.path: Invalid value: "/../etc": must not contain '..'
            spec.hostPath.type: Unsupported value: "Door": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"
            spec.nfs: Forbidden: may not specify more than 1 volume type
            spec.cephFS: Forbidden: may not specify more than 1 volume type
        "#]],
    );
}

#[test]
fn a_local_volume_says_where_it_is() {
    check(
        &volume("local: {path: ''}"),
        expect![[r#"
            spec.local.path: Required value
            spec.nodeAffinity: Required value: Local volume requires node affinity
        "#]],
    );
    check(
        &volume("local: {path: /a}, nodeAffinity: {}"),
        expect![[r#"
            spec.nodeAffinity.required: Required value: must specify required node constraints
        "#]],
    );
}

#[test]
fn sizes_modes_and_policies_are_looked_at() {
    check(
        "{apiVersion: v1, kind: PersistentVolume, metadata: {name: disk}, spec: {
          accessModes: [ReadWriteOnce, ReadWriteOncePod, Sometimes], capacity: {storage: '0', cpu: 1},
          persistentVolumeReclaimPolicy: Burn, volumeMode: Tape, storageClassName: A_B, hostPath: {path: /a}}}",
        expect![[r#"
            spec.accessModes: Unsupported value: "Sometimes": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"
            spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes
            spec.capacity: Unsupported value: {"cpu":"1","storage":"0"}: supported values: "storage"
            spec.capacity[storage]: Invalid value: "0": must be greater than zero
            spec.persistentVolumeReclaimPolicy: Unsupported value: "Burn": supported values: "Delete", "Recycle", "Retain"
            spec.storageClassName: Invalid value: "A_B": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem"
        "#]],
    );
    check(
        &volume("persistentVolumeReclaimPolicy: Recycle, hostPath: {path: //./}"),
        expect![[r#"
            spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'
        "#]],
    );
}

#[test]
fn remote_sources_name_what_they_need() {
    check(
        &volume("iscsi: {targetPortal: '', iqn: nobody, lun: 300, chapAuthSession: true}"),
        expect![[r#"
            spec.iscsi.targetPortal: Required value
            spec.iscsi.iqn: Invalid value: "nobody": must be valid format
            spec.iscsi.lun: Invalid value: 300: must be between 0 and 255, inclusive
            spec.iscsi.secretRef: Required value
        "#]],
    );
    check(
        &volume("csi: {driver: '', volumeHandle: '', nodePublishSecretRef: {name: a}}"),
        expect![[r#"
            spec.csi.driver: Required value
            spec.csi.volumeHandle: Required value
            spec.csi.nodePublishSecretRef.namespace: Required value
        "#]],
    );
    check(
        &volume("azureDisk: {diskName: a, diskURI: b, kind: Managed}"),
        expect![[r#"
            spec.azureDisk.diskURI: Unsupported value: "b": supported values: "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
        "#]],
    );
    check(
        &volume("cephfs: {monitors: []}"),
        expect![[r#"
            spec.cephfs.monitors: Required value
        "#]],
    );
    check(
        &volume("flexVolume: {driver: '', options: {storage.k8s.io/a: b}}"),
        expect![[r#"
            spec.flexVolume.driver: Required value
            spec.flexVolume.options[storage.k8s.io/a]: Invalid value: "storage.k8s.io/a": kubernetes.io and k8s.io namespaces are reserved
        "#]],
    );
    check(
        &volume("fc: {targetWWNs: [a]}"),
        expect![[r#"
            spec.fc.lun: Required value: lun is required if targetWWNs is specified
        "#]],
    );
    check(
        &volume("quobyte: {registry: somewhere, volume: ''}"),
        expect![[r#"
            spec.quobyte.registry: Invalid value: "somewhere": must be a host:port pair or multiple pairs separated by commas
            spec.quobyte.volume: Required value
        "#]],
    );
}

#[test]
fn the_source_and_the_place_stay() {
    check_update(
        Part::Main,
        &volume("hostPath: {path: /a}"),
        &volume("hostPath: {path: /b}"),
        expect![[r#"
            spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation
            @@ -2,7 +2,7 @@
              "GCEPersistentDisk": null,
              "AWSElasticBlockStore": null,
              "HostPath": {
            -  "Path": "/a",
            +  "Path": "/b",
               "Type": ""
              },
              "Glusterfs": null,

        "#]],
    );
    let local = |key: &str, host: &str| {
        volume(&format!(
            "local: {{path: /a}}, nodeAffinity: {{required: {{nodeSelectorTerms: [{{matchExpressions: [{{key: \
             {key}, operator: In, values: [{host}]}}]}}]}}}}"
        ))
    };
    check_update(
        Part::Main,
        &local("beta.kubernetes.io/os", "linux"),
        &local("kubernetes.io/os", "linux"),
        expect![[""]],
    );
    check_update(
        Part::Main,
        &local("kubernetes.io/os", "linux"),
        &local("kubernetes.io/os", "plan9"),
        expect![[r#"
            nodeAffinity: Invalid value: {"required":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"kubernetes.io/os","operator":"In","values":["plan9"]}]}]}}: field is immutable, except for updating from beta label to GA
        "#]],
    );
}

#[test]
fn a_phase_has_its_time() {
    let pending = created(&volume("hostPath: {path: /a}"));
    assert_eq!(
        pending.0["status"],
        serde_json::json!({"phase": "Pending", "lastPhaseTransitionTime": "2026-01-02T03:04:05Z"})
    );
    let mut old = pending.clone();
    old.object_at_mut(&["status"]).insert(
        "lastPhaseTransitionTime".into(),
        "2025-01-01T00:00:00Z".into(),
    );
    let bound =
        volume("hostPath: {path: /a}").replacen("spec:", "status: {phase: Bound}, spec:", 1);
    let (new, errors) = updated(Part::Status, &old, &bound);
    assert_eq!(errors, "");
    assert_eq!(
        new.str_at(&["status", "lastPhaseTransitionTime"]),
        "2026-01-02T03:04:05Z"
    );
    let same = bound.replace("Bound", "Pending");
    let (new, _) = updated(Part::Status, &old, &same);
    assert_eq!(
        new.str_at(&["status", "lastPhaseTransitionTime"]),
        "2025-01-01T00:00:00Z"
    );
}

#[test]
fn the_row_says_whose_it_is() {
    check_row(
        &volume("hostPath: {path: /a}, persistentVolumeReclaimPolicy: Retain, claimRef: {namespace: ns, name: data}, \
                 storageClassName: slow, volumeMode: Filesystem")
        .replacen("spec:", "status: {phase: Bound}, spec:", 1),
        expect!["disk | 5Gi | RWO | Retain | Bound | ns/data | slow | <unset> |  | <unknown> | Filesystem"],
    );
}

#[test]
fn old_ways_are_warned_about() {
    let old = "{apiVersion: v1, kind: PersistentVolume, metadata: {name: disk, annotations: \
         {volume.beta.kubernetes.io/storage-class: slow}}, spec: {persistentVolumeReclaimPolicy: Recycle, \
         glusterfs: {endpoints: a, path: b}}}";
    let warnings = crate::testing::kind_of(&object(old)).warnings(&object(old));
    expect![[r#"
        metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use "storageClassName" attribute instead
        spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.
        spec.glusterfs: deprecated in v1.25, non-functional in v1.26+"#]]
    .assert_eq(&warnings.join("\n"));
}
