use expect_test::expect;
use serde_json::Value;

use crate::testing::created;

#[track_caller]
fn check(yaml: &str, path: &[&str], expected: expect_test::Expect) {
    let shown = created(yaml)
        .at(path)
        .map_or("absent".into(), Value::to_string);
    expected.assert_eq(&shown);
}

#[test]
fn a_null_in_a_map_is_the_empty_value() {
    let map =
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: b, labels: {app: }},
                data: {a: , b: c}, binaryData: {d: }}";
    check(map, &["metadata", "labels"], expect![[r#"{"app":""}"#]]);
    check(map, &["data"], expect![[r#"{"a":"","b":"c"}"#]]);
    check(map, &["binaryData"], expect![[r#"{"d":""}"#]]);
}

#[test]
fn a_null_field_is_not_there_and_a_null_in_a_list_is_the_empty_value() {
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: b, ownerReferences: , finalizers: [null]},
                spec: {containers: [{name: c, image: d, command: [null], ports: , resources: {limits: {cpu: }}}],
                       nodeSelector: , novelty: }}";
    check(pod, &["metadata", "finalizers"], expect![[r#"[""]"#]]);
    check(
        pod,
        &["spec", "containers"],
        expect![[
            r#"[{"command":[""],"image":"d","imagePullPolicy":"Always","name":"c","resources":{"limits":{"cpu":"0"},"requests":{"cpu":"0"}},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}]"#
        ]],
    );
    check(pod, &["spec", "nodeSelector"], expect!["absent"]);
    check(pod, &["spec", "novelty"], expect!["null"]);
}

#[test]
fn line_breaks_in_base64_are_left_out() {
    let secret = r#"{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: b}, data: {a: "aGVs\nbG8=\n"},
                stringData: {b: , c: "x\ny"}}"#;
    check(
        secret,
        &["data"],
        expect![[r#"{"a":"aGVsbG8=","b":"","c":"eAp5"}"#]],
    );
}
