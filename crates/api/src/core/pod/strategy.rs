//! What the server sets and keeps in a pod, whoever writes.

use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use machinery::{Object, Path, names};
use serde_json::{Value, json};

use super::disabled::drop_disabled;
use super::{aggregate, app_armor, qos};
use crate::kind::{self, Part};
use crate::view::{Items, OrEmpty};
use crate::warn;

/// A new pod is Pending and knows its class; label keys of affinity and spreading become part of their selectors.
pub(super) fn prepare_create(new: &mut Object) {
    drop_disabled(new.0.get_mut("spec"));
    app_armor::take_over_annotations(new);
    let mut status = json!({"phase": "Pending"});
    if let Ok(pod) = new.view::<Pod>() {
        let mut spec = pod.spec.unwrap_or_default();
        if aggregate::fill_pod_level(&mut spec) {
            let resources = serde_json::to_value(&spec.resources).ok();
            kind::set_at(new, &["spec"], "resources", resources);
        }
        status["qosClass"] = qos::class(&spec).into();
        if !spec.scheduling_gates.items().is_empty() {
            status["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": null, "lastTransitionTime": null,
            }]);
        }
        let labels = pod.metadata.labels.unwrap_or_default();
        merge_label_keys(new, spec, &|key| labels.get(key).cloned());
    }
    new.0.insert("status".into(), status);
}

/// Upstream: `mutatePodAffinity`, `mutateTopologySpreadConstraints`.
fn merge_label_keys(new: &mut Object, mut spec: PodSpec, label: &dyn Fn(&str) -> Option<String>) {
    let mut changed = false;
    if let Some(affinity) = &mut spec.affinity {
        let near = affinity.pod_affinity.iter_mut().flat_map(|a| {
            let preferred = &mut a.preferred_during_scheduling_ignored_during_execution;
            let required = &mut a.required_during_scheduling_ignored_during_execution;
            let preferred = preferred
                .iter_mut()
                .flatten()
                .map(|t| &mut t.pod_affinity_term);
            preferred.chain(required.iter_mut().flatten())
        });
        let far = affinity.pod_anti_affinity.iter_mut().flat_map(|a| {
            let preferred = &mut a.preferred_during_scheduling_ignored_during_execution;
            let required = &mut a.required_during_scheduling_ignored_during_execution;
            let preferred = preferred
                .iter_mut()
                .flatten()
                .map(|t| &mut t.pod_affinity_term);
            preferred.chain(required.iter_mut().flatten())
        });
        for term in near.chain(far) {
            changed |= merge_term(term, label);
        }
        if changed {
            let affinity = serde_json::to_value(affinity).unwrap_or(Value::Null);
            kind::set_at(new, &["spec"], "affinity", Some(affinity));
        }
    }
    let Some(constraints) = &mut spec.topology_spread_constraints else {
        return;
    };
    let mut changed = false;
    for constraint in constraints.iter_mut() {
        let keys = constraint.match_label_keys.items();
        if let Some(selector) = &mut constraint.label_selector {
            changed |= add_keys(selector, keys, "In", label);
        }
    }
    if changed {
        let constraints = serde_json::to_value(constraints).unwrap_or(Value::Null);
        kind::set_at(
            new,
            &["spec"],
            "topologySpreadConstraints",
            Some(constraints),
        );
    }
}

fn merge_term(term: &mut PodAffinityTerm, label: &dyn Fn(&str) -> Option<String>) -> bool {
    let Some(selector) = &mut term.label_selector else {
        return false;
    };
    let own = add_keys(selector, term.match_label_keys.items(), "In", label);
    add_keys(selector, term.mismatch_label_keys.items(), "NotIn", label) || own
}

fn add_keys(
    selector: &mut LabelSelector,
    keys: &[String],
    operator: &str,
    label: &dyn Fn(&str) -> Option<String>,
) -> bool {
    let mut changed = false;
    for key in keys {
        let Some(value) = label(key) else { continue };
        selector
            .match_expressions
            .get_or_insert_default()
            .push(LabelSelectorRequirement {
                key: key.clone(),
                operator: operator.to_owned(),
                values: Some(vec![value]),
            });
        changed = true;
    }
    changed
}

/// Each sub-resource may touch its own part only.
pub(super) fn prepare_update(part: Part, new: &mut Object, old: &Object) {
    match part {
        Part::Status => {
            kind::keep_other_part(part, new, old);
            keep_status(new, old);
            // Nobody reports it before its feature is on.
            if old.at(&["status", "volumeHealth"]).is_none() {
                kind::set_at(new, &["status"], "volumeHealth", None);
            }
            // Old kubelets corrupt owner references in a way that breaks garbage collection.
            let owners = old.at(&["metadata", "ownerReferences"]).cloned();
            kind::set_at(new, &["metadata"], "ownerReferences", owners);
        }
        Part::EphemeralContainers => {
            let wanted = new.at(&["spec", "ephemeralContainers"]).cloned();
            let metadata = new.0.get("metadata").cloned();
            new.0.clone_from(&old.0);
            kind::set_or_remove(new, "metadata", metadata);
            kind::set_at(new, &["spec"], "ephemeralContainers", wanted);
            drop_disabled(new.0.get_mut("spec"));
        }
        Part::Resize => keep_all_but_resources(new, old),
        _ => {
            kind::keep_other_part(part, new, old);
            drop_disabled(new.0.get_mut("spec"));
            if new.at(&["spec", "resources"]).is_none() {
                let resources = old.at(&["spec", "resources"]).cloned();
                kind::set_at(new, &["spec"], "resources", resources);
            }
        }
    }
}

/// What a status write from a client that does not know a field must not lose.
fn keep_status(new: &mut Object, old: &Object) {
    let kept = [
        "qosClass",
        "resourceClaimStatuses",
        "extendedResourceClaimStatus",
    ];
    for key in kept.into_iter().chain(["observedGeneration"]) {
        let missing = match new.at(&["status", key]) {
            None | Some(Value::Null) => true,
            Some(value) => value == "" || (key == "observedGeneration" && value == 0),
        };
        if missing && let Some(before) = old.at(&["status", key]) {
            kind::set_at(new, &["status"], key, Some(before.clone()));
        }
    }
}

/// A resize changes resources and resize policies of the containers that are there, by position.
fn keep_all_but_resources(new: &mut Object, old: &Object) {
    let list = |object: &Object, key: &str| {
        object
            .at(&["spec", key])
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let keys = ["containers", "initContainers"];
    if keys
        .iter()
        .any(|key| list(new, key).len() != list(old, key).len())
    {
        return; // Validation says what is wrong.
    }
    let mut merged = old.clone();
    kind::set_or_remove(&mut merged, "metadata", new.0.get("metadata").cloned());
    kind::set_at(
        &mut merged,
        &["spec"],
        "resources",
        new.at(&["spec", "resources"]).cloned(),
    );
    for key in keys {
        let wanted = list(new, key);
        let mut kept = list(old, key);
        for (slot, wanted) in kept.iter_mut().zip(wanted) {
            let (Some(slot), Value::Object(wanted)) = (slot.as_object_mut(), wanted) else {
                continue;
            };
            if slot.get("name") != wanted.get("name") {
                return;
            }
            for field in ["resources", "resizePolicy"] {
                match wanted.get(field) {
                    Some(value) => drop(slot.insert(field.into(), value.clone())),
                    None => drop(slot.remove(field)),
                }
            }
        }
        if !kept.is_empty() {
            kind::set_at(&mut merged, &["spec"], key, Some(Value::Array(kept)));
        }
    }
    *new = merged;
}

/// What a writer should know although it is allowed.
pub(super) fn warnings(pod: &Pod) -> Vec<String> {
    let mut warnings = Vec::new();
    let messages = names::dns1123_label(pod.metadata.name.text());
    if !messages.is_empty() {
        warnings.push(format!(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label \
             is recommended: [{}]",
            messages.join(" ")
        ));
    }
    warnings.extend(super::validation::warnings::pod(
        pod.spec.as_ref(),
        &pod.metadata,
    ));
    warnings
}

/// Odd spellings of a pod's addresses.
pub(super) fn status_warnings(pod: &Pod) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some(status) = &pod.status else {
        return warnings;
    };
    let path = Path::new("status");
    for (i, address) in status.pod_ips.items().iter().enumerate() {
        let at = path.child("podIPs").index(i).child("ip");
        warn::ip(&mut warnings, &at, &address.ip);
    }
    for (i, address) in status.host_ips.items().iter().enumerate() {
        let at = path.child("hostIPs").index(i).child("ip");
        warn::ip(&mut warnings, &at, &address.ip);
    }
    warnings
}
