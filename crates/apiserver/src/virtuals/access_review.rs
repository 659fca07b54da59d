//! The access reviews: what a user, or the caller, may do.
//!
//! Behaviour: `pkg/registry/authorization`.

use std::collections::BTreeMap;

use access::{Attributes, Decision, User};
use machinery::{ApiError, Object};
use serde_json::{Map, Value, json};

use crate::call::Call;

/// `SubjectAccessReview`.
pub(super) fn subject(call: &Call, object: &mut Object) -> Result<(), ApiError> {
    let user = subject_of(object);
    decide(call, object, user)
}

/// `LocalSubjectAccessReview`: for one namespace only.
pub(super) fn local(call: &Call, object: &mut Object) -> Result<(), ApiError> {
    let asked = object.str_at(&["spec", "resourceAttributes", "namespace"]);
    if asked != call.info.namespace {
        let why = format!(
            "spec.resourceAttributes.namespace must match namespace: {}",
            call.info.namespace
        );
        return Err(ApiError::bad_request(why));
    }
    subject(call, object)
}

/// `SelfSubjectAccessReview`.
pub(super) fn own(call: &Call, object: &mut Object) -> Result<(), ApiError> {
    decide(call, object, call.user.clone())
}

/// `SelfSubjectRulesReview`.
pub(super) fn rules(call: &Call, object: &mut Object) -> Result<(), ApiError> {
    let namespace = object.str_at(&["spec", "namespace"]).to_owned();
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let rules = call.server.authorizer().rules_for(&call.user, &namespace);
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

fn decide(call: &Call, object: &mut Object, user: User) -> Result<(), ApiError> {
    let verdict = call
        .server
        .authorizer()
        .authorize(&attributes(object, user));
    let mut status = Map::new();
    status.insert("allowed".into(), verdict.is_allowed().into());
    if verdict.decision == Decision::Deny {
        status.insert("denied".into(), true.into());
    }
    if !verdict.reason.is_empty() {
        status.insert("reason".into(), verdict.reason.into());
    }
    object.0.insert("status".into(), Value::Object(status));
    Ok(())
}

fn attributes(object: &Object, user: User) -> Attributes {
    let text = |part: &str, key: &str| object.str_at(&["spec", part, key]).to_owned();
    if object
        .at(&["spec", "nonResourceAttributes"])
        .is_some_and(Value::is_object)
    {
        let part = "nonResourceAttributes";
        return Attributes::path(&user, &text(part, "verb"), &text(part, "path"));
    }
    let text = |key: &str| text("resourceAttributes", key);
    Attributes {
        api_version: text("version"),
        subresource: text("subresource"),
        namespace: text("namespace"),
        name: text("name"),
        ..Attributes::resource(&user, &text("verb"), &text("group"), &text("resource"))
    }
}
