//! Rules and selectors over writes.

use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::RuleWithOperations;
use machinery::{ApiError, Object};
use serde_json::{Value, json};

use crate::admission::Operation;
use crate::admission::rules::{Criteria, Name, Subject, is_exempt};

const PODS: Name<'static> = Name {
    group: "",
    version: "v1",
    resource: "pods",
};

fn labelled(labels: Value) -> Object {
    Object::from_value(json!({"metadata": {"labels": labels}})).expect("an object")
}

fn criteria(rule: Value, namespaces: Value, objects: Value, policy: &str) -> Criteria {
    let rule: RuleWithOperations = serde_json::from_value(rule).expect("a rule");
    let namespaces = serde_json::from_value(namespaces).expect("a selector");
    let objects = serde_json::from_value(objects).expect("a selector");
    Criteria::new(vec![rule], Some(&namespaces), Some(&objects), Some(policy)).expect("criteria")
}

fn rule(groups: &[&str], resources: &[&str], scope: &str) -> Value {
    json!({"operations": ["CREATE"], "apiGroups": groups, "apiVersions": ["v1"], "resources": resources, "scope": scope})
}

fn in_namespaces(name: &str) -> Result<Arc<Object>, ApiError> {
    match name {
        "a" => Ok(Arc::new(labelled(json!({"env": "test"})))),
        other => Err(ApiError::not_found("", "namespaces", other)),
    }
}

fn asked(
    criteria: &Criteria,
    names: &[Name<'_>],
    subresource: &str,
    namespace: &str,
) -> Option<usize> {
    let subject = Subject {
        operation: Operation::Create,
        names,
        subresource,
        namespace,
        object: Some(&labelled(json!({"app": "x"}))),
        old: None,
        find_namespace: &in_namespaces,
    };
    criteria.matches(&subject).expect("a namespace")
}

#[test]
fn rules_name_resources_with_wildcards() {
    let found = |resources: &[&str], subresource: &str| {
        let criteria = criteria(rule(&[""], resources, "*"), json!({}), json!({}), "Exact");
        asked(&criteria, &[PODS], subresource, "a").is_some()
    };
    for (resources, main, exec) in [
        (["pods"], true, false),
        (["pods/exec"], false, true),
        (["pods/*"], true, true),
        (["*"], true, false),
        (["*/exec"], false, true),
        (["*/*"], true, true),
        (["services"], false, false),
    ] {
        assert_eq!(
            (found(&resources, ""), found(&resources, "exec")),
            (main, exec),
            "{resources:?}"
        );
    }
}

#[test]
fn scopes_know_that_namespaces_are_in_none() {
    let namespaces = Name {
        resource: "namespaces",
        ..PODS
    };
    let found = |scope: &str, name: Name<'_>, namespace: &str| {
        let criteria = criteria(rule(&["*"], &["*"], scope), json!({}), json!({}), "Exact");
        asked(&criteria, &[name], "", namespace).is_some()
    };
    assert!(found("Namespaced", PODS, "a") && !found("Namespaced", namespaces, "a"));
    assert!(!found("Cluster", PODS, "a") && found("Cluster", namespaces, "a"));
    assert!(found("Cluster", PODS, "") && found("*", namespaces, "a"));
}

#[test]
fn equivalent_resources_match_unless_criteria_are_exact() {
    let others = [
        Name {
            group: "events.k8s.io",
            ..PODS
        },
        PODS,
    ];
    for (policy, place) in [("Equivalent", Some(1)), ("Exact", None)] {
        let criteria = criteria(rule(&[""], &["pods"], "*"), json!({}), json!({}), policy);
        assert_eq!(asked(&criteria, &others, "", "a"), place);
    }
}

#[test]
fn labels_of_objects_and_namespaces_select() {
    let found = |namespaces: Value, objects: Value, namespace: &str| {
        let criteria = criteria(rule(&[""], &["pods"], "*"), namespaces, objects, "Exact");
        asked(&criteria, &[PODS], "", namespace).is_some()
    };
    let label = |key: &str, value: &str| json!({"matchLabels": {key: value}});
    assert!(found(label("env", "test"), label("app", "x"), "a"));
    assert!(!found(label("env", "other"), json!({}), "a"));
    assert!(!found(json!({}), label("app", "y"), "a"));
    // Nothing outside of namespaces is exempt.
    assert!(found(label("env", "other"), json!({}), ""));
}

#[test]
fn the_old_object_is_looked_at_too_and_a_namespace_has_its_own_labels() {
    let criteria = criteria(
        rule(&[""], &["*"], "*"),
        json!({"matchLabels": {"env": "new"}}),
        json!({"matchLabels": {"app": "old"}}),
        "Exact",
    );
    let (new, old) = (
        labelled(json!({"env": "new"})),
        labelled(json!({"app": "old"})),
    );
    let subject = Subject {
        operation: Operation::Create,
        names: &[Name {
            resource: "namespaces",
            ..PODS
        }],
        subresource: "",
        namespace: "b",
        object: Some(&new),
        old: Some(&old),
        find_namespace: &in_namespaces,
    };
    assert_eq!(criteria.matches(&subject), Ok(Some(0)));
}

#[test]
fn nobody_is_asked_about_who_is_asked() {
    assert!(is_exempt(
        "admissionregistration.k8s.io",
        "ValidatingWebhookConfiguration"
    ));
    assert!(!is_exempt("apps", "ValidatingWebhookConfiguration"));
}
