//! Small rules about pods, used only when the operator names them: AlwaysPullImages, ExtendedResourceToleration,
//! LimitPodHardAntiAffinityTopology.
//!
//! Behaviour: `plugin/pkg/admission/{alwayspullimages,extendedresourcetoleration,antiaffinity}`.

use std::collections::BTreeSet;

use api::core::resources;
use machinery::{ApiError, ErrorList, Object, Path};
use serde_json::{Value, json};

use super::{Operation, Request};
use crate::Lookup;

/// All lists of containers, in the order in which upstream visits them.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
const HOST_NAME: &str = "kubernetes.io/hostname";

fn concerns(request: &Request) -> bool {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    request.is_for("", "pods") && request.subresource.is_empty() && writes
}

fn items<'a>(pod: &'a Object, key: &str) -> impl Iterator<Item = &'a Value> {
    let found = pod.at(&["spec", key]).and_then(Value::as_array);
    found.into_iter().flatten()
}

fn images(pod: &Object) -> BTreeSet<String> {
    let all = CONTAINERS.iter().flat_map(|key| items(pod, key));
    all.map(|c| c["image"].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// Whether the request brings images that are not there yet.
fn brings_images(request: &Request, pod: &Object) -> bool {
    let before = request.old.map(images).unwrap_or_default();
    let update = request.operation == Operation::Update;
    concerns(request) && !(update && images(pod).is_subset(&before))
}

/// Every image is pulled by who uses it, so that nobody uses another's without having the right to it.
pub(super) fn pull_always(
    request: &Request,
    pod: &mut Object,
    _: &dyn Lookup,
) -> Result<(), ApiError> {
    if !brings_images(request, pod) {
        return Ok(());
    }
    let spec = pod.object_at_mut(&["spec"]);
    for key in CONTAINERS {
        for container in spec
            .get_mut(key)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            container["imagePullPolicy"] = "Always".into();
        }
    }
    for volume in spec
        .get_mut("volumes")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if volume["image"].is_object() {
            volume["image"]["pullPolicy"] = "Always".into();
        }
    }
    Ok(())
}

/// Nobody has changed that since.
pub(super) fn pulls_always(
    request: &Request,
    pod: &Object,
    _: &dyn Lookup,
) -> Result<(), ApiError> {
    if !brings_images(request, pod) {
        return Ok(());
    }
    let spec = Path::new("spec");
    let mut errors = ErrorList::new();
    for key in CONTAINERS {
        for (index, container) in items(pod, key).enumerate() {
            if container["imagePullPolicy"] != "Always" {
                let at = spec.child(key).index(index).child("imagePullPolicy");
                let given = container["imagePullPolicy"].as_str().unwrap_or_default();
                errors.not_supported(&at, given, &["Always"]);
            }
        }
    }
    for (index, volume) in items(pod, "volumes").enumerate() {
        let image = &volume["image"];
        if image.is_object() && image["pullPolicy"] != "Always" {
            let at = spec.child("volumes").index(index);
            let given = image["pullPolicy"].as_str().unwrap_or_default();
            errors.not_supported(&at.child("image").child("pullPolicy"), given, &["Always"]);
        }
    }
    match errors.0.first() {
        Some(error) => Err(request.forbidden(pod, error)),
        None => Ok(()),
    }
}

/// A pod that asks for a device tolerates the taint by which its nodes keep others away.
pub(super) fn tolerate_extended_resources(
    request: &Request,
    pod: &mut Object,
    _: &dyn Lookup,
) -> Result<(), ApiError> {
    if !concerns(request) {
        return Ok(());
    }
    let containers = ["containers", "initContainers"];
    let requests = containers.iter().flat_map(|key| items(pod, key));
    let requests = requests.filter_map(|c| c["resources"]["requests"].as_object());
    let names: BTreeSet<String> = requests
        .flat_map(|all| all.keys())
        .filter(|name| resources::is_extended(name))
        .cloned()
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    let spec = pod.object_at_mut(&["spec"]);
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    let Some(tolerations) = tolerations.as_array_mut() else {
        return Ok(());
    };
    for name in names {
        let wanted = json!({"key": name, "operator": "Exists", "effect": "NoSchedule"});
        if !tolerations.contains(&wanted) {
            tolerations.push(wanted);
        }
    }
    Ok(())
}

/// Pods keep others away from a node, never from a zone.
pub(super) fn hard_anti_affinity(
    request: &Request,
    pod: &Object,
    _: &dyn Lookup,
) -> Result<(), ApiError> {
    if !concerns(request) {
        return Ok(());
    }
    let terms = pod.at(&[
        "spec",
        "affinity",
        "podAntiAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
    ]);
    let keys = terms.and_then(Value::as_array).into_iter().flatten();
    let mut keys = keys.map(|term| term["topologyKey"].as_str().unwrap_or_default());
    match keys.find(|key| *key != HOST_NAME) {
        Some(key) => Err(request.forbidden(pod, format!(
            "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key {HOST_NAME} is allowed"
        ))),
        None => Ok(()),
    }
}
