//! NodeDeclaredFeatureValidator: a pod is changed only in ways that its node says it can follow.
//!
//! Behaviour: `plugin/pkg/admission/nodedeclaredfeatures`, `k8s.io/component-helpers/nodedeclaredfeatures`.

use machinery::{ApiError, Object};
use serde_json::Value;

use super::{Request, pod_resize};
use crate::Lookup;

type Needs = fn(&Object, &Object) -> bool;

/// What a change of a pod may need of its node, by name.
const FEATURES: [(&str, Needs); 3] = [
    ("InPlacePodLevelResourcesVerticalScaling", whole_pod),
    ("InPlacePodVerticalScalingInitContainers", init_containers),
    (
        "InPlacePodVerticalScalingMemoryBackedVolumes",
        memory_volumes,
    ),
];

pub(super) fn validate(
    request: &Request,
    pod: &Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    let (Some((name, _)), Some(old)) = (pod_resize::node_of(request, pod), request.old) else {
        return Ok(());
    };
    if !matches!(request.subresource, "" | "resize") {
        return Ok(());
    }
    let needed = FEATURES.iter().filter(|(_, needs)| needs(old, pod));
    let mut needed: Vec<&str> = needed.map(|(feature, _)| *feature).collect();
    if needed.is_empty() {
        return Ok(());
    }
    let Some(node) = lookup.get("", "nodes", "", name) else {
        return Err(request.forbidden(pod, format!("node {name:?} not found")));
    };
    let declared = items(&node, &["status", "declaredFeatures"]);
    needed.retain(|feature| !declared.iter().any(|one| one == feature));
    if needed.is_empty() {
        return Ok(());
    }
    let needed = needed.join(", ");
    Err(request.forbidden(
        pod,
        format!("pod update requires features {needed} which are not available on node {name:?}"),
    ))
}

fn items<'a>(object: &'a Object, path: &[&str]) -> &'a [Value] {
    let found = object.at(path).and_then(Value::as_array);
    found.map_or(&[], Vec::as_slice)
}

fn whole_pod(old: &Object, new: &Object) -> bool {
    let of = |pod: &Object| pod.at(&["spec", "resources"]).cloned().unwrap_or_default();
    of(old) != of(new)
}

fn init_containers(old: &Object, new: &Object) -> bool {
    let path = ["spec", "initContainers"];
    let mut pairs = items(old, &path).iter().zip(items(new, &path));
    pairs.any(|(old, new)| old["restartPolicy"] != "Always" && old["resources"] != new["resources"])
}

fn memory_volumes(old: &Object, new: &Object) -> bool {
    let path = ["spec", "volumes"];
    let (old, new) = (items(old, &path), items(new, &path));
    let same_number = old.len() == new.len();
    let mut pairs = old.iter().zip(new);
    same_number
        && pairs.any(|(old, new)| {
            let (before, after) = (&old["emptyDir"]["sizeLimit"], &new["emptyDir"]["sizeLimit"]);
            let in_memory = new["emptyDir"]["medium"] == "Memory";
            let both = !before.is_null() && !after.is_null();
            old["name"] == new["name"] && in_memory && both && before != after
        })
}
