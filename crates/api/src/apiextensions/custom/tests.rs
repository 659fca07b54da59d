use expect_test::expect;
use machinery::Object;
use serde_json::{Value, json};

use super::Definition;
use crate::kind::{KindRef, Part};
use crate::testing::context;

fn kind() -> KindRef {
    let definition = json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {
                        "size": {"type": "integer", "default": 2}, "max": {"type": "integer"},
                        "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}},
                        "x-kubernetes-validations": [
                            {"rule": "!has(self.max) || self.size <= self.max", "message": "too big", "fieldPath": ".size"},
                            {"rule": "self.size >= oldSelf.size", "messageExpression": "'no less than ' + string(oldSelf.size)", "reason": "FieldValueForbidden"}]},
                    "status": {"type": "object", "properties": {"n": {"type": "integer"}}}}}}}]},
        "status": {"acceptedNames": {"plural": "widgets", "kind": "Widget"}, "conditions": [{"type": "Established", "status": "True"}]},
    });
    let definition = Definition::read(&Object::from_value(definition).unwrap()).unwrap();
    definition.served().remove(0)
}

fn object(spec: Value) -> Object {
    let tree = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a", "namespace": "n"}, "spec": spec});
    Object::from_value(tree).unwrap()
}

fn errors(new: Value, old: Option<Value>) -> String {
    let kind = kind();
    let mut new = object(new);
    kind.default(&mut new).unwrap();
    let errors = match old {
        None => kind.validate_create(&context(), &new),
        Some(old) => kind.validate_update(&context(), Part::Main, &new, &object(old)),
    };
    let errors: Vec<String> = errors.unwrap().0.iter().map(ToString::to_string).collect();
    errors.join("\n")
}

#[test]
fn rules_hold_for_objects() {
    expect![""].assert_eq(&errors(json!({"max": 2}), None));
    expect!["spec.size: Invalid value: too big"].assert_eq(&errors(json!({"max": 1}), None));
    expect!["spec: Forbidden: no less than 3"]
        .assert_eq(&errors(json!({}), Some(json!({"size": 3}))));
    // What was wrong before may stay so.
    expect![""].assert_eq(&errors(
        json!({"size": 5, "max": 1}),
        Some(json!({"size": 5, "max": 1})),
    ));
    expect![[r#"
        spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"
        <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"#]]
    .assert_eq(&errors(json!({"size": "x"}), None));
}

#[test]
fn embedded_objects_have_metadata() {
    let kind = kind();
    let mut new = object(
        json!({"pod": {"kind": "Pod", "metadata": {"name": "x", "wrong": 1}, "spec": {"any": 1}}}),
    );
    let report = kind.check_fields(&mut new, &[]);
    assert_eq!(
        report.unknown,
        ["unknown field \"spec.pod.metadata.wrong\""]
    );
    assert_eq!(new.0["spec"]["pod"]["spec"]["any"], 1);
    let errors = kind.validate_create(&context(), &new).unwrap();
    expect!["spec.pod.apiVersion: Required value"].assert_eq(&errors.0[0].to_string());
}

#[test]
fn a_status_write_changes_the_status_alone() {
    let kind = kind();
    let old = object(json!({"size": 1}));
    let mut new = object(json!({"size": 2}));
    new.0.insert("status".into(), json!({"n": "x"}));
    kind.prepare_update(&context(), Part::Status, &mut new, &old);
    assert_eq!(new.0["spec"], old.0["spec"]);
    let errors = kind
        .validate_update(&context(), Part::Status, &new, &old)
        .unwrap();
    assert!(
        errors
            .aggregate()
            .contains("status.n: Invalid value: \"string\": n in body must be of type integer")
    );
}
