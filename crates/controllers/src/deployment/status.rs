//! The status of a Deployment: numbers, and what is told about availability, progress and failures.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet,
    ReplicaSetCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::draft::Drafts;
use super::sizes::{Sizes, actual, available, size};
use crate::replicas::nonzero;

pub(super) const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
pub(super) const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";

/// A condition that holds from now on.
pub(super) fn condition(
    now: Timestamp,
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
) -> DeploymentCondition {
    let now = Some(Time(machinery::time::truncate(now)));
    DeploymentCondition {
        type_: Some(kind.to_owned()),
        status: Some(status.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: now.clone(),
        last_update_time: now,
    }
}

/// One condition of a status.
pub(super) fn find<'a>(
    status: &'a DeploymentStatus,
    kind: &str,
) -> Option<&'a DeploymentCondition> {
    let conditions = status.conditions.iter().flatten();
    conditions
        .into_iter()
        .find(|c| c.type_.as_deref() == Some(kind))
}

/// The reason of the progress condition.
pub(super) fn progress_reason(status: &DeploymentStatus) -> Option<&str> {
    find(status, PROGRESSING)?.reason.as_deref()
}

/// Sets a condition. The same status and reason leave the old one as it is; the same status keeps the transition time.
pub(super) fn set(status: &mut DeploymentStatus, mut new: DeploymentCondition) {
    let kind = new.type_.clone().unwrap_or_default();
    if let Some(old) = find(status, &kind) {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.last_transition_time = old.last_transition_time.clone();
        }
    }
    remove(status, &kind);
    status.conditions.get_or_insert_default().push(new);
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| c.type_.as_deref() != Some(kind));
        if conditions.is_empty() {
            status.conditions = None;
        }
    }
}

/// Whether progress is watched at all.
pub(super) fn has_deadline(spec: &DeploymentSpec) -> bool {
    spec.progress_deadline_seconds
        .is_some_and(|s| s != i32::MAX)
}

/// The numbers as the ReplicaSets tell them, and whether enough pods are available. `root` carries the conditions so far.
pub(super) fn calculate(
    root: &Deployment,
    drafts: &Drafts,
    sizes: &Sizes,
    now: Timestamp,
) -> DeploymentStatus {
    let sum = |f: &dyn Fn(&ReplicaSet) -> i32| drafts.sum(f);
    let ready = |s: &ReplicaSet| {
        s.status
            .as_ref()
            .and_then(|s| s.ready_replicas)
            .unwrap_or(0)
    };
    let available = sum(&available);
    let old = root.status.clone().unwrap_or_default();
    let mut status = DeploymentStatus {
        observed_generation: root.metadata.generation.filter(|g| *g != 0),
        replicas: nonzero(sum(&actual)),
        updated_replicas: nonzero(drafts.new_set().map_or(0, actual)),
        ready_replicas: nonzero(sum(&ready)),
        available_replicas: nonzero(available),
        unavailable_replicas: nonzero(sum(&size).saturating_sub(available).max(0)),
        terminating_replicas: terminating(drafts),
        collision_count: old.collision_count,
        conditions: old.conditions,
    };
    let (state, reason, text) = if available >= sizes.least() {
        (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    } else {
        (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    let told = condition(now, AVAILABLE, state, reason, text.to_owned());
    set(&mut status, told);
    status
}

/// Pods on their way out; unknown as long as one ReplicaSet has not told.
fn terminating(drafts: &Drafts) -> Option<i32> {
    let mut sum = 0;
    for set in drafts.sets() {
        let status = set.status.clone().unwrap_or_default();
        match status.terminating_replicas {
            Some(count) => sum = i32::saturating_add(sum, count),
            None if status.observed_generation.unwrap_or(0) == 0 => {}
            None => return None,
        }
    }
    Some(sum)
}

/// Adds what can be said about the progress of the rollout, and the failures of the ReplicaSets.
pub(super) fn add_progress(
    root: &Deployment,
    spec: &DeploymentSpec,
    drafts: &Drafts,
    status: &mut DeploymentStatus,
    now: Timestamp,
) {
    let old = root.status.clone().unwrap_or_default();
    if !has_deadline(spec) {
        remove(status, PROGRESSING);
    }
    let at_rest = status.replicas == status.updated_replicas
        && progress_reason(&old) == Some(NEW_SET_AVAILABLE);
    if has_deadline(spec) && !at_rest {
        let subject = match drafts.new_set() {
            Some(set) => format!(
                "ReplicaSet {:?}",
                set.metadata.name.as_deref().unwrap_or("")
            ),
            None => format!(
                "Deployment {:?}",
                root.metadata.name.as_deref().unwrap_or("")
            ),
        };
        let tell = |state: &str, reason: &str, text: &str| {
            condition(now, PROGRESSING, state, reason, format!("{subject} {text}"))
        };
        if is_complete(root, spec, status) {
            let told = tell("True", NEW_SET_AVAILABLE, "has successfully progressed.");
            set(status, told);
        } else if has_progressed(&old, status) {
            let mut told = tell("True", "ReplicaSetUpdated", "is progressing.");
            if let Some(current) = find(&old, PROGRESSING) {
                if current.status.as_deref() == Some("True") {
                    told.last_transition_time = current.last_transition_time.clone();
                }
                remove(status, PROGRESSING);
            }
            set(status, told);
        } else if has_timed_out(spec, status, now) {
            set(
                status,
                tell("False", TIMED_OUT, "has timed out progressing."),
            );
        }
    }
    match failure(drafts) {
        Some(failure) => set(status, failure),
        None => remove(status, REPLICA_FAILURE),
    }
}

/// The failure of the new ReplicaSet, or of any other.
fn failure(drafts: &Drafts) -> Option<DeploymentCondition> {
    let is_failure = |c: &&ReplicaSetCondition| c.type_.as_deref() == Some(REPLICA_FAILURE);
    let of = |set: &ReplicaSet| -> Option<ReplicaSetCondition> {
        let conditions = set.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(is_failure).cloned()
    };
    let found = drafts
        .new_set()
        .and_then(of)
        .or_else(|| drafts.sets().find_map(of))?;
    Some(DeploymentCondition {
        type_: found.type_,
        status: found.status,
        last_update_time: found.last_transition_time.clone(),
        last_transition_time: found.last_transition_time,
        reason: found.reason,
        message: found.message,
    })
}

/// Whether all pods are new and available, and no others are left.
pub(super) fn is_complete(
    root: &Deployment,
    spec: &DeploymentSpec,
    status: &DeploymentStatus,
) -> bool {
    let wanted = spec.replicas.unwrap_or(1);
    status.updated_replicas.unwrap_or(0) == wanted
        && status.replicas.unwrap_or(0) == wanted
        && status.available_replicas.unwrap_or(0) == wanted
        && status.observed_generation.unwrap_or(0) >= root.metadata.generation.unwrap_or(0)
}

fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let n = |number: Option<i32>| number.unwrap_or(0);
    let outdated = |s: &DeploymentStatus| n(s.replicas) - n(s.updated_replicas);
    n(new.updated_replicas) > n(old.updated_replicas)
        || outdated(new) < outdated(old)
        || n(new.ready_replicas) > n(old.ready_replicas)
        || n(new.available_replicas) > n(old.available_replicas)
}

/// When the rollout counts as stuck, if nothing moves before.
fn deadline(spec: &DeploymentSpec, status: &DeploymentStatus) -> Option<Timestamp> {
    let updated = find(status, PROGRESSING)?.last_update_time.as_ref()?.0;
    let seconds = spec.progress_deadline_seconds.unwrap_or(0);
    let deadline = updated.saturating_add(SignedDuration::from_secs(seconds.into()));
    Some(deadline.unwrap_or(Timestamp::MAX))
}

fn has_timed_out(spec: &DeploymentSpec, status: &DeploymentStatus, now: Timestamp) -> bool {
    match progress_reason(status) {
        None | Some(NEW_SET_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        Some(_) => deadline(spec, status).is_some_and(|deadline| deadline < now),
    }
}

/// When to look whether the rollout is stuck.
pub(super) fn next_progress_check(
    root: &Deployment,
    spec: &DeploymentSpec,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<Duration> {
    let waits = has_deadline(spec)
        && !is_complete(root, spec, status)
        && progress_reason(status) != Some(TIMED_OUT);
    if !waits {
        return None;
    }
    let left = now.duration_until(deadline(spec, status)?);
    let left = Duration::try_from(left).unwrap_or(Duration::ZERO);
    Some(left + Duration::from_secs(1))
}

/// Whether two statuses say the same; zeros that are left out count as zeros.
pub(super) fn same(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let normal = |status: &DeploymentStatus| {
        let mut status = status.clone();
        for number in [
            &mut status.replicas,
            &mut status.updated_replicas,
            &mut status.ready_replicas,
            &mut status.available_replicas,
            &mut status.unavailable_replicas,
        ] {
            *number = number.filter(|n| *n != 0);
        }
        status.observed_generation = status.observed_generation.filter(|g| *g != 0);
        status.conditions = status.conditions.filter(|c| !c.is_empty());
        status
    };
    normal(old) == normal(new)
}
