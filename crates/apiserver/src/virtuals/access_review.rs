//! The access reviews: what a user, or the caller, may do.
//!
//! Behaviour: `pkg/registry/authorization`.

use std::collections::BTreeMap;

use access::{Attributes, Decision, FieldRequirement, User};
use k8s_openapi::api::authorization::v1::{
    FieldSelectorAttributes, LabelSelectorAttributes, ResourceAttributes,
};
use machinery::labels::{Operator, Requirement};
use machinery::{ApiError, Object, fields, labels};
use serde_json::{Map, Value, json};

use crate::call::Call;

/// `SubjectAccessReview`.
pub(super) async fn subject(call: &Call, object: &mut Object) -> Result<(), ApiError> {
    let user = subject_of(object);
    decide(call, object, user).await
}

/// `LocalSubjectAccessReview`: for one namespace only.
pub(super) async fn local(call: &Call, object: &mut Object) -> Result<(), ApiError> {
    let asked = object.str_at(&["spec", "resourceAttributes", "namespace"]);
    if asked != call.info.namespace {
        let why = format!(
            "spec.resourceAttributes.namespace must match namespace: {}",
            call.info.namespace
        );
        return Err(ApiError::bad_request(why));
    }
    subject(call, object).await
}

/// `SelfSubjectAccessReview`.
pub(super) async fn own(call: &Call, object: &mut Object) -> Result<(), ApiError> {
    decide(call, object, User::clone(&call.user)).await
}

/// `SelfSubjectRulesReview`.
pub(super) fn rules(call: &Call, object: &mut Object) -> Result<(), ApiError> {
    let namespace = object.str_at(&["spec", "namespace"]).to_owned();
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let rules = call.server.authorizers().rules_for(&call.user, &namespace);
    let mut status = json!({
        "resourceRules": rules.resource, "nonResourceRules": rules.non_resource,
        "incomplete": rules.incomplete,
    });
    if !rules.evaluation_error.is_empty() {
        status["evaluationError"] = rules.evaluation_error.into();
    }
    object.0.insert("status".into(), status);
    Ok(())
}

fn subject_of(object: &Object) -> User {
    let texts = |value: &Value| -> Vec<String> {
        let all = value.as_array().into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let extra: BTreeMap<String, Vec<String>> = object
        .at(&["spec", "extra"])
        .and_then(Value::as_object)
        .map(|all| {
            all.iter()
                .map(|(k, v)| (k.to_lowercase(), texts(v)))
                .collect()
        })
        .unwrap_or_default();
    User {
        name: object.str_at(&["spec", "user"]).to_owned(),
        uid: object.str_at(&["spec", "uid"]).to_owned(),
        groups: object
            .at(&["spec", "groups"])
            .map(texts)
            .unwrap_or_default(),
        extra,
    }
}

async fn decide(call: &Call, object: &mut Object, user: User) -> Result<(), ApiError> {
    let (attributes, mut errors) = attributes(object, user);
    let server = &call.server;
    let verdict = server.authorizers().decide(server, &attributes).await;
    let mut status = Map::new();
    status.insert("allowed".into(), verdict.is_allowed().into());
    if verdict.decision == Decision::Deny {
        status.insert("denied".into(), true.into());
    }
    if !verdict.reason.is_empty() {
        status.insert("reason".into(), verdict.reason.into());
    }
    if !verdict.error.is_empty() {
        errors.insert(0, verdict.error);
    }
    if !errors.is_empty() {
        status.insert("evaluationError".into(), errors.join("; ").into());
    }
    object.0.insert("status".into(), Value::Object(status));
    Ok(())
}

/// The question, and what of it could not be understood.
fn attributes(object: &Object, user: User) -> (Attributes, Vec<String>) {
    let text = |part: &str, key: &str| object.str_at(&["spec", part, key]).to_owned();
    if object
        .at(&["spec", "nonResourceAttributes"])
        .is_some_and(Value::is_object)
    {
        let part = "nonResourceAttributes";
        let attributes = Attributes::path(&user, &text(part, "verb"), &text(part, "path"));
        return (attributes, Vec::new());
    }
    let asked = object.at(&["spec", "resourceAttributes"]);
    let asked: ResourceAttributes = asked
        .and_then(|value| serde_json::from_value(value.clone()).ok())
        .unwrap_or_default();
    let mut errors = Vec::new();
    let mut note = |kind: &str, found: bool| {
        let partially = if found { "partially " } else { "" };
        errors.push(format!(
            "spec.resourceAttributes.{kind} {partially}ignored due to parse error"
        ));
    };
    let (field_selector, good) = asked.field_selector.map_or((Vec::new(), true), by_fields);
    if !good {
        note("fieldSelector", !field_selector.is_empty());
    }
    let (label_selector, good) = asked.label_selector.map_or((None, true), by_labels);
    if !good {
        note("labelSelector", label_selector.is_some());
    }
    let of = |text: Option<String>| text.unwrap_or_default();
    let (verb, group, resource) = (of(asked.verb), of(asked.group), of(asked.resource));
    let attributes = Attributes {
        api_version: asked
            .version
            .filter(|v| !v.is_empty())
            .unwrap_or_else(|| "*".to_owned()),
        subresource: of(asked.subresource),
        namespace: of(asked.namespace),
        name: of(asked.name),
        field_selector,
        label_selector,
        ..Attributes::resource(&user, &verb, &group, &resource)
    };
    (attributes, errors)
}

/// The requirements that are understood, and whether these are all. Fewer only make the question broader.
fn by_fields(selector: FieldSelectorAttributes) -> (Vec<FieldRequirement>, bool) {
    let raw = selector.raw_selector.unwrap_or_default();
    let requirements = selector.requirements.unwrap_or_default();
    if requirements.is_empty() {
        let parsed = fields::Selector::parse(&raw);
        let good = parsed.is_ok();
        let parsed = parsed.unwrap_or_default();
        let all = parsed.requirements().iter().map(|r| FieldRequirement {
            field: r.field.clone(),
            equals: r.equal,
            value: r.value.clone(),
        });
        return (all.collect(), good);
    }
    let count = requirements.len();
    let understood = requirements.into_iter().filter_map(|r| {
        let equals = match r.operator.as_str() {
            "In" => true,
            "NotIn" => false,
            _ => return None,
        };
        let [value] = <[String; 1]>::try_from(r.values.unwrap_or_default()).ok()?;
        Some(FieldRequirement {
            field: r.key,
            equals,
            value,
        })
    });
    let understood: Vec<_> = understood.collect();
    let good = understood.len() == count;
    (understood, good)
}

fn by_labels(selector: LabelSelectorAttributes) -> (Option<labels::Selector>, bool) {
    let raw = selector.raw_selector.unwrap_or_default();
    let requirements = selector.requirements.unwrap_or_default();
    if requirements.is_empty() {
        let parsed = labels::Selector::parse(&raw);
        let good = parsed.is_ok();
        return (parsed.ok(), good);
    }
    let count = requirements.len();
    let understood = requirements.into_iter().filter_map(|r| {
        let operator = match r.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => return None,
        };
        Requirement::new(&r.key, operator, r.values.unwrap_or_default()).ok()
    });
    let understood: Vec<_> = understood.collect();
    let good = understood.len() == count;
    let selector = (!understood.is_empty()).then(|| labels::Selector::new(understood));
    (selector, good)
}
