use expect_test::expect;

use crate::kind::Part;
use crate::testing::{check, object, updated};

#[test]
fn metadata_has_rules_of_its_own() {
    check(
        r#"{apiVersion: v1, kind: ConfigMap, metadata: {
             generateName: "My_", labels: {"a b": "-x"}, annotations: {"/": ""},
             finalizers: [nope!, orphan, foregroundDeletion],
             ownerReferences: [
               {apiVersion: v1, kind: Event, name: e, uid: u, controller: true},
               {apiVersion: "a/b/c", kind: "", name: "", uid: "", controller: true}],
             managedFields: [{operation: Merge, fieldsType: X}]}}"#,
        expect![[r#"
            metadata.generateName: Invalid value: "My_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            metadata.name: Required value: name or generateName is required
            metadata.namespace: Required value
            metadata.labels: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            metadata.labels: Invalid value: "-x": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
            metadata.annotations: Invalid value: "/": prefix part must be non-empty
            metadata.annotations: Invalid value: "/": name part must be non-empty
            metadata.annotations: Invalid value: "/": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            metadata.ownerReferences[0]: Invalid value: {"apiVersion":"v1","kind":"Event","name":"e","uid":"u","controller":true}: /v1, Kind=Event is disallowed from being an owner
            metadata.ownerReferences[1].apiVersion: Invalid value: "a/b/c": must be <group>/<version> or <version>
            metadata.ownerReferences[1].kind: Required value: must not be empty
            metadata.ownerReferences[1].name: Required value: must not be empty
            metadata.ownerReferences[1].uid: Required value: must not be empty
            metadata.ownerReferences: Invalid value: [{"apiVersion":"v1","kind":"Event","name":"e","uid":"u","controller":true},{"apiVersion":"a/b/c","kind":"","name":"","uid":"","controller":true}]: Only one reference can have Controller set to true. Found "true" in references for Event/e and /
            metadata.finalizers: Invalid value: "nope!": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            metadata.finalizers: Invalid value: ["nope!","orphan","foregroundDeletion"]: finalizer orphan and foregroundDeletion cannot be both set
            metadata.managedFields[0].operation: Unsupported value: "Merge": supported values: "Apply", "Update"
            metadata.managedFields[0].fieldsType: Invalid value: "X": must be `FieldsV1`
            metadata.finalizers[0]: Invalid value: "nope!": name is neither a standard finalizer name nor is it fully qualified
        "#]],
    );
    check(
        "{apiVersion: v1, kind: Node, metadata: {name: Up, namespace: x}}",
        expect![[r#"
            metadata.name: Invalid value: "Up": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            metadata.namespace: Forbidden: not allowed on this type
        "#]],
    );
}

#[test]
fn metadata_changes_within_limits() {
    let old = object(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: b, uid: u, generation: 3,
          deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: [example.com/a]}}",
    );
    let (_, errors) = updated(
        Part::Main,
        &old,
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: b, namespace: b, uid: v, generation: 2,
          finalizers: [example.com/a, example.com/b]}}",
    );
    expect![[r#"
        metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"example.com/b"}
        metadata.generation: Invalid value: 2: must not be decremented
        metadata.name: Invalid value: "b": field is immutable
        metadata.uid: Invalid value: "v": field is immutable
        metadata.deletionTimestamp: Invalid value: null: field is immutable
    "#]].assert_eq(&errors);
}
