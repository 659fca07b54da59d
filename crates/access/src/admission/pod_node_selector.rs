//! PodNodeSelector: pods of a namespace go to the nodes that its annotation or the operator's file names.
//!
//! Behaviour: `plugin/pkg/admission/podnodeselector`.

use std::collections::BTreeMap;

use machinery::{ApiError, Object, names};
use serde_json::Value;

use super::{Operation, Request};
use crate::Lookup;

const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";
/// The key in the operator's file that stands for all namespaces that say nothing.
const EVERYWHERE: &str = "clusterDefaultNodeSelector";

/// The operator's file: namespace (or `clusterDefaultNodeSelector`) to `key=value,...`.
pub type Configuration = BTreeMap<String, String>;
type Labels = BTreeMap<String, String>;

/// What the operator's file says; one without the setting says nothing.
pub fn read(file: &Value) -> Configuration {
    let all = file["podNodeSelectorPluginConfig"].as_object();
    let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    all.into_iter().flatten().filter_map(text).collect()
}

fn concerns(request: &Request) -> bool {
    let new = request.operation == Operation::Create;
    new && request.is_for("", "pods") && request.subresource.is_empty()
}

pub(super) fn admit(
    request: &Request,
    pod: &mut Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    if !concerns(request) {
        return Ok(());
    }
    let wanted = of_namespace(request, lookup)?;
    refuse_conflict(&wanted, pod)?;
    if !wanted.is_empty() {
        let selector = pod.object_at_mut(&["spec", "nodeSelector"]);
        for (key, value) in wanted {
            selector.insert(key, value.into());
        }
    }
    validate(request, pod, lookup)
}

pub(super) fn validate(
    request: &Request,
    pod: &Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    if !concerns(request) {
        return Ok(());
    }
    refuse_conflict(&of_namespace(request, lookup)?, pod)?;
    let allowed = request.settings.node_selectors.get(request.namespace);
    let allowed = parse(allowed.map_or("", String::as_str))?;
    let mut selector = selector(pod);
    if allowed.is_empty() || selector.all(|(key, value)| allowed.get(key) == Some(value)) {
        return Ok(());
    }
    let why = "pod node label selector labels conflict with its namespace whitelist";
    Err(ApiError::forbidden("", "pods", pod.name(), why))
}

fn selector(pod: &Object) -> impl Iterator<Item = (&String, &String)> {
    let all = pod.at(&["spec", "nodeSelector"]).and_then(Value::as_object);
    all.into_iter()
        .flatten()
        .filter_map(|(key, value)| match value {
            Value::String(value) => Some((key, value)),
            _ => None,
        })
}

fn refuse_conflict(wanted: &Labels, pod: &Object) -> Result<(), ApiError> {
    let conflicts =
        |(key, value): (&String, &String)| wanted.get(key).is_some_and(|wanted| wanted != value);
    match selector(pod).any(conflicts) {
        true => Err(ApiError::forbidden(
            "",
            "pods",
            pod.name(),
            "pod node label selector conflicts with its namespace node label selector",
        )),
        false => Ok(()),
    }
}

fn of_namespace(request: &Request, lookup: &dyn Lookup) -> Result<Labels, ApiError> {
    let name = request.namespace;
    let Some(namespace) = lookup.get("", "namespaces", "", name) else {
        return Err(ApiError::internal(format!(
            "namespace {name} does not exist"
        )));
    };
    let mut annotations = namespace.annotations();
    match annotations.find(|(key, _)| *key == ANNOTATION) {
        Some((_, text)) => parse(text),
        None => {
            let usual = request.settings.node_selectors.get(EVERYWHERE);
            parse(usual.map_or("", String::as_str))
        }
    }
}

/// Reads `key=value,...`; what is wrong there is nobody's fault who makes a pod, and told as such.
fn parse(text: &str) -> Result<Labels, ApiError> {
    let fault = |why: String| ApiError::new(500, "", why);
    let mut labels = Labels::new();
    if text.is_empty() {
        return Ok(labels);
    }
    for label in text.split(',') {
        let parts: Vec<&str> = label.split('=').collect();
        let [key, value] = parts[..] else {
            return Err(fault(format!("invalid selector: [{}]", parts.join(" "))));
        };
        let (key, value) = (key.trim(), value.trim());
        let wrong = names::label_key(key);
        if !wrong.is_empty() {
            let wrong = wrong.join("; ");
            return Err(fault(format!("<nil>: Invalid value: {key:?}: {wrong}")));
        }
        let wrong = names::label_value(value);
        if !wrong.is_empty() {
            let wrong = wrong.join("; ");
            return Err(fault(format!("[{key}]: Invalid value: {value:?}: {wrong}")));
        }
        labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(labels)
}
