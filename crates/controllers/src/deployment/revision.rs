//! Which ReplicaSet is the one of the present template, and the annotations that make up the history.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::HASH_LABEL;
use super::sizes::Sizes;
use crate::podcontrol;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations that stay with the Deployment.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];
/// Longest history annotation.
const HISTORY_LENGTH: usize = 2000;

/// The hash of the present template; another one after every collision.
pub(super) fn template_hash(root: &Deployment) -> String {
    let value = serde_json::to_value(&root.spec.template).unwrap_or(Value::Null);
    let collisions = root.status.as_ref().and_then(|s| s.collision_count);
    machinery::hash::template_hash(&value, collisions)
}

/// The name of the ReplicaSet of the present template.
pub(super) fn replica_set_name(root: &Deployment) -> String {
    let hash = template_hash(root);
    let name = root.metadata.name.as_deref().unwrap_or_default();
    let room = machinery::names::SUBDOMAIN_MAX - 1 - hash.len();
    let name = name.get(..room).unwrap_or(name);
    format!("{name}-{hash}")
}

/// Whether two templates are the same but for the hash label. What is empty counts as absent.
pub(super) fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    normal(a) == normal(b)
}

fn normal(template: &PodTemplateSpec) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
        labels.remove(HASH_LABEL);
    }
    podcontrol::comparable(&template)
}

/// Older first, then by name.
pub(super) fn by_age(a: &ReplicaSet, b: &ReplicaSet) -> Ordering {
    let key = |s: &ReplicaSet| {
        (
            s.metadata.creation_timestamp.clone(),
            s.metadata.name.clone(),
        )
    };
    key(a).cmp(&key(b))
}

/// The revision of a ReplicaSet; none where the annotation is missing or no number.
pub(super) fn revision(set: &ReplicaSet) -> Option<i64> {
    let annotations = set.metadata.annotations.as_ref()?;
    annotations.get(REVISION)?.parse().ok()
}

/// Brings the annotations of the ReplicaSet of the present template up to date: the Deployment's own, the revision, the
/// history. Says whether anything changed.
pub(super) fn annotate(root: &Deployment, set: &mut ReplicaSet, revision: i64) -> bool {
    let annotations = set.metadata.annotations.get_or_insert_default();
    let before = annotations.clone();
    for (key, value) in root.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let old = annotations.get(REVISION).cloned();
    let known = match old.as_deref() {
        None | Some("") => Some(0),
        Some(text) => text.parse::<i64>().ok(),
    };
    if known.is_some_and(|known| known < revision) {
        annotations.insert(REVISION.to_owned(), revision.to_string());
        if let Some(old) = old {
            remember(annotations, old);
        }
    }
    *annotations != before
}

/// Adds a former revision to the history, and drops the oldest ones where it gets too long.
fn remember(annotations: &mut BTreeMap<String, String>, revision: String) {
    let history = annotations.get(REVISION_HISTORY).cloned();
    let mut parts: Vec<String> = history
        .iter()
        .flat_map(|h| h.split(','))
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect();
    parts.push(revision);
    while parts.len() > 1 && parts.join(",").len() > HISTORY_LENGTH {
        parts.remove(0);
    }
    annotations.insert(REVISION_HISTORY.to_owned(), parts.join(","));
}

/// Notes the Deployment's present size in a ReplicaSet. Says whether anything changed.
pub(super) fn annotate_sizes(set: &mut ReplicaSet, sizes: &Sizes) -> bool {
    let annotations = set.metadata.annotations.get_or_insert_default();
    let before = annotations.clone();
    annotations.insert(DESIRED_REPLICAS.to_owned(), sizes.replicas.to_string());
    annotations.insert(MAX_REPLICAS.to_owned(), sizes.most().to_string());
    *annotations != before
}
