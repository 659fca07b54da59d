//! What may change in a pod, through which door.

mod resize;
mod status;

use k8s_openapi::api::core::v1::{
    Affinity, Container, EphemeralContainer, NodeAffinity, NodeSelectorTerm, Pod, PodSpec,
    Toleration,
};
use machinery::{ErrorList, Path, names};
use serde_json::Value;

use super::identity::MIRROR;
use crate::check::{self, ErrorListExt, same};
use crate::diff::diff;
use crate::view::{Items, OrEmpty};

pub(crate) use self::resize::resize;
pub(crate) use self::status::status;

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be \
    set to 1 if it was previously negative)";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

fn specs<'a>(new: &'a Pod, old: &'a Pod, empty: &'a PodSpec) -> (&'a PodSpec, &'a PodSpec) {
    (
        new.spec.as_ref().unwrap_or(empty),
        old.spec.as_ref().unwrap_or(empty),
    )
}

/// A write to the pod itself.
pub(crate) fn main(new: &Pod, old: &Pod) -> ErrorList {
    let empty = PodSpec::default();
    let (spec, before) = specs(new, old, &empty);
    let path = Path::new("spec");
    let mut errors = ErrorList::new();
    super::metadata_and_spec(&mut errors, new, Some(before));
    annotations(&mut errors, new, old);
    let lists = [
        ("containers", &spec.containers[..], &before.containers[..]),
        (
            "initContainers",
            spec.init_containers.items(),
            before.init_containers.items(),
        ),
    ];
    for (key, new, old) in lists {
        if !images(&mut errors, &path.child(key), new, old) {
            return errors;
        }
    }
    if !deadline(
        &mut errors,
        &path.child("activeDeadlineSeconds"),
        spec,
        before,
    ) {
        return errors;
    }
    let at = path.child("tolerations");
    added_tolerations(
        &mut errors,
        &at,
        spec.tolerations.items(),
        before.tolerations.items(),
    );
    deleted_gates(&mut errors, &path.child("schedulingGates"), spec, before);
    if same(spec, before) {
        return errors;
    }
    let mut munged = spec.clone();
    munge(&mut munged, before);
    if !before.scheduling_gates.items().is_empty() {
        gated(&mut errors, &path, &mut munged, before);
    }
    if !same(&munged, before) {
        let difference = {
            let shown = |spec: &PodSpec| {
                crate::go::of_definition(&check::json(spec), "io.k8s.api.core.v1.PodSpec")
            };
            diff(&shown(before), &shown(&munged))
        };
        let detail =
            format!("pod updates may not change fields other than {UPDATABLE}\n{difference}");
        errors.forbidden(&path, detail);
    }
    errors
}

/// Annotations that are settled when the pod is made.
fn annotations(errors: &mut ErrorList, new: &Pod, old: &Pod) {
    let path = Path::new("metadata").child("annotations");
    let get = |pod: &Pod, key: &str| pod.metadata.annotations.as_ref()?.get(key).cloned();
    for (key, value) in old.metadata.annotations.iter().flatten() {
        if get(new, key).as_ref() == Some(value) {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            errors.forbidden(
                &path.key(key),
                "may not remove or update AppArmor annotations",
            );
        }
        if key == MIRROR {
            errors.forbidden(
                &path.key(key),
                "may not remove or update mirror pod annotation",
            );
        }
    }
    for key in new
        .metadata
        .annotations
        .iter()
        .flatten()
        .map(|(key, _)| key)
    {
        if get(old, key).is_some() {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            errors.forbidden(&path.key(key), "may not add AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&path.key(key), "may not add mirror pod annotation");
        }
    }
}

/// Whether the lists have the same length, so that a comparison by position makes sense.
fn images(errors: &mut ErrorList, path: &Path, new: &[Container], old: &[Container]) -> bool {
    if new.len() != old.len() {
        errors.forbidden(path, "pod updates may not add or remove containers");
        return false;
    }
    for (i, container) in new.iter().enumerate() {
        let at = path.index(i).child("image");
        let image = container.image.text();
        errors.required_text(&at, image, "");
        if image.trim().len() != image.len() {
            errors.invalid(&at, image, "must not have leading or trailing whitespace");
        }
    }
    true
}

/// The deadline may be set, and may come nearer. Whether anything else is worth looking at.
fn deadline(errors: &mut ErrorList, path: &Path, new: &PodSpec, old: &PodSpec) -> bool {
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(seconds), before) => {
            let messages = names::in_range(seconds, 0, i64::from(i32::MAX));
            let out_of_range = !messages.is_empty();
            messages
                .into_iter()
                .for_each(|m| errors.invalid(path, seconds, m));
            let later = before.is_some_and(|b| b < seconds);
            if later && !out_of_range {
                errors.invalid(
                    path,
                    seconds,
                    "must be less than or equal to previous value",
                );
            }
            !later && !out_of_range
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            errors.invalid(path, Value::Null, detail);
            true
        }
        (None, None) => true,
    }
}

fn added_tolerations(errors: &mut ErrorList, path: &Path, new: &[Toleration], old: &[Toleration]) {
    let kept = |old: &Toleration| {
        new.iter().any(|new| {
            let seconds = new.toleration_seconds;
            Toleration {
                toleration_seconds: seconds,
                ..old.clone()
            } == *new
        })
    };
    if !old.iter().all(kept) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        return errors.forbidden(path, detail);
    }
    super::tolerations(errors, path, new);
}

fn deleted_gates(errors: &mut ErrorList, path: &Path, new: &PodSpec, old: &PodSpec) {
    let before = old.scheduling_gates.items();
    for (i, gate) in new.scheduling_gates.items().iter().enumerate() {
        if !before.contains(gate) {
            let name = &gate.name;
            let detail =
                format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.forbidden(&path.index(i).child("name"), detail);
        }
    }
}

/// Puts the old value over everything that may change.
fn munge(new: &mut PodSpec, old: &PodSpec) {
    for (new, old) in new.containers.iter_mut().zip(&old.containers) {
        new.image.clone_from(&old.image);
    }
    let init = new.init_containers.iter_mut().flatten();
    for (new, old) in init.zip(old.init_containers.items()) {
        new.image.clone_from(&old.image);
    }
    new.active_deadline_seconds = old.active_deadline_seconds;
    new.scheduling_gates.clone_from(&old.scheduling_gates);
    new.tolerations.clone_from(&old.tolerations);
    let negative = old.termination_grace_period_seconds.is_some_and(|s| s < 0);
    if negative && new.termination_grace_period_seconds == Some(1) {
        new.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
}

/// A pod behind a gate may still be narrowed to fewer nodes.
fn gated(errors: &mut ErrorList, path: &Path, new: &mut PodSpec, old: &PodSpec) {
    if !same(&new.node_selector, &old.node_selector) {
        let get = |key: &String| new.node_selector.as_ref()?.get(key);
        let kept = old
            .node_selector
            .iter()
            .flatten()
            .all(|(k, v)| get(k) == Some(v));
        if !kept {
            let detail =
                "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            let shown = check::json(&new.node_selector);
            errors.invalid(&path.child("nodeSelector"), shown, detail);
        }
        new.node_selector.clone_from(&old.node_selector);
    }
    let before = old.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let now = new.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    if same(&now, &before) {
        return;
    }
    node_affinity(
        errors,
        &path.child("affinity").child("nodeAffinity"),
        now,
        before,
    );
    match &mut new.affinity {
        None => {
            new.affinity = before.map(|b| Affinity {
                node_affinity: Some(b.clone()),
                ..Default::default()
            });
        }
        Some(a) if old.affinity.is_none() => {
            a.node_affinity = None;
            if a.pod_affinity.is_none() && a.pod_anti_affinity.is_none() {
                new.affinity = None;
            }
        }
        Some(a) => a.node_affinity = before.cloned(),
    }
}

fn terms(affinity: Option<&NodeAffinity>) -> Option<&[NodeSelectorTerm]> {
    let required = affinity?
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    Some(&required.node_selector_terms)
}

fn node_affinity(
    errors: &mut ErrorList,
    path: &Path,
    new: Option<&NodeAffinity>,
    old: Option<&NodeAffinity>,
) {
    let Some(before) = terms(old).filter(|terms| !terms.is_empty()) else {
        return;
    };
    let now = terms(new).unwrap_or_default();
    let path = path
        .child("requiredDuringSchedulingIgnoredDuringExecution")
        .child("nodeSelectorTerms");
    if now.len() != before.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return errors.invalid(&path, check::json(&now), detail);
    }
    for (i, (new, old)) in now.iter().zip(before).enumerate() {
        let was_empty =
            old.match_expressions.items().is_empty() && old.match_fields.items().is_empty();
        let is_empty =
            new.match_expressions.items().is_empty() && new.match_fields.items().is_empty();
        let grown = new
            .match_expressions
            .items()
            .starts_with(old.match_expressions.items())
            && new
                .match_fields
                .items()
                .starts_with(old.match_fields.items());
        if (was_empty && !is_empty) || !grown {
            let detail = "only additions are allowed (no mutations or deletions)";
            errors.invalid(&path.index(i), check::json(new), detail);
        }
    }
}

/// A write to `ephemeralcontainers`: additions only.
pub(crate) fn ephemeral_containers(new: &Pod, old: &Pod) -> ErrorList {
    let empty = PodSpec::default();
    let (spec, before) = specs(new, old, &empty);
    let mut errors = ErrorList::new();
    if old
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|a| a.contains_key(MIRROR))
    {
        errors.forbidden(
            &check::whole(),
            "static pods do not support ephemeral containers",
        );
        return errors;
    }
    super::metadata_and_spec(&mut errors, new, Some(before));
    annotations(&mut errors, new, old);
    let path = Path::new("spec").child("ephemeralContainers");
    for was in before.ephemeral_containers.items() {
        let found = spec
            .ephemeral_containers
            .items()
            .iter()
            .find(|c| c.name == was.name);
        let name = &was.name;
        match found {
            None => {
                let detail = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.forbidden(&path, detail);
            }
            Some(is) if !same(is, was) => {
                let difference = {
                    let shown = |container: &EphemeralContainer| {
                        let definition = "io.k8s.api.core.v1.EphemeralContainer";
                        crate::go::of_definition(&check::json(container), definition)
                    };
                    diff(&shown(was), &shown(is))
                };
                let detail = format!(
                    "existing ephemeral containers {name:?} may not be changed\n{difference}"
                );
                errors.forbidden(&path, detail);
            }
            Some(_) => {}
        }
    }
    errors
}
