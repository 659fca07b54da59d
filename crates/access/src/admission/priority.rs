//! Pods get the priority of their class; there is one default class at most.
//!
//! Behaviour: `plugin/pkg/admission/priority`.

use std::sync::Arc;

use machinery::{ApiError, Object};
use serde_json::Value;

use super::{Operation, Request};
use crate::Lookup;

const GROUP: &str = "scheduling.k8s.io";

pub(super) fn admit(
    request: &Request,
    pod: &mut Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    if !request.is_for("", "pods") || !request.subresource.is_empty() {
        return Ok(());
    }
    match request.operation {
        Operation::Create => admit_new(request, pod, lookup),
        Operation::Update => {
            keep(request.old, pod);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A client that does not know the fields does not remove them.
fn keep(old: Option<&Object>, pod: &mut Object) {
    for key in ["priority", "preemptionPolicy"] {
        let was = old
            .and_then(|old| old.at(&["spec", key]))
            .filter(|v| !v.is_null());
        let is = pod.at(&["spec", key]).is_some_and(|v| !v.is_null());
        if let (Some(was), false) = (was, is) {
            let was = was.clone();
            pod.object_at_mut(&["spec"]).insert(key.into(), was);
        }
    }
}

fn admit_new(request: &Request, pod: &mut Object, lookup: &dyn Lookup) -> Result<(), ApiError> {
    let (name, priority, policy) = match pod.str_at(&["spec", "priorityClassName"]) {
        "" => match default_class(lookup) {
            Some(class) => (class.name().to_owned(), value_of(&class), policy_of(&class)),
            None => (String::new(), 0, Some("PreemptLowerPriority".to_owned())),
        },
        name => {
            let class = lookup
                .get(GROUP, "priorityclasses", "", name)
                .ok_or_else(|| {
                    request.forbidden(pod, format!("no PriorityClass with name {name} was found"))
                })?;
            (name.to_owned(), value_of(&class), policy_of(&class))
        }
    };
    if let Some(given) = pod.at(&["spec", "priority"]).and_then(Value::as_i64)
        && given != priority
    {
        return Err(request.forbidden(pod, format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        )));
    }
    let given = pod.str_at(&["spec", "preemptionPolicy"]);
    if let Some(policy) = &policy
        && !given.is_empty()
        && given != policy
    {
        return Err(request.forbidden(pod, format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        )));
    }
    let spec = pod.object_at_mut(&["spec"]);
    if !name.is_empty() {
        spec.insert("priorityClassName".into(), name.into());
    }
    spec.insert("priority".into(), priority.into());
    if let Some(policy) = policy {
        spec.insert("preemptionPolicy".into(), policy.into());
    }
    Ok(())
}

fn value_of(class: &Object) -> i64 {
    class.at(&["value"]).and_then(Value::as_i64).unwrap_or(0)
}

fn policy_of(class: &Object) -> Option<String> {
    let policy = class.str_at(&["preemptionPolicy"]);
    (!policy.is_empty()).then(|| policy.to_owned())
}

/// The default class; if a race made several, the one with the lowest priority.
fn default_class(lookup: &dyn Lookup) -> Option<Arc<Object>> {
    let classes = lookup.list(GROUP, "priorityclasses", "").into_iter();
    classes
        .filter(|class| is_default(class))
        .min_by_key(|class| value_of(class))
}

fn is_default(class: &Object) -> bool {
    class
        .at(&["globalDefault"])
        .and_then(Value::as_bool)
        .unwrap_or(false)
}

pub(super) fn validate(
    request: &Request,
    class: &Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    let concerns = request.is_for(GROUP, "priorityclasses") && request.subresource.is_empty();
    if !concerns || !writes || !is_default(class) {
        return Ok(());
    }
    match default_class(lookup) {
        Some(other) if request.operation == Operation::Create || other.name() != class.name() => {
            let why = format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                other.name()
            );
            Err(request.forbidden(class, why))
        }
        _ => Ok(()),
    }
}
