use std::sync::Arc;

use machinery::Object;
use serde_json::{Value, json};

use super::{Policies, Write};
use crate::admission::{Notes, Operation, Request, Settings};
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

fn asked(policy: Value, binding: Value, replicas: i64) -> String {
    let world = world(policy, binding);
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "ns"},
        "spec": {"replicas": replicas}});
    let object = Object(object.as_object().unwrap().clone());
    let (user, settings, notes) = (User::default(), Settings::default(), Notes::default());
    let request = Request {
        user: &user,
        operation: Operation::Create,
        group: "apps",
        resource: "deployments",
        subresource: "",
        kind: "Deployment",
        namespace: "ns",
        name: "web",
        old: None,
        name_suffix: "abcde",
        settings: &settings,
        notes: &notes,
        authorizer: &Privileged,
    };
    let write = Write {
        version: "v1",
        dry_run: false,
    };
    match Policies::default().validate(&request, write, &object, &world) {
        Ok(warnings) => format!("ok {}", warnings.join("; ")),
        Err(error) => format!("{} {} {}", error.code, error.reason, error.message),
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
