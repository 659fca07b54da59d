use expect_test::expect;

use crate::kind::Part;
use crate::testing::{check, check_row, check_update, created, object, updated};

fn claim(rest: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: data, namespace: default}}, {rest}}}"
    )
}

fn sized(size: &str, rest: &str) -> String {
    claim(&format!(
        "spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: {size}}}}}, {rest}}}"
    ))
}

#[test]
fn a_claim_says_how_much_and_how() {
    check(
        &claim("spec: {storageClassName: A_, volumeMode: Tape, resources: {requests: {cpu: 1}}}"),
        expect![[r#"
            spec.accessModes: Required value: at least 1 access mode is required
            spec.resources[storage]: Required value
            spec.storageClassName: Invalid value: "A_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem"
        "#]],
    );
    check(
        &sized("'0'", "selector: {matchLabels: {a: 'b c'}}"),
        expect![[r#"
            spec.selector.matchLabels: Invalid value: "b c": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
            spec.resources[storage]: Invalid value: "0": must be greater than zero
        "#]],
    );
}

#[test]
fn data_sources_are_kept_together() {
    let of = |rest: &str| created(&sized("1Gi", rest)).0["spec"].clone();
    let both = of("dataSource: {kind: PersistentVolumeClaim, name: other}");
    assert_eq!(both["dataSource"], both["dataSourceRef"]);
    let both = of("dataSourceRef: {apiGroup: example.com, kind: Book, name: other}");
    assert_eq!(both["dataSource"], both["dataSourceRef"]);
    assert_eq!(
        of("dataSource: {kind: Book, name: other}").get("dataSource"),
        None
    );
    let elsewhere = of("dataSourceRef: {kind: PersistentVolumeClaim, name: a, namespace: b}");
    assert_eq!(elsewhere.get("dataSourceRef"), None);
    check(
        &sized(
            "1Gi",
            "dataSource: {kind: PersistentVolumeClaim, name: a}, dataSourceRef: {kind: Book, name: b}",
        ),
        expect![[r#"
            spec.dataSourceRef: Invalid value: "Book": must be 'PersistentVolumeClaim' when referencing the default apiGroup
            spec: Invalid value: "spec.dataSource": must match dataSourceRef
        "#]],
    );
}

/// A claim as the binder left it.
fn bound(size: &str, has: &str) -> machinery::Object {
    object(
        &sized(
            size,
            "volumeName: disk, volumeMode: Filesystem, storageClassName: fast",
        )
        .replacen(
            "spec:",
            &format!("status: {{phase: Bound, capacity: {{storage: {has}}}}}, spec:"),
            1,
        ),
    )
}

#[test]
fn a_bound_claim_only_grows() {
    let wish = |size: &str| sized(size, "volumeName: disk, storageClassName: fast");
    assert_eq!(
        updated(Part::Main, &bound("1Gi", "1Gi"), &wish("2Gi")).1,
        ""
    );
    expect![[r#"
        spec.resources.requests.storage: Forbidden: field can not be less than status.capacity
    "#]]
    .assert_eq(&updated(Part::Main, &bound("2Gi", "1Gi"), &wish("1Gi")).1);
    // Back from an expansion that failed.
    assert_eq!(
        updated(Part::Main, &bound("4Gi", "1Gi"), &wish("2Gi")).1,
        ""
    );
    expect![[r#"
        spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims
        @@ -10,7 +10,7 @@
           }
          },
          "VolumeName": "disk",
        - "StorageClassName": "fast",
        + "StorageClassName": "slow",
          "VolumeMode": "Filesystem",
          "DataSource": null,
          "DataSourceRef": null,

    "#]]
    .assert_eq(&updated(Part::Main, &bound("1Gi", "1Gi"), &wish("1Gi").replace("fast", "slow")).1);
}

#[test]
fn an_unbound_claim_gets_a_volume_and_a_class_once() {
    check_update(
        Part::Main,
        &sized("1Gi", ""),
        &sized("1Gi", "volumeName: disk, storageClassName: fast"),
        expect![[""]],
    );
    let (_, errors) = updated(Part::Main, &created(&sized("1Gi", "")), &sized("2Gi", ""));
    assert!(
        errors.contains("spec is immutable after creation"),
        "{errors}"
    );
}

#[test]
fn the_status_names_what_may_be_allocated() {
    check_update(
        Part::Status,
        &sized("1Gi", ""),
        &sized("1Gi", "").replacen(
            "spec:",
            "status: {capacity: {storage: '-1'}, allocatedResources: {cpu: 1}, allocatedResourceStatuses: \
             {storage: Stuck}}, spec:",
            1,
        ),
        expect![[r#"
            status.capacity[storage]: Invalid value: -1: must be a valid resource quantity
            status.allocatedResourceStatuses: Unsupported value: "storage": supported values: "ControllerResizeInProgress", "ControllerResizeInfeasible", "NodeResizeInProgress", "NodeResizeInfeasible", "NodeResizePending"
            status.allocatedResources: Unsupported value: "cpu": supported values: "storage"
        "#]],
    );
}

#[test]
fn the_row_says_what_it_got() {
    check_row(
        &sized("1Gi", "volumeMode: Filesystem"),
        expect!["data |  |  |  |  |  | <unset> | <unknown> | Filesystem"],
    );
    let text = machinery::codec::encode_yaml(&bound("1Gi", "2Gi").into_value()).unwrap();
    check_row(
        &text,
        expect!["data | Bound | disk | 2Gi |  | fast | <unset> | <unknown> | Filesystem"],
    );
}
