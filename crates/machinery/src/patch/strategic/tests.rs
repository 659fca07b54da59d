use serde_json::json;

use super::*;

fn schema() -> Schema {
    Schema::from_json(&json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "args": {"type": "array", "items": {"type": "string"}},
            "finalizers": {
                "type": "array", "items": {"type": "string"},
                "x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge",
            },
            "strategy": {
                "type": "object", "x-kubernetes-patch-strategy": "retainKeys",
                "properties": {"type": {"type": "string"}, "rolling": {"type": "object"}},
            },
            "containers": {
                "type": "array",
                "items": {"type": "object", "properties": {
                    "name": {"type": "string"}, "image": {"type": "string"},
                    "ports": {
                        "type": "array", "items": {"type": "object"},
                        "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "port",
                    },
                }},
                "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "name",
            },
        },
    }))
}

fn run(original: Value, patch: Value) -> Result<Value, String> {
    let mut target = original;
    apply(&mut target, &patch, Some(&schema())).map_err(|e| e.to_string())?;
    Ok(target)
}

#[test]
fn maps_and_plain_lists() {
    let original = json!({"name": "a", "labels": {"x": "1", "y": "2"}, "args": ["1", "2"]});
    let patch = json!({"labels": {"x": null, "z": "3"}, "args": ["9"], "none": null});
    let expected = json!({"name": "a", "labels": {"y": "2", "z": "3"}, "args": ["9"]});
    assert_eq!(run(original.clone(), patch), Ok(expected));
    let replaced = run(
        original.clone(),
        json!({"labels": {"$patch": "replace", "q": "1"}}),
    );
    assert_eq!(replaced.unwrap()["labels"], json!({"q": "1"}));
    let deleted = run(original, json!({"labels": {"$patch": "delete"}}));
    assert_eq!(deleted.unwrap()["labels"], json!({}));
}

#[test]
fn lists_merge_by_key() {
    let original = json!({"containers": [
        {"name": "a", "image": "1", "ports": [{"port": 1, "p": "x"}]}, {"name": "b", "image": "2"},
    ]});
    let patch = json!({"containers": [
        {"name": "a", "image": "9", "ports": [{"port": 1, "q": "y"}, {"port": 2}]},
        {"name": "b", "$patch": "delete"}, {"name": "c", "image": "3", "x": null},
    ]});
    let expected = json!({"containers": [
        {"name": "a", "image": "9", "ports": [{"port": 1, "p": "x", "q": "y"}, {"port": 2}]},
        {"name": "c", "image": "3", "x": null},
    ]});
    assert_eq!(run(original, patch), Ok(expected));
}

#[test]
fn new_elements_come_before_what_only_the_server_has() {
    let original = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    let patch = json!({"containers": [{"name": "c"}]});
    let expected = json!({"containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}]});
    assert_eq!(run(original.clone(), patch), Ok(expected));
    let patch = json!({
        "$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}],
        "containers": [{"name": "c", "image": "x"}],
    });
    let expected =
        json!({"containers": [{"name": "b"}, {"name": "c", "image": "x"}, {"name": "a"}]});
    assert_eq!(run(original.clone(), patch), Ok(expected));
    let patch = json!({"containers": [{"$patch": "replace"}, {"name": "z"}]});
    assert_eq!(
        run(original, patch),
        Ok(json!({"containers": [{"name": "z"}]}))
    );
}

#[test]
fn a_new_element_takes_the_place_of_a_deleted_one() {
    let original = json!({"containers": [{"name": "a"}, {"name": "d"}]});
    let patch = json!({
        "$setElementOrder/containers": [{"name": "c"}],
        "containers": [{"name": "d", "$patch": "delete"}, {"name": "c"}],
    });
    let expected = json!({"containers": [{"name": "a"}, {"name": "c"}]});
    assert_eq!(run(original, patch), Ok(expected));
}

#[test]
fn primitive_lists_merge_and_delete() {
    let original = json!({"finalizers": ["a", "b"]});
    let merged = run(original.clone(), json!({"finalizers": ["c", "a"]})).unwrap();
    assert_eq!(merged, json!({"finalizers": ["c", "a", "b"]}));
    let patch =
        json!({"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["b"]});
    assert_eq!(run(original, patch), Ok(json!({"finalizers": ["b"]})));
}

#[test]
fn retain_keys_clears_the_rest() {
    let original = json!({"strategy": {"type": "Rolling", "rolling": {"x": 1}}});
    let patch = json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}});
    assert_eq!(
        run(original.clone(), patch),
        Ok(json!({"strategy": {"type": "Recreate"}}))
    );
    let bad = json!({"strategy": {"$retainKeys": ["type"], "rolling": {"x": 2}}});
    assert_eq!(
        run(original, bad),
        Err("invalid patch format of retainKeys".to_owned())
    );
}

#[test]
fn failures_have_upstream_wording() {
    let original = json!({"containers": [{"name": "a"}], "finalizers": ["x"]});
    let fail = |patch| run(original.clone(), patch).unwrap_err();
    assert_eq!(
        fail(json!({"containers": [{"image": "1"}]})),
        "map: map[image:1] does not contain declared merge key: name"
    );
    assert_eq!(
        fail(json!({"$patch": "jump"})),
        "unknown patch type: jump in map: map[$patch:jump]"
    );
    assert_eq!(
        fail(json!({"finalizers": [["a"]]})),
        "list element types are not identical: [[x] [[a]]]"
    );
    assert_eq!(
        fail(
            json!({"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "c"}]})
        ),
        "The order in patch list:\n[map[name:c]]\n doesn't match $setElementOrder list:\n[map[name:b]]\n"
    );
}
