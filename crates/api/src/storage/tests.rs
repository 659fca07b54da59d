use expect_test::expect;

use crate::kind::Part;
use crate::testing::{check, check_row, check_update, created, kind_of, now, object, updated};

fn class(name: &str, rest: &str) -> String {
    format!(
        "{{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {{name: {name}}}, {rest}}}"
    )
}

#[test]
fn classes_are_looked_at_and_stay() {
    check(
        &class(
            "a",
            "provisioner: '', reclaimPolicy: Recycle, volumeBindingMode: Later",
        ),
        expect![[r#"
            provisioner: Required value
            reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"
            volumeBindingMode: Unsupported value: "Later": supported values: "Immediate", "WaitForFirstConsumer"
        "#]],
    );
    check(
        &class(
            "a",
            "provisioner: p, allowedTopologies: [{matchLabelExpressions: [{key: zone, values: [a, a]}, {key: zone, \
             values: []}]}]",
        ),
        expect![[r#"
            allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: "a"
            allowedTopologies[0].matchLabelExpressions[1].values: Required value
            allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: "zone"
        "#]],
    );
    check_update(
        Part::Main,
        &class("a", "provisioner: p, parameters: {a: b}"),
        &class(
            "a",
            "provisioner: q, reclaimPolicy: Retain, volumeBindingMode: WaitForFirstConsumer",
        ),
        expect![[r#"
            parameters: Invalid value: null: field is immutable
            provisioner: Invalid value: null: field is immutable
            reclaimPolicy: Invalid value: null: field is immutable
            volumeBindingMode: Invalid value: null: field is immutable
        "#]],
    );
    check_row(
        &class("a", "provisioner: p"),
        expect!["a | p | Delete | Immediate | false | <unknown>"],
    );
}

#[test]
fn a_list_of_classes_marks_the_newest_default() {
    let made = |name: &str, time: &str, default: bool| {
        object(&format!(
            "{{apiVersion: storage.k8s.io/v1, kind: StorageClass, provisioner: p, metadata: {{name: {name}, \
             creationTimestamp: '{time}', annotations: {{storageclass.kubernetes.io/is-default-class: '{default}'}}}}}}"
        ))
    };
    let classes = [
        made("a", "2025-01-01T00:00:00Z", true),
        made("c", "2025-06-01T00:00:00Z", true),
        made("b", "2025-06-01T00:00:00Z", true),
        made("d", "2025-09-01T00:00:00Z", false),
    ];
    let kind = kind_of(&classes[0]);
    let mut rows: Vec<_> = classes.iter().map(|c| kind.row(c, now())).collect();
    kind.mark_rows(&classes, &mut rows);
    let names: Vec<_> = rows.iter().map(|r| r.cells[0].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "c", "b (default)", "d"]);
}

#[test]
fn attributes_classes_have_parameters_that_stay() {
    let class = |rest: &str| {
        format!(
            "{{apiVersion: storage.k8s.io/v1, kind: VolumeAttributesClass, metadata: {{name: a}}, {rest}}}"
        )
    };
    check(
        &class("driverName: ''"),
        expect![[r#"
            driverName: Required value
            parameters: Required value: must contain at least one key/value pair
        "#]],
    );
    check_update(
        Part::Main,
        &class("driverName: d, parameters: {a: b}"),
        &class("driverName: e, parameters: {a: c}"),
        expect![[r#"
            driverName: Forbidden: updates to driverName are forbidden.
            parameters: Forbidden: updates to parameters are forbidden.
        "#]],
    );
}

#[test]
fn attachments_name_one_source() {
    let attachment = |spec: &str| {
        format!(
            "{{apiVersion: storage.k8s.io/v1, kind: VolumeAttachment, metadata: {{name: a}}, spec: {{attacher: d, \
             nodeName: node-1, source: {{{spec}}}}}}}"
        )
    };
    check(
        &attachment(""),
        expect![[r#"
            spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName
        "#]],
    );
    check(
        &attachment(
            "inlineVolumeSpec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, hostPath: {path: /a}, \
                     persistentVolumeReclaimPolicy: Delete, storageClassName: a}",
        ),
        expect![[r#"
            spec.source.inlineVolumeSpec.capacity: Forbidden: may not be specified in the context of inline volumes
            spec.source.inlineVolumeSpec.csi: Required value: has to be specified in the context of inline volumes
            spec.source.inlineVolumeSpec.persistentVolumeReclaimPolicy: Forbidden: may only be Retain in the context of inline volumes
            spec.source.inlineVolumeSpec.storageClassName: Forbidden: may not be specified in the context of inline volumes
        "#]],
    );
    check_row(
        &attachment("persistentVolumeName: disk"),
        expect!["a | d | disk | node-1 | false | <unknown>"],
    );
}

#[test]
fn drivers_say_what_they_need() {
    let driver = |spec: &str| {
        format!(
            "{{apiVersion: storage.k8s.io/v1, kind: CSIDriver, metadata: {{name: a}}, spec: {{{spec}}}}}"
        )
    };
    check(
        &driver(
            "fsGroupPolicy: Never, volumeLifecycleModes: [Eternal], nodeAllocatableUpdatePeriodSeconds: 1, \
                 tokenRequests: [{audience: a, expirationSeconds: 1}, {audience: a}]",
        ),
        expect![[r#"
            spec.fsGroupPolicy: Unsupported value: "Never": supported values: "File", "None", "ReadWriteOnceWithFSType"
            spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes
            spec.tokenRequests[1].audience: Duplicate value: "a"
            spec.volumeLifecycleModes: Unsupported value: "Eternal": supported values: "Persistent", "Ephemeral"
            spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 1: must be greater than or equal to 10 seconds
        "#]],
    );
    let old = created(&driver(""));
    let (new, errors) = updated(Part::Main, &old, &driver("podInfoOnMount: true"));
    assert_eq!((new.generation(), errors.as_str()), (1, ""));
    check_update(
        Part::Main,
        &driver(""),
        &driver("attachRequired: false"),
        expect![[r#"
            spec.attachedRequired: Invalid value: false: field is immutable
        "#]],
    );
    check_row(
        &driver("tokenRequests: [{audience: a}, {audience: b}]"),
        expect!["a | true | false | false | a,b | false | <none> | <unknown>"],
    );
}

#[test]
fn nodes_list_each_driver_once() {
    let node = |drivers: &str| {
        format!(
            "{{apiVersion: storage.k8s.io/v1, kind: CSINode, metadata: {{name: a}}, spec: {{drivers: [{drivers}]}}}}"
        )
    };
    check(
        &node(
            "{name: d, nodeID: ''}, {name: d, nodeID: x, allocatable: {count: -1}, topologyKeys: [a, a]}",
        ),
        expect![[r#"
            spec.drivers[0].nodeID: Required value
            spec.drivers[1].allocatable.count: Invalid value: -1: must be greater than or equal to 0
            spec.drivers[1].name: Duplicate value: "d"
            spec.drivers[1]: Duplicate value: "a"
        "#]],
    );
    check_update(
        Part::Main,
        &node("{name: d, nodeID: x}"),
        &node("{name: d, nodeID: other, allocatable: {count: 3}}"),
        expect![[r#"
            spec.drivers: Invalid value: {"Name":"d","NodeID":"other","TopologyKeys":null,"Allocatable":null}: field is immutable
        "#]],
    );
}
