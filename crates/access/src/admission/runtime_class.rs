//! A pod of a runtime class gets the class's overhead, node selector and tolerations.
//!
//! Behaviour: `plugin/pkg/admission/runtimeclass`.

use std::sync::Arc;

use api::quota;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use machinery::{ApiError, Object};
use serde_json::{Map, Value};

use super::{Operation, Request};
use crate::Lookup;

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
const UNFOUNDED: &str =
    "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";

pub(super) fn admit(
    request: &Request,
    pod: &mut Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    let Some(class) = class_of(request, pod, lookup)? else {
        return Ok(());
    };
    if let Some(fixed) = class
        .at(&["overhead", "podFixed"])
        .and_then(Value::as_object)
    {
        let given = pod.at(&["spec", "overhead"]).and_then(Value::as_object);
        let given = given.filter(|given| !given.is_empty());
        if given.is_some() && !fits(&class, pod) {
            return Err(request.forbidden(pod, MISMATCH));
        }
        let fixed = fixed.clone().into();
        pod.object_at_mut(&["spec"])
            .insert("overhead".into(), fixed);
    }
    select_nodes(request, pod, &class)?;
    tolerate(pod, &class);
    Ok(())
}

pub(super) fn validate(
    request: &Request,
    pod: &Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    if !concerns(request) {
        return Ok(());
    }
    let class = class_of(request, pod, lookup)?;
    let class = class.filter(|class| class.at(&["overhead"]).is_some_and(|v| !v.is_null()));
    match class {
        Some(class) if !fits(&class, pod) => Err(request.forbidden(pod, MISMATCH)),
        None if pod.at(&["spec", "overhead"]).is_some_and(|v| !v.is_null()) => {
            Err(request.forbidden(pod, UNFOUNDED))
        }
        _ => Ok(()),
    }
}

fn concerns(request: &Request) -> bool {
    request.is_for("", "pods")
        && request.subresource.is_empty()
        && request.operation == Operation::Create
}

fn class_of(
    request: &Request,
    pod: &Object,
    lookup: &dyn Lookup,
) -> Result<Option<Arc<Object>>, ApiError> {
    let name = pod
        .at(&["spec", "runtimeClassName"])
        .and_then(Value::as_str);
    let Some(name) = name.filter(|_| concerns(request)) else {
        return Ok(None);
    };
    let class = lookup.get("node.k8s.io", "runtimeclasses", "", name);
    let missing = || {
        let why = format!("pod rejected: RuntimeClass {name:?} not found");
        request.forbidden(pod, why)
    };
    class.ok_or_else(missing).map(Some)
}

/// The same amounts, however they are spelled.
fn fits(class: &Object, pod: &Object) -> bool {
    let class: Option<RuntimeClass> = class.view().ok();
    let wanted = class.and_then(|c| c.overhead).and_then(|o| o.pod_fixed);
    let pod: Option<Pod> = pod.view().ok();
    let given = pod.and_then(|p| p.spec).and_then(|s| s.overhead);
    quota::amounts(wanted.as_ref()) == quota::amounts(given.as_ref())
}

fn select_nodes(request: &Request, pod: &mut Object, class: &Object) -> Result<(), ApiError> {
    const AT: &[&str] = &["scheduling", "nodeSelector"];
    let Some(wanted) = class.at(AT).and_then(Value::as_object) else {
        return Ok(());
    };
    let given = pod.at(&["spec", "nodeSelector"]).and_then(Value::as_object);
    let mut selector = given.cloned().unwrap_or_else(Map::new);
    for (key, value) in wanted {
        let (value_text, there) = (text(value), selector.get(key).map(text));
        if let Some(there) = there.filter(|there| *there != value_text) {
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value_text}; pod.spec.nodeSelector[{key}] = {there}"
            );
            return Err(request.forbidden(pod, why));
        }
        selector.insert(key.clone(), value.clone());
    }
    if !selector.is_empty() {
        pod.object_at_mut(&["spec"])
            .insert("nodeSelector".into(), selector.into());
    }
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Adds the class's tolerations that the pod does not have.
fn tolerate(pod: &mut Object, class: &Object) {
    const AT: &[&str] = &["scheduling", "tolerations"];
    let Some(wanted) = class.at(AT).and_then(Value::as_array) else {
        return;
    };
    let given = pod.at(&["spec", "tolerations"]).and_then(Value::as_array);
    let mut all = given.cloned().unwrap_or_default();
    for toleration in wanted {
        if !all.contains(toleration) {
            all.push(toleration.clone());
        }
    }
    if !all.is_empty() {
        pod.object_at_mut(&["spec"])
            .insert("tolerations".into(), all.into());
    }
}
