//! A request as a `SubjectAccessReview`, and the answer as a verdict.

use machinery::labels::Operator;
use serde_json::{Map, Value, json};

use crate::{Attributes, Decision, User, Verdict};

/// What a requester controls of a question; longer than this it is not kept in a cache.
const MOST_KEPT: usize = 10_000;

/// The review that asks about a request. In `v1beta1` the groups stand under another name.
pub fn question(version: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    if version == "v1beta1"
        && let Some(fields) = spec.as_object_mut()
        && let Some(groups) = fields.remove("groups")
    {
        fields.insert("group".to_owned(), groups);
    }
    json!({
        "apiVersion": format!("authorization.k8s.io/{version}"), "kind": "SubjectAccessReview",
        "metadata": {}, "spec": spec, "status": {"allowed": false},
    })
}

/// The specification of the review.
pub fn spec(attributes: &Attributes) -> Value {
    let User {
        name,
        uid,
        groups,
        extra,
    } = &*attributes.user;
    let mut spec = Map::new();
    if attributes.is_resource_request {
        spec.insert("resourceAttributes".into(), resource(attributes));
    } else {
        let mut part = Map::new();
        put(&mut part, "path", &attributes.path);
        put(&mut part, "verb", &attributes.verb);
        spec.insert("nonResourceAttributes".into(), part.into());
    }
    put(&mut spec, "user", name);
    if !groups.is_empty() {
        spec.insert("groups".into(), json!(groups));
    }
    if !extra.is_empty() {
        spec.insert("extra".into(), json!(extra));
    }
    put(&mut spec, "uid", uid);
    spec.into()
}

fn put(map: &mut Map<String, Value>, key: &str, value: &str) {
    if !value.is_empty() {
        map.insert(key.to_owned(), value.into());
    }
}

fn resource(attributes: &Attributes) -> Value {
    let mut part = Map::new();
    for (key, value) in [
        ("namespace", &attributes.namespace),
        ("verb", &attributes.verb),
        ("group", &attributes.api_group),
        ("version", &attributes.api_version),
        ("resource", &attributes.resource),
        ("subresource", &attributes.subresource),
        ("name", &attributes.name),
    ] {
        put(&mut part, key, value);
    }
    let fields = attributes.field_selector.iter().map(|r| {
        let operator = if r.equals { "In" } else { "NotIn" };
        json!({"key": r.field, "operator": operator, "values": [r.value]})
    });
    let fields: Vec<Value> = fields.collect();
    if !fields.is_empty() {
        part.insert("fieldSelector".into(), json!({"requirements": fields}));
    }
    let labels = attributes
        .label_selector
        .iter()
        .flat_map(|s| s.requirements());
    let labels = labels.filter_map(|r| {
        let operator = match r.operator() {
            Operator::Equals | Operator::DoubleEquals | Operator::In => "In",
            Operator::NotEquals | Operator::NotIn => "NotIn",
            Operator::Exists => "Exists",
            Operator::DoesNotExist => "DoesNotExist",
            // Left out, the question is only broader.
            Operator::GreaterThan | Operator::LessThan => return None,
        };
        let mut one = json!({"key": r.key(), "operator": operator});
        if !r.values().is_empty() {
            one["values"] = json!(r.values());
        }
        Some(one)
    });
    let labels: Vec<Value> = labels.collect();
    if !labels.is_empty() {
        part.insert("labelSelector".into(), json!({"requirements": labels}));
    }
    part.into()
}

/// What the review's status says.
pub fn verdict(answer: &Value) -> Verdict {
    let status = &answer["status"];
    let flag = |key: &str| status[key].as_bool().unwrap_or(false);
    let reason = status["reason"].as_str().unwrap_or_default().to_owned();
    let (decision, error) = match (flag("denied"), flag("allowed")) {
        (true, true) => (
            Decision::Deny,
            "webhook subject access review returned both allow and deny response",
        ),
        (true, false) => (Decision::Deny, ""),
        (false, true) => (Decision::Allow, ""),
        (false, false) => (Decision::NoOpinion, ""),
    };
    Verdict {
        decision,
        reason,
        error: error.to_owned(),
    }
}

/// Whether the answer may be kept: somebody who asks about very long names wants to fill the cache.
pub fn may_be_kept(attributes: &Attributes) -> bool {
    let controlled = [
        &attributes.namespace,
        &attributes.verb,
        &attributes.api_group,
        &attributes.api_version,
        &attributes.resource,
        &attributes.subresource,
        &attributes.name,
        &attributes.path,
    ];
    controlled.iter().map(|text| text.len()).sum::<usize>() < MOST_KEPT
}
