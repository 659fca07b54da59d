use expect_test::{Expect, expect};
use jiff::Timestamp;
use machinery::Object;
use serde_json::{Value, json};

use super::naming;
use crate::kind::Part;
use crate::testing::{check_update, create_errors};

fn definition(schema: &str) -> String {
    format!(
        r#"{{
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {{"name": "crontabs.stable.example.com"}},
        "spec": {{"group": "stable.example.com", "scope": "Namespaced", "names": {{"plural": "crontabs", "kind": "CronTab"}},
            "versions": [{{"name": "v1", "served": true, "storage": true, "schema": {{"openAPIV3Schema": {schema}}}}}]}}}}"#
    )
}

fn check(schema: &str, expect: Expect) {
    expect.assert_eq(&create_errors(&definition(schema)));
}

#[test]
fn a_schema_must_be_structural() {
    check(
        r#"{"properties": {"a": {}}}"#,
        expect![[r#"
            spec.validation.openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields
            spec.validation.openAPIV3Schema.type: Required value: must not be empty at the root
        "#]],
    );
    check(
        r#"{"type": "object", "anyOf": [{"properties": {"b": {"type": "string"}}}]}"#,
        expect![[r#"
            spec.validation.openAPIV3Schema.anyOf[0].properties[b].type: Forbidden: must be empty to be structural
            spec.validation.openAPIV3Schema.properties[b]: Required value: because it is defined in spec.validation.openAPIV3Schema.anyOf[0].properties[b]
        "#]],
    );
    check(
        r#"{"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}},
            "a": {"type": "array"}, "e": {"type": "string", "x-kubernetes-embedded-resource": true}}}"#,
        expect![[r#"
            spec.validation.openAPIV3Schema.properties[a].items: Required value: must be specified
            spec.validation.openAPIV3Schema.properties[e].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields
            spec.validation.openAPIV3Schema.properties[e].type: Invalid value: "string": must be object if x-kubernetes-embedded-resource is true
            spec.validation.openAPIV3Schema.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified
        "#]],
    );
}

#[test]
fn what_a_schema_cannot_say() {
    check(
        r##"{"type": "object", "properties": {
            "a": {"type": "object", "properties": {"x": {"type": "string"}}, "additionalProperties": {"type": "string"}},
            "b": {"type": "array", "uniqueItems": true, "items": {"type": "string"}},
            "c": {"type": "text"}, "d": {"type": "string", "$ref": "#/a"},
            "e": {"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object", "properties": {"k": {"type": "string"}}},
                "x-kubernetes-list-map-keys": ["k", "l"]},
            "f": {"type": "integer", "default": "x"}, "g": {"type": "string", "pattern": "("}}}"##,
        expect![[r#"
            spec.validation.openAPIV3Schema.properties[g].pattern: Invalid value: "(": must be a valid regular expression, but isn't: error parsing regexp: missing closing ): `(`
            spec.validation.openAPIV3Schema.properties[a].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive
            spec.validation.openAPIV3Schema.properties[b].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic
            spec.validation.openAPIV3Schema.properties[c].type: Unsupported value: "text": supported values: "array", "boolean", "integer", "number", "object", "string"
            spec.validation.openAPIV3Schema.properties[d].$ref: Forbidden: $ref is not supported
            spec.validation.openAPIV3Schema.properties[e].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property
            spec.validation.openAPIV3Schema.properties[e].x-kubernetes-list-map-keys: Invalid value: ["k","l"]: entries must all be names of item properties
        "#]],
    );
    check(
        r#"{"type": "object", "properties": {"f": {"type": "object", "default": {"a": 1}, "properties": {"b": {"type": "integer"}}}}}"#,
        expect![[r#"
            spec.validation.openAPIV3Schema.properties[f].default: Invalid value: {"a":1}: must not have unknown fields
        "#]],
    );
}

#[test]
fn rules_are_read_with_the_schema() {
    check(
        r#"{"type": "object", "properties": {"a": {"type": "integer"},
            "l": {"type": "array", "items": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > oldSelf"}]}}},
            "x-kubernetes-validations": [{"rule": "self.a > 'x'"}, {"rule": "self.metadata.name != 'x'"}, {"rule": "self.a"},
                {"rule": "self.a > 1", "messageExpression": "self.b"}, {"rule": "self.a > 1", "optionalOldSelf": true}]}"#,
        expect![[r#"
            spec.validation.openAPIV3Schema.properties[l].items.x-kubernetes-validations[0].rule: Invalid value: "self > oldSelf": oldSelf cannot be used on the uncorrelatable portion of the schema within spec.validation.openAPIV3Schema.properties[l]
        "#]],
    );
    check(
        r#"{"type": "object", "properties": {"a": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": "self.a > 'x'"}, {"rule": "self.metadata.name != 'x'"}, {"rule": "self.a"},
                {"rule": "self.a > 1", "messageExpression": "self.b"}, {"rule": "self.a > 1", "optionalOldSelf": true}]}"#,
        expect![[r#"
            spec.validation.openAPIV3Schema.x-kubernetes-validations[0].rule: Invalid value: {"rule":"self.a > 'x'"}: compilation failed: ERROR: <input>:1:8: found no matching overload for '_>_' applied to '(int, string)'
             | self.a > 'x'
             | .......^
            spec.validation.openAPIV3Schema.x-kubernetes-validations[2].rule: Invalid value: {"rule":"self.a"}: cel expression must evaluate to a bool
            spec.validation.openAPIV3Schema.x-kubernetes-validations[3].messageExpression: Invalid value: {"messageExpression":"self.b","rule":"self.a > 1"}: messageExpression compilation failed: ERROR: <input>:1:5: undefined field 'b'
             | self.b
             | ....^
            spec.validation.openAPIV3Schema.x-kubernetes-validations[4].optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule
        "#]],
    );
}

#[test]
fn what_real_definitions_have() {
    check(
        r##"{"type": "object", "properties": {
            "ref": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {
                "major": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf"}]}}},
            "cookie": {"type": "string", "pattern": "^[^()<>@,;:\\\"\\/[\\]?={} \\t\\x7f]+$"}}}"##,
        expect![""],
    );
}

#[test]
fn names_versions_and_conversion() {
    let mut tree: Value = serde_json::from_str(&definition(r#"{"type": "object"}"#)).unwrap();
    tree["metadata"]["name"] = "other".into();
    tree["spec"]["group"] = "example".into();
    tree["spec"]["names"]["shortNames"] = json!(["CT"]);
    tree["spec"]["versions"][0]["storage"] = false.into();
    tree["spec"]["versions"][0]["subresources"] =
        json!({"scale": {"specReplicasPath": "spec.x", "statusReplicasPath": ".spec.y"}});
    tree["spec"]["versions"][0]["additionalPrinterColumns"] =
        json!([{"name": "", "type": "text", "jsonPath": "x"}]);
    tree["spec"]["conversion"] = json!({"strategy": "Webhook"});
    let errors = create_errors(&tree.to_string());
    let short = |line: &str| match line.find("Invalid value: [") {
        Some(at) => format!(
            "{}...{}",
            &line[..at],
            line.rsplit(']').next().unwrap_or("")
        ),
        None => line.to_owned(),
    };
    let errors: Vec<String> = errors.lines().map(short).collect();
    expect![[r#"
        metadata.name: Invalid value: "other": must be spec.names.plural+"."+spec.group
        spec.group: Invalid value: "example": should be a domain with at least one dot
        spec.subresources.scale.specReplicasPath: Invalid value: "spec.x": must be a simple json path starting with .
        spec.subresources.scale.statusReplicasPath: Invalid value: ".spec.y": should be a json path under .status
        spec.additionalPrinterColumns[0].name: Required value
        spec.additionalPrinterColumns[0].type: Invalid value: "text": must be one of boolean,date,integer,number,string
        spec.additionalPrinterColumns[0].JSONPath: Invalid value: "x": must be a simple json path starting with .
        spec.versions: ...: must have exactly one version marked as storage version
        spec.names.shortNames[0]: Invalid value: "CT": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
        spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook
        spec.conversion.conversionReviewVersions: Required value
        status.storedVersions: Invalid value: null: must have at least one stored version"#]]
    .assert_eq(&errors.join("\n"));
}

#[test]
fn what_is_established_keeps_its_names() {
    let old = definition(r#"{"type": "object"}"#);
    let mut tree: Value = serde_json::from_str(&old).unwrap();
    tree["spec"]["names"]["plural"] = "others".into();
    check_update(
        Part::Main,
        &old,
        &tree.to_string(),
        expect![[r#"
            spec.names.plural: Invalid value: "others": field is immutable
        "#]],
    );
}

#[test]
fn names_are_settled_once() {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut tree: Value = serde_json::from_str(&definition(r#"{"type": "object"}"#)).unwrap();
    tree["spec"]["names"]["listKind"] = "CronTabList".into();
    let first = Object::from_value(tree).unwrap();
    let settled = naming::settle(&first, std::iter::empty(), now).unwrap();
    assert!(naming::is_true(&settled, "NamesAccepted") && naming::is_true(&settled, "Established"));
    assert_eq!(naming::settle(&settled, std::iter::empty(), now), None);
    let mut second = first.clone();
    second.set_meta_str("name", "others.stable.example.com");
    second
        .object_at_mut(&["spec", "names"])
        .insert("plural".into(), "others".into());
    let refused = naming::settle(&second, std::iter::once(&settled), now).unwrap();
    assert!(!naming::is_true(&refused, "Established"));
    let conditions = &refused.0["status"]["conditions"];
    assert_eq!(
        (&conditions[0]["reason"], &conditions[0]["message"]),
        (
            &json!("ListKindConflict"),
            &json!("\"CronTabList\" is already in use")
        )
    );
    assert_eq!(
        naming::settle(&refused, std::iter::once(&settled), now),
        None
    );
}

#[test]
fn authorities_of_a_conversion_webhook_are_looked_at_when_somebody_relies_on_them() {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let with = |bundle: &str, established: &str| {
        let mut tree: Value = serde_json::from_str(&definition(r#"{"type": "object"}"#)).unwrap();
        tree["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
            "conversionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://a.b/c", "caBundle": bundle}}});
        tree["status"] = json!({"storedVersions": ["v1"], "acceptedNames": tree["spec"]["names"],
            "conditions": [{"type": "Established", "status": established}]});
        tree
    };
    let bad = "bm9uZQ==";
    assert_eq!(create_errors(&with(bad, "False").to_string()), "");
    let new = Object::from_value(with(bad, "False")).unwrap();
    let settled = naming::settle(&new, std::iter::empty(), now).unwrap();
    let established = &settled.0["status"]["conditions"][0];
    assert_eq!(
        (&established["status"], &established["reason"]),
        (&json!("False"), &json!("InvalidCABundle"))
    );
    let wrong = |old: Value, new: Value| -> Vec<String> {
        let typed = |tree: Value| serde_json::from_value(tree).unwrap();
        let errors = super::validation::update(&typed(new), &typed(old));
        let all = errors.0.iter().map(ToString::to_string);
        all.filter(|error| error.contains("caBundle")).collect()
    };
    expect![[r#"
        [
            "spec.conversion.webhookClientConfig.caBundle: Invalid value: \"bm9uZQ==\": unable to load root certificates: unable to parse bytes as PEM block",
        ]
    "#]]
    .assert_debug_eq(&wrong(with("", "True"), with(bad, "True")));
    assert!(wrong(with("", "False"), with(bad, "False")).is_empty());
    // What was bad before may stay.
    assert!(wrong(with(bad, "True"), with(bad, "True")).is_empty());
}
