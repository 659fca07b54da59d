//! AppArmor profiles that a pod names by annotation, the way of before v1.30.
//!
//! Upstream: `applyAppArmorVersionSkew` in `pkg/registry/core/pod`.

use machinery::Object;
use serde_json::{Value, json};

/// An annotation of a container, its name follows.
pub(super) const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";

/// What an annotation says, as the field says it; nothing when it says nothing that there is.
pub(super) fn profile(annotation: &str) -> Option<Value> {
    match annotation {
        "unconfined" => Some(json!({"type": "Unconfined"})),
        "runtime/default" => Some(json!({"type": "RuntimeDefault"})),
        _ => {
            let path = annotation.strip_prefix("localhost/")?;
            (!path.is_empty()).then(|| json!({"type": "Localhost", "localhostProfile": path}))
        }
    }
}

/// A profile that validation would let pass.
fn valid_profile(annotation: &str) -> Option<Value> {
    const LONGEST: usize = 4095;
    profile(annotation).filter(|profile| {
        let path = profile["localhostProfile"].as_str().unwrap_or("x");
        path.trim() == path && !path.trim().is_empty() && path.len() <= LONGEST
    })
}

/// Every container with an annotation and without the field: its list, its place, and what the annotation says.
fn annotated(pod: &Object) -> Vec<(&'static str, usize, String, Option<Value>)> {
    let annotations = pod.at(&["metadata", "annotations"]);
    let Some(annotations) = annotations.and_then(Value::as_object) else {
        return Vec::new();
    };
    if !annotations.keys().any(|key| key.starts_with(PREFIX))
        || pod.str_at(&["spec", "os", "name"]) == "windows"
    {
        return Vec::new();
    }
    let mut found = Vec::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let containers = pod.at(&["spec", list]).and_then(Value::as_array);
        for (i, container) in containers.into_iter().flatten().enumerate() {
            let name = container["name"].as_str().unwrap_or("");
            let key = format!("{PREFIX}{name}");
            let annotation = annotations.get(&key).and_then(Value::as_str);
            let own = container.pointer("/securityContext/appArmorProfile");
            if let Some(annotation) = annotation
                && own.is_none_or(Value::is_null)
            {
                found.push((list, i, key, valid_profile(annotation)));
            }
        }
    }
    found
}

fn of_pod(pod: &Object) -> Option<&Value> {
    pod.at(&["spec", "securityContext", "appArmorProfile"])
}

/// Warnings about annotations that become fields, or mean nothing.
pub(super) fn warnings(pod: &Object) -> Vec<String> {
    let of_pod = of_pod(pod);
    let told = annotated(pod).into_iter().filter(|(_, _, _, profile)| {
        let profile = profile.as_ref();
        profile.is_none_or(|profile| Some(profile) != of_pod)
    });
    told.map(|(_, _, key, _)| {
        format!(
            "metadata.annotations[{key}]: deprecated since v1.30; use the \"appArmorProfile\" field instead"
        )
    })
    .collect()
}

/// Makes fields of annotations that say something else than the pod's own profile.
pub(super) fn take_over_annotations(pod: &mut Object) {
    let of_pod = of_pod(pod).cloned();
    for (list, i, _, profile) in annotated(pod) {
        let Some(profile) = profile.filter(|profile| Some(profile) != of_pod.as_ref()) else {
            continue;
        };
        let spec = pod.0.get_mut("spec");
        let container = spec.and_then(|spec| spec.get_mut(list)?.get_mut(i)?.as_object_mut());
        let Some(container) = container else { continue };
        let context = container
            .entry("securityContext")
            .or_insert_with(|| json!({}));
        if !context.is_object() {
            *context = json!({});
        }
        context["appArmorProfile"] = profile;
    }
}
