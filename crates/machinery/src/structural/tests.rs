use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{
    Structural, drop_nulls, fill_defaults, is_known_format, list_duplicates, prune, validate,
};
use crate::Path;

fn schema() -> Structural {
    Structural::read(&json!({
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 10},
                    "ratio": {"type": "number", "maximum": 1.5, "exclusiveMaximum": true},
                    "name": {"type": "string", "pattern": "^a+$", "minLength": 1, "maxLength": 3},
                    "mode": {"type": "string", "enum": ["one", "two"], "default": "one"},
                    "port": {"x-kubernetes-int-or-string": true},
                    "when": {"type": "string", "format": "date-time"},
                    "maybe": {"type": "string", "nullable": true},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                        "properties": {"known": {"type": "object"}}},
                    "pod": {"type": "object", "x-kubernetes-embedded-resource": true,
                        "x-kubernetes-preserve-unknown-fields": true},
                    "tags": {"type": "array", "x-kubernetes-list-type": "set", "maxItems": 3,
                        "items": {"type": "string"}},
                    "parts": {"type": "array", "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["name"],
                        "items": {"type": "object", "properties": {
                            "name": {"type": "string"}, "weight": {"type": "integer", "default": 7, "minimum": 0}}}},
                    "either": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                        "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
                },
            },
        },
    }))
}

fn check(value: Value, expect: Expect) {
    check_update(value, None, expect);
}

fn check_update(value: Value, old: Option<Value>, expect: Expect) {
    let schema = schema();
    let mut errors = validate(&value, old.as_ref(), &schema, &Path::default());
    errors.append(list_duplicates(&value, &schema));
    let text: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    expect.assert_eq(&text.join("\n"));
}

#[test]
fn values_are_checked_in_the_words_of_the_reference() {
    check(json!({}), expect!["spec: Required value"]);
    check(
        json!({"spec": {"size": "a", "ratio": 1.5, "name": "bbbb", "mode": "three", "port": true, "when": "now"}}),
        expect![[r#"
            spec.mode: Unsupported value: "three": supported values: "one", "two"
            spec.name: Too long: may not be more than 3 bytes
            spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean"
            spec.ratio: Invalid value: 1.5: spec.ratio in body should be less than 1.5
            spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"
            spec.when: Invalid value: "now": spec.when in body must be of type date-time: "now""#]],
    );
    check(
        json!({"spec": {"size": 11, "name": "b", "maybe": null, "labels": {"a": 1}, "tags": ["a", "a", "b", "c"],
            "parts": [{"name": "x"}, {"name": "x"}]}}),
        expect![[r#"
            spec.labels.a: Invalid value: "integer": spec.labels.a in body must be of type string: "integer"
            spec.name: Invalid value: "b": spec.name in body should match '^a+$'
            spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10
            spec.tags: Too many: 4: must have at most 3 items
            spec.parts[1]: Duplicate value: {"name":"x"}
            spec.tags[1]: Duplicate value: "a""#]],
    );
    check(
        json!({"spec": {"size": 1, "either": {"a": "x", "b": "y"}}}),
        expect![[r#"
            <nil>: Invalid value: "": "spec.either" must validate one and only one schema (oneOf). Found 2 valid alternatives"#]],
    );
}

#[test]
fn what_an_update_leaves_alone_is_not_checked() {
    let old = json!({"spec": {"size": 99, "name": "b", "parts": [{"name": "x", "weight": -1}, {"name": "y", "weight": -2}]}});
    check_update(
        json!({"spec": {"size": 99, "name": "c", "parts": [{"name": "y", "weight": -2}, {"name": "x", "weight": -3}]}}),
        Some(old),
        expect![[r#"
            spec.name: Invalid value: "c": spec.name in body should match '^a+$'
            spec.parts[1].weight: Invalid value: -3: spec.parts[1].weight in body should be greater than or equal to 0"#]],
    );
}

#[test]
fn unknown_fields_go_and_defaults_come() {
    let mut value = json!({
        "apiVersion": "a/v1", "kind": "A", "metadata": {"name": "x", "other": 1}, "status": {},
        "spec": {"size": 1, "sizes": 2, "labels": {"x": "y"}, "mode": null, "name": null, "maybe": null,
            "free": {"any": {"thing": 1}, "known": {"unknown": 1}},
            "pod": {"kind": "Pod", "spec": {"x": 1}}, "parts": [{"name": "a", "b": 1}]},
    });
    let schema = schema();
    let unknown = prune(&mut value, &schema, true);
    expect![[r#"["spec.free.known.unknown", "spec.parts[0].b", "spec.sizes", "status"]"#]]
        .assert_eq(&format!("{unknown:?}"));
    drop_nulls(&mut value, Some(&schema));
    fill_defaults(&mut value, &schema);
    expect![[r#"{"free":{"any":{"thing":1},"known":{}},"labels":{"x":"y"},"maybe":null,"mode":"one","parts":[{"name":"a","weight":7}],"pod":{"kind":"Pod","spec":{"x":1}},"size":1}"#]]
        .assert_eq(&value["spec"].to_string());
}

#[test]
fn formats_are_recognised() {
    let cases = [
        ("date-time", "2014-12-15T19:30:20.000Z", true),
        ("date-time", "2014-12-15", false),
        ("uuid4", "9D7C5CA8-9B1D-4A3F-9c1d-0123456789ab", true),
        ("uuid4", "9D7C5CA8-9B1D-3A3F-9c1d-0123456789ab", false),
        ("ipv4", "10.0.0.1", true),
        ("ipv4", "::1", false),
        ("cidr", "10.0.0.0/8", true),
        ("mac", "00:00:5e:00:53:01", true),
        ("duration", "1h30m", true),
        ("duration", "2 days", true),
        ("duration", "soon", false),
        ("isbn10", "0321751043", true),
        ("isbn13", "978-0321751041", true),
        ("hexcolor", "#FFF", true),
        ("rgbcolor", "rgb(255,255,255)", true),
        ("email", "a@example.com", true),
        ("email", "nobody", false),
        ("uri", "https://example.com/a", true),
        ("uri", "example", false),
        ("byte", "YQ==", true),
        ("hostname", "a.example.com", true),
        ("k8s-short-name", "a-b", true),
        ("nothing-known", "x", true),
    ];
    for (format, text, wanted) in cases {
        assert_eq!(
            super::formats::fits(format, text),
            wanted,
            "{format} {text}"
        );
    }
    assert!(is_known_format("string", "date-time") && !is_known_format("string", "int32"));
}

#[test]
fn patterns_stay_within_bounds() {
    assert!(crate::re2::compile("(a{1000}){1000}").is_err());
    let evil = Structural::read(&json!({"type": "string", "pattern": "^(a+)+$"}));
    let text = format!("{}!", "a".repeat(100_000));
    assert!(!validate(&text.into(), None, &evil, &Path::default()).is_empty());
}

proptest::proptest! {
    #[test]
    fn any_schema_takes_any_value(schema in value(), mut object in value()) {
        let schema = Structural::read(&schema);
        validate(&object, None, &schema, &Path::default());
        list_duplicates(&object, &schema);
        prune(&mut object, &schema, true);
        drop_nulls(&mut object, Some(&schema));
        fill_defaults(&mut object, &schema);
        // A second time changes nothing.
        let once = object.clone();
        fill_defaults(&mut object, &schema);
        proptest::prop_assert_eq!(once, object);
    }
}

fn value() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let key = prop::sample::select(vec![
        "type",
        "properties",
        "items",
        "additionalProperties",
        "default",
        "enum",
        "required",
        "pattern",
        "oneOf",
        "not",
        "maximum",
        "x-kubernetes-list-type",
        "x-kubernetes-preserve-unknown-fields",
        "a",
        "spec",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3i64..9).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec![
            "object", "array", "string", "integer", "set", "map", "a", "("
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(key.clone().prop_map(String::from), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
