//! Pods made and removed on behalf of an owner, with the events that tell of it.
//!
//! Behaviour: `RealPodControl` and `GetPodFromTemplate` in `pkg/controller/controller_utils.go`.

use control::plan::reference;
use control::{Action, Key, Kind, Report};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use serde_json::Value;

use crate::ownership::controller_reference;

/// A pod of the owner as its template says, still without a name.
pub fn pod_of<O: Kind>(owner: &O, template: &PodTemplateSpec) -> Pod {
    let meta = owner.metadata();
    let from = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            namespace: meta.namespace.clone(),
            generate_name: Some(name_prefix(meta.name.as_deref().unwrap_or_default())),
            labels: from.labels,
            annotations: from.annotations,
            finalizers: from.finalizers,
            owner_references: Some(vec![controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Creation of a pod that has its name.
pub fn create<O: Kind>(owner: &O, pod: &Pod) -> Action {
    let name = Key::of(pod).name;
    let report = Report {
        about: reference(owner),
        success: Some(("SuccessfulCreate", format!("Created pod: {name}"))),
        failure: Some(("FailedCreate", "Error creating: ".to_owned())),
    };
    Action::create(pod, Some(report))
}

/// Deletion of a pod.
pub fn delete<O: Kind>(owner: &O, pod: &Pod) -> Action {
    let name = Key::of(pod).name;
    let report = Report {
        about: reference(owner),
        success: Some(("SuccessfulDelete", format!("Deleted pod: {name}"))),
        failure: Some(("FailedDelete", "Error deleting: ".to_owned())),
    };
    Action::delete(pod, Some(report))
}

/// The name and a dash, without the dash where that would be no name any more.
pub fn name_prefix(name: &str) -> String {
    if name.len() < machinery::names::SUBDOMAIN_MAX {
        format!("{name}-")
    } else {
        name.to_owned()
    }
}

/// A template in a form in which equal ones are equal. What is empty counts as absent.
pub fn comparable(template: &PodTemplateSpec) -> Value {
    let mut value = serde_json::to_value(template).unwrap_or(Value::Null);
    prune(&mut value);
    value
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(prune);
            map.retain(|_, v| !is_empty(v));
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        // An empty object can be a choice, as `emptyDir: {}` is.
        _ => false,
    }
}
