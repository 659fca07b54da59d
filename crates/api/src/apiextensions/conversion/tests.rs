use expect_test::{Expect, expect};
use machinery::Object;
use serde_json::{Value, json};

use super::Question;

fn object(version: &str, name: &str) -> Object {
    let tree = json!({
        "apiVersion": format!("e.io/{version}"), "kind": "Foo",
        "metadata": {"name": name, "namespace": "n", "uid": "u", "generation": 3, "labels": {"a": "b"}},
        "spec": {"x": 1},
    });
    Object::from_value(tree).unwrap()
}

/// The answer to a question about this many objects, after a change of it.
fn answered(count: usize, change: impl FnOnce(&mut Value)) -> String {
    let objects: Vec<Object> = (0..count).map(|n| object("v1", &format!("o{n}"))).collect();
    let question = Question {
        version: "v1",
        uid: "7",
        wanted: "e.io/v2",
        objects: &objects,
    };
    let converted: Vec<Value> = (0..count)
        .map(|n| object("v2", &format!("o{n}")).into_value())
        .collect();
    let mut answer = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
        "response": {"uid": "7", "result": {"status": "Success"}, "convertedObjects": converted},
    });
    change(&mut answer);
    match question.read(answer.to_string().as_bytes()) {
        Ok(objects) => objects
            .into_iter()
            .map(|o| o.into_value().to_string() + "\n")
            .collect(),
        Err(failure) => format!("{failure} [{}]\n", failure.counted),
    }
}

/// How many objects are asked for, and what becomes of the answer.
type Change = (usize, fn(&mut Value));

fn check(changes: &[Change], expected: Expect) {
    let told: String = changes.iter().map(|(n, c)| answered(*n, c)).collect();
    expected.assert_eq(&told);
}

#[test]
fn a_question_is_a_review() {
    let question = Question {
        version: "v1beta1",
        uid: "7",
        wanted: "e.io/v2",
        objects: &[object("v1", "o")],
    };
    let asked: Value = serde_json::from_slice(&question.encode()).unwrap();
    expect![[r#"
        {"apiVersion":"apiextensions.k8s.io/v1beta1","kind":"ConversionReview","request":{"desiredAPIVersion":"e.io/v2","objects":[{"apiVersion":"e.io/v1","kind":"Foo","metadata":{"generation":3,"labels":{"a":"b"},"name":"o","namespace":"n","uid":"u"},"spec":{"x":1}}],"uid":"7"}}"#]]
    .assert_eq(&asked.to_string());
}

#[test]
fn answers_that_are_none() {
    check(
        &[
            (1, |a| *a = json!([])),
            (1, |a| {
                a["apiVersion"] = json!("apiextensions.k8s.io/v1beta1")
            }),
            (1, |a| a["kind"] = json!("Other")),
            (1, |a| a["response"] = Value::Null),
            (1, |a| a["response"]["uid"] = json!("8")),
            (1, |a| {
                a["response"]["result"] = json!({"status": "Failed", "message": "cannot"})
            }),
            (1, |a| a["response"]["result"] = json!({})),
            (2, |a| {
                drop(
                    a["response"]["convertedObjects"]
                        .as_array_mut()
                        .unwrap()
                        .pop(),
                )
            }),
        ],
        expect![[r#"
            conversion webhook for e.io/v1, Kind=Foo failed: Object 'Kind' is missing in '[]' [conversion_webhook_call_failure]
            conversion webhook for e.io/v1, Kind=Foo failed: converting (v1beta1.ConversionReview) to (v1.ConversionReview): unknown conversion [conversion_webhook_call_failure]
            conversion webhook for e.io/v1, Kind=Foo failed: expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got apiextensions.k8s.io/v1, Kind=Other [conversion_webhook_call_failure]
            conversion webhook for e.io/v1, Kind=Foo failed: no response provided [conversion_webhook_malformed_response_failure]
            conversion webhook for e.io/v1, Kind=Foo failed: expected response.uid="7", got "8" [conversion_webhook_malformed_response_failure]
            conversion webhook for e.io/v1, Kind=Foo failed: cannot [conversion_webhook_malformed_response_failure]
            conversion webhook for e.io/v1, Kind=Foo failed: response.result.status was '', not 'Success' [conversion_webhook_malformed_response_failure]
            conversion webhook for e.io/v1, Kind=Foo returned 1 objects, expected 2 [conversion_webhook_partial_response_failure]
        "#]],
    );
}

#[test]
fn objects_that_are_others() {
    fn first(answer: &mut Value) -> &mut Value {
        &mut answer["response"]["convertedObjects"][0]
    }
    check(
        &[
            (1, |a| *first(a) = json!(7)),
            (1, |a| first(a)["apiVersion"] = json!("e.io/v3")),
            (2, |a| first(a)["apiVersion"] = json!("e.io/v3")),
            (1, |a| first(a)["kind"] = json!("Bar")),
            (1, |a| first(a)["metadata"]["name"] = json!("p")),
            (2, |a| first(a)["metadata"]["uid"] = json!("v")),
            (1, |a| first(a)["metadata"]["labels"] = json!({"a": 1})),
            (1, |a| first(a)["metadata"]["labels"] = json!([])),
            (2, |a| first(a)["metadata"]["labels"] = json!({"a": "-"})),
            (1, |a| {
                first(a)["metadata"]["annotations"] = json!({"-": "x"})
            }),
        ],
        expect![[r#"
            conversion webhook for e.io/v1, Kind=Foo returned invalid object at index 0: invalid object: int64 [conversion_webhook_invalid_converted_object_failure]
            conversion webhook for e.io/v1, Kind=Foo returned invalid object at index 0: invalid groupVersion (expected e.io/v2, received e.io/v3) [conversion_webhook_invalid_converted_object_failure]
            conversion webhook for e.io/v1, Kind=Foo returned invalid converted object at index 0: invalid groupVersion (expected e.io/v2, received e.io/v3) [conversion_webhook_invalid_converted_object_failure]
            conversion webhook for e.io/v1, Kind=Foo returned invalid object at index 0: invalid kind (expected Foo, received Bar) [conversion_webhook_invalid_converted_object_failure]
            conversion webhook for e.io/v1, Kind=Foo returned invalid object: must have the same name: o0 != p [conversion_webhook_invalid_converted_object_failure]
            conversion webhook for e.io/v1, Kind=Foo returned invalid converted object at index 0: must have the same UID: u != v [conversion_webhook_invalid_converted_object_failure]
            conversion webhook for e.io/v1, Kind=Foo returned invalid metadata: metadata.labels[a] must be a string, but is int64 in converted object [conversion_webhook_invalid_converted_object_failure]
            conversion webhook for e.io/v1, Kind=Foo returned invalid metadata: invalid metadata.labels of type []interface {} in converted object [conversion_webhook_invalid_converted_object_failure]
            conversion webhook for e.io/v1, Kind=Foo returned invalid metadata in object at index 0: metadata.labels: Invalid value: "-": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?') [conversion_webhook_invalid_converted_object_failure]
            conversion webhook for e.io/v1, Kind=Foo returned invalid metadata: metadata.annotation: Invalid value: "-": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') [conversion_webhook_invalid_converted_object_failure]
        "#]],
    );
}

#[test]
fn metadata_stays_but_for_labels_and_annotations() {
    check(
        &[(1, |a| {
            a["response"]["convertedObjects"][0] = json!({
                "apiVersion": "e.io/v2", "kind": "Foo", "spec": {"y": 1},
                "metadata": {
                    "name": "o0", "namespace": "n", "uid": "u", "generation": 9, "finalizers": ["f"],
                    "annotations": {"k": "v"},
                },
            });
        })],
        expect![[r#"
            {"apiVersion":"e.io/v2","kind":"Foo","metadata":{"annotations":{"k":"v"},"generation":3,"name":"o0","namespace":"n","uid":"u"},"spec":{"y":1}}
        "#]],
    );
}
