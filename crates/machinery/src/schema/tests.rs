use serde_json::json;

use super::*;

fn source(name: &str) -> Option<serde_json::Map<String, Value>> {
    let all = json!({
        "io.k8s.api.apps.v1.Thing": {
            "type": "object",
            "properties": {
                "spec": {"$ref": "#/$defs/io.k8s.api.apps.v1.ThingSpec"},
                "metadata": {"type": "object", "properties": {
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                }},
            },
        },
        "io.k8s.api.apps.v1.ThingSpec": {
            "type": "object",
            "properties": {
                "replicas": {"type": "integer", "format": "int32"},
                "self": {"$ref": "#/$defs/io.k8s.api.apps.v1.Thing"},
                "list": {"type": "array", "items": {"$ref": "#/$defs/io.k8s.api.apps.v1.ThingSpec"}},
                "port": {"x-kubernetes-int-or-string": true},
                "data": {"type": "string", "format": "byte"},
                "at": {"type": "string", "format": "date-time"},
                "free": {"type": "object"},
                "atomic": {"$ref": "#/$defs/io.k8s.api.apps.v1.ThingSpec", "x-kubernetes-map-type": "atomic"},
            },
            "required": ["replicas"],
        },
    });
    name.ends_with(".Thing")
        .then(|| all.as_object().cloned().unwrap_or_default())
}

fn thing() -> Schema {
    Registry::new(source)
        .get("io.k8s.api.apps.v1.Thing")
        .unwrap()
}

#[test]
fn definitions_refer_to_each_other() {
    let registry = Registry::new(source);
    assert!(registry.get("io.k8s.api.apps.v1.Other").is_none());
    let thing = registry.get("io.k8s.api.apps.v1.Thing").unwrap();
    assert_eq!(registry.len(), 2);
    let spec = thing.property("spec").unwrap();
    let again = spec.property("self").unwrap().property("spec").unwrap();
    assert_eq!(again.property("replicas").unwrap().format(), Format::Int32);
    assert_eq!(spec.property("list").unwrap().type_name(), "[]v1.ThingSpec");
    assert_eq!(spec.property("atomic").unwrap().map_type(), MapType::Atomic);
    assert_eq!(spec.map_type(), MapType::Granular);
    assert_eq!(spec.required().collect::<Vec<_>>(), ["replicas"]);
}

#[test]
fn unknown_fields_have_paths() {
    let value = json!({
        "spec": {"replicas": 1, "foo": 1, "list": [{}, {"bar": {"x": 1}}], "free": {"any": [1]}},
        "metadata": {"labels": {"any": "x"}}, "zoo": null,
    });
    let report = validate_fields(
        &value,
        &thing(),
        &["duplicate field \"spec.replicas\"".to_owned()],
    );
    assert_eq!(report.type_error, None);
    assert_eq!(
        strict_error(&report.unknown),
        "strict decoding error: duplicate field \"spec.replicas\", unknown field \"spec.foo\", \
         unknown field \"spec.list[1].bar\", unknown field \"zoo\""
    );
    let mut pruned = value;
    prune(&mut pruned, &thing());
    assert!(validate_fields(&pruned, &thing(), &[]).is_clean());
    assert_eq!(pruned["spec"]["list"], json!([{}, {}]));
}

#[test]
fn complaints_follow_the_document() {
    let text = br#"{"z":1,"spec":{"b":{"c":1,"c":2},"replicas":1,"a":1,"a":2,"replicas":2,"list":[{"q":1}]}}"#;
    let decoded = crate::codec::decode_json(text).unwrap();
    let value = decoded.object.into_value();
    let mut complaints = validate_fields(&value, &thing(), &decoded.duplicates).unknown;
    sort_complaints(&mut complaints, text);
    let expected = [
        "unknown field \"z\"",
        "unknown field \"spec.b\"",
        "unknown field \"spec.a\"",
        "duplicate field \"spec.replicas\"",
        "unknown field \"spec.list[0].q\"",
    ];
    assert_eq!(complaints, expected);
}

#[test]
fn type_errors_sound_like_go() {
    let error = |value| {
        validate_fields(&value, &thing(), &[])
            .type_error
            .unwrap_or_default()
    };
    for (value, expected) in [
        (
            json!({"spec": {"replicas": "1"}}),
            "json: cannot unmarshal string into Go struct field ThingSpec.spec.replicas of type int32",
        ),
        (
            json!({"spec": {"replicas": 1.5}}),
            "json: cannot unmarshal number 1.5 into Go struct field ThingSpec.spec.replicas of type int32",
        ),
        (
            json!({"spec": {"replicas": 3_000_000_000_i64}}),
            "json: cannot unmarshal number 3000000000 into Go struct field ThingSpec.spec.replicas of type int32",
        ),
        (
            json!({"spec": []}),
            "json: cannot unmarshal array into Go struct field Thing.spec of type v1.ThingSpec",
        ),
        (
            json!({"spec": {"list": [{"list": 1}]}}),
            "json: cannot unmarshal number into Go struct field ThingSpec.spec.list.list of type []v1.ThingSpec",
        ),
        (
            json!({"spec": {"port": true}}),
            "json: cannot unmarshal bool into Go struct field ThingSpec.spec.port of type int32",
        ),
        (
            json!({"spec": {"data": "a$"}}),
            "illegal base64 data at input byte 1",
        ),
        (
            json!({"spec": {"at": "noon"}}),
            "parsing time \"noon\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"noon\" as \"2006\"",
        ),
        (
            json!([]),
            "json: cannot unmarshal array into Go value of type v1.Thing",
        ),
        (
            json!({"spec": {"replicas": null, "port": "http", "at": "2026-01-01T00:00:00Z"}}),
            "",
        ),
    ] {
        assert_eq!(error(value), expected);
    }
}
