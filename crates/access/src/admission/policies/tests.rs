use std::sync::Arc;

use machinery::schema::Schema;
use machinery::{ApiError, Object};
use serde_json::{Value, json};

use super::mutation::{Mutated, Troubles};
use super::validation::Outcome;
use super::{Policies, Shown};
use crate::admission::Operation;
use crate::admission::expression::{Names, request};
use crate::admission::rules::{Name, Subject};
use crate::{Lookup, Privileged, User};

struct World(Vec<(&'static str, Value)>);

impl Lookup for World {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let mut all = self.list(group, resource, namespace).into_iter();
        all.find(|o| o.name() == name)
    }

    fn list(&self, _group: &str, resource: &str, namespace: &str) -> Vec<Arc<Object>> {
        let own = self.0.iter().filter(|(own, _)| *own == resource);
        let all = own.map(|(_, value)| Arc::new(Object(value.as_object().unwrap().clone())));
        all.filter(|o| namespace.is_empty() || o.meta_str("namespace") == namespace)
            .collect()
    }
}

fn world(policy: Value, binding: Value) -> World {
    World(vec![
        (
            "namespaces",
            json!({"metadata": {"name": "ns", "labels": {"team": "x"}}}),
        ),
        (
            "configmaps",
            json!({"metadata": {"name": "limits", "namespace": "ns"}, "data": {"max": "3"}}),
        ),
        (
            "validatingadmissionpolicies",
            json!({"metadata": {"name": "p", "resourceVersion": "1"}, "spec": policy}),
        ),
        (
            "validatingadmissionpolicybindings",
            json!({"metadata": {"name": "b"}, "spec": binding}),
        ),
    ])
}

fn names() -> [Name<'static>; 1] {
    [Name {
        group: "apps",
        version: "v1",
        resource: "deployments",
    }]
}

/// Shows a write of a Deployment to the policies of a world.
fn with<T>(
    world: &World,
    object: &Value,
    act: impl FnOnce(&Policies, &Subject<'_>, &Shown<'_>) -> T,
) -> T {
    let mut policies = Policies::default();
    for (resource, value) in &world.0 {
        if let Some((mutating, part)) = super::part_of(super::GROUP, resource) {
            let object = Object(value.as_object().unwrap().clone());
            policies.apply(mutating, part, object.name(), Some(&object));
        }
    }
    let own = Object(object.as_object().unwrap().clone());
    let user = User::default();
    let find = |name: &str| Ok(world.get("", "namespaces", "", name).unwrap());
    let names = names();
    let subject = Subject {
        operation: Operation::Create,
        names: &names,
        subresource: "",
        namespace: "ns",
        object: Some(&own),
        old: None,
        find_namespace: &find,
    };
    let called = Names {
        group: "apps",
        version: "v1",
        resource: "deployments",
        kind: "Deployment",
        subresource: "",
    };
    let request = request(
        called,
        called,
        "ns",
        "web",
        Operation::Create,
        &user,
        false,
        Value::Null,
    );
    let namespace = json!({"metadata": {"name": "ns", "labels": {"team": "x"}}});
    let shown = Shown {
        request: &request,
        object: Some(object),
        old: None,
        namespace: Some(&namespace),
        params: None,
        user: &user,
        authorizer: &Privileged,
    };
    act(&policies, &subject, &shown)
}

fn deployment(replicas: i64) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "ns"},
        "spec": {"replicas": replicas}})
}

fn outcome(policy: Value, binding: Value, replicas: i64) -> Outcome {
    let world = world(policy, binding);
    let mut outcome = Outcome::default();
    with(&world, &deployment(replicas), |policies, subject, shown| {
        for hook in policies.validating() {
            assert!(hook.concerns(subject, "web").unwrap().is_some());
            if let Err(why) = hook.ready(&world) {
                outcome.misconfigured(hook, None, &why);
                continue;
            }
            for binding in &hook.bindings {
                if !binding.concerns(subject, "web").unwrap() {
                    continue;
                }
                match hook.params(binding, "ns", &world) {
                    Err(why) => outcome.misconfigured(hook, Some(binding), &why),
                    Ok(all) => {
                        for params in &all {
                            let params = params.as_ref();
                            let shown = Shown { params, ..*shown };
                            outcome.hear(hook, binding, hook.validate(&shown));
                        }
                    }
                }
            }
        }
    });
    outcome
}

fn asked(policy: Value, binding: Value, replicas: i64) -> String {
    let outcome = outcome(policy, binding, replicas);
    let refused = outcome.refusal(|why| ApiError::forbidden("apps", "deployments", "web", why));
    match refused {
        None => format!("ok {}", outcome.warnings.join("; ")),
        Some(error) => format!("{} {} {}", error.code, error.reason, error.message),
    }
}

fn rules() -> Value {
    json!({"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}]})
}

fn policy(rest: Value) -> Value {
    let mut policy = json!({"matchConstraints": rules(), "failurePolicy": "Fail"});
    let own = policy.as_object_mut().unwrap();
    own.extend(rest.as_object().unwrap().clone());
    policy
}

#[test]
fn a_broken_rule_refuses_in_the_words_of_the_reference() {
    let deny = json!({"policyName": "p", "validationActions": ["Deny"]});
    let simple = policy(json!({"validations": [{"expression": "object.spec.replicas < 3"}]}));
    assert_eq!(asked(simple.clone(), deny.clone(), 1), "ok ");
    assert_eq!(
        asked(simple.clone(), deny.clone(), 5),
        "422 Invalid deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: object.spec.replicas < 3"
    );
    let warn = json!({"policyName": "p", "validationActions": ["Warn"]});
    assert_eq!(
        asked(simple.clone(), warn, 5),
        "ok Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': failed expression: object.spec.replicas < 3"
    );
    let elsewhere = json!({"policyName": "p", "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": {"matchLabels": {"team": "y"}}}});
    assert_eq!(asked(simple, elsewhere, 5), "ok ");
    let told = policy(
        json!({"variables": [{"name": "n", "expression": "object.spec.replicas"}],
        "validations": [{"expression": "variables.n < 3", "messageExpression": "'at most 2, not ' + string(variables.n)", "reason": "Forbidden"}]}),
    );
    assert_eq!(
        asked(told, deny.clone(), 5),
        "403 Forbidden deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: at most 2, not 5"
    );
    let wrong = json!({"validations": [{"expression": "object.nothing == 1"}]});
    assert_eq!(
        asked(policy(wrong.clone()), deny.clone(), 1),
        "422 Invalid deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: expression 'object.nothing == 1' resulted in error: no such key: nothing"
    );
    let mut ignored = policy(wrong);
    ignored["failurePolicy"] = "Ignore".into();
    assert_eq!(asked(ignored, deny, 1), "ok ");
}

#[test]
fn parameters_are_found() {
    let with = policy(
        json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConditions": [{"name": "not-one", "expression": "object.spec.replicas != 1"}],
        "validations": [{"expression": "object.spec.replicas <= int(params.data.max)"}]}),
    );
    let binding = |name: &str, action: &str| {
        json!({"policyName": "p", "validationActions": ["Deny"],
            "paramRef": {"name": name, "parameterNotFoundAction": action}})
    };
    assert_eq!(asked(with.clone(), binding("limits", "Deny"), 3), "ok ");
    assert!(asked(with.clone(), binding("limits", "Deny"), 4).contains("failed expression"));
    assert_eq!(asked(with.clone(), binding("none", "Allow"), 9), "ok ");
    assert_eq!(
        asked(with, binding("none", "Deny"), 2),
        "422 Invalid deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
    );
}

#[test]
fn the_audit_log_is_told() {
    let audit = json!({"policyName": "p", "validationActions": ["Audit"]});
    let noted = policy(
        json!({"validations": [{"expression": "true"}, {"expression": "object.spec.replicas < 3"}],
        "auditAnnotations": [
            {"key": "count", "valueExpression": "string(object.spec.replicas)"},
            {"key": "none", "valueExpression": "object.spec.replicas > 3 ? '' : 'few'"},
        ]}),
    );
    let outcome = outcome(noted, audit, 5);
    assert!(
        outcome
            .refusal(|why| ApiError::forbidden("", "", "", why))
            .is_none()
    );
    assert_eq!(
        outcome.annotations(),
        [
            ("p/count".to_owned(), "5".to_owned()),
            (
                "validation.policy.admission.k8s.io/validation_failure".to_owned(),
                r#"[{"message":"failed expression: object.spec.replicas < 3","policy":"p","binding":"b","expressionIndex":1,"validationActions":["Audit"]}]"#
                    .to_owned()
            ),
        ]
    );
    let check = &outcome.checks[0];
    assert_eq!((check.error, check.action), ("invalid_error", "audit"));
}

fn mutated(mutations: Value) -> String {
    let mut all = world(json!({}), json!({}));
    all.0.truncate(2);
    let spec = policy(
        json!({"mutations": mutations, "reinvocationPolicy": "Never",
            "variables": [{"name": "twice", "expression": "object.spec.replicas * 2"}]}),
    );
    all.0.push((
        "mutatingadmissionpolicies",
        json!({"metadata": {"name": "p"}, "spec": spec}),
    ));
    all.0.push((
        "mutatingadmissionpolicybindings",
        json!({"metadata": {"name": "b"}, "spec": {"policyName": "p"}}),
    ));
    let mut object = deployment(5);
    object["metadata"]["labels"] = json!({"a/b": "1"});
    object["spec"]["template"] = json!({"spec": {"containers": [{"name": "x", "image": "y"}]}});
    let kind = api::by_kind("apps", "v1", "Deployment").unwrap();
    let schema: Schema = kind.schema().unwrap();
    with(&all, &object.clone(), |policies, _, shown| {
        let mut troubles = Troubles::default();
        let hook = &policies.mutating()[0];
        for index in 0..hook.mutations() {
            let before = object.clone();
            let object_now = Some(&before);
            let shown = Shown {
                object: object_now,
                ..*shown
            };
            match hook.mutate(index, &shown, &schema) {
                Ok(Mutated::Unchanged) => {}
                Ok(Mutated::Merged(new) | Mutated::Patched(new)) => object = new,
                Err(why) => troubles.add(hook, Some("b"), &why, false),
            }
        }
        let refused =
            troubles.refusal(|why| ApiError::forbidden("apps", "deployments", "web", why));
        match refused {
            Some(error) => format!("{} {} {}", error.code, error.reason, error.message),
            None => format!("{} {}", object["metadata"]["labels"], object["spec"]),
        }
    })
}

fn apply(text: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": text}})
}

fn patch(text: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": text}})
}

#[test]
fn objects_are_changed() {
    let labels = "Object{metadata: Object.metadata{labels: {'new': string(variables.twice)}}}";
    let containers = "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{
        containers: object.spec.template.spec.containers.map(c, Object.spec.template.spec.containers{name: c.name, tty: true})}}}}";
    assert_eq!(
        mutated(json!([apply(labels), apply(containers)])),
        r#"{"a/b":"1","new":"10"} {"replicas":5,"template":{"spec":{"containers":[{"image":"y","name":"x","tty":true}]}}}"#
    );
    let patches = "[JSONPatch{op: 'test', path: '/spec/replicas', value: 5},
        JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('c/d'), value: 'x'},
        JSONPatch{op: 'copy', from: '/metadata/labels/a~1b', path: '/metadata/labels/e'},
        JSONPatch{op: 'add', path: '/spec/selector', value: Object.spec.selector{matchLabels: {'f': 'g'}}}]";
    assert_eq!(
        mutated(json!([patch(patches)])),
        r#"{"a/b":"1","c/d":"x","e":"1"} {"replicas":5,"selector":{"matchLabels":{"f":"g"}},"template":{"spec":{"containers":[{"image":"y","name":"x"}]}}}"#
    );
    let untrue = "[JSONPatch{op: 'test', path: '/spec/replicas', value: 6}, JSONPatch{op: 'remove', path: '/spec'}]";
    assert_eq!(
        mutated(json!([patch(untrue)])),
        r#"{"a/b":"1"} {"replicas":5,"template":{"spec":{"containers":[{"image":"y","name":"x"}]}}}"#
    );
}

#[test]
fn changes_that_make_no_sense_are_refused_in_the_words_of_the_reference() {
    let denied =
        |why: &str| format!("403 Invalid policy 'p' with binding 'b' denied request: {why}");
    for (mutation, why) in [
        (
            apply("Object{spec: Object.spec{other: 1}}"),
            "error applying patch: failed to convert patch object to typed object: .spec.other: field not declared in schema",
        ),
        (
            apply("Object{spec: Object.wrong{replicas: 1}}"),
            "type mismatch: unexpected type name \"Object.wrong\", expected \"Object.spec\", which matches field name path from root Object type",
        ),
        (
            apply(
                "Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: {'a': 'b'}}}}",
            ),
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector",
        ),
        (
            apply("Object{spec: Object.spec{replicas: object.none}}"),
            "expression 'Object{spec: Object.spec{replicas: object.none}}' resulted in error: no such key: none",
        ),
        (
            patch("[JSONPatch{op: 'remove', path: '/spec/none'}]"),
            "JSON Patch: error in remove for path: '/spec/none': Unable to remove nonexistent key: none: missing value",
        ),
    ] {
        assert_eq!(mutated(json!([mutation])), denied(why));
    }
}
