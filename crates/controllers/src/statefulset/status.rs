//! What a StatefulSet tells about its pods.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;

use super::identity::revision;
use crate::pods;

/// Counts for the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    replicas: i32,
    pub(super) ready: i32,
    pub(super) available: i32,
    /// Pods of the current revision.
    pub(super) current: i32,
    updated: i32,
}

/// The names of the two revisions.
#[derive(Clone, Copy)]
pub(super) struct Revisions<'a> {
    pub(super) current: &'a str,
    pub(super) update: &'a str,
}

/// Counts pods as they are.
pub(super) fn count<'a>(
    all: impl Iterator<Item = &'a Pod>,
    min_ready_seconds: i32,
    revisions: Revisions<'_>,
    now: Timestamp,
) -> Counts {
    let mut counts = Counts::default();
    for pod in all.filter(|p| !pods::phase(p).is_empty()) {
        counts.replicas += 1;
        if pods::phase(pod) == "Running" && pods::is_ready(pod) {
            counts.ready += 1;
            counts.available += i32::from(pods::is_available(pod, min_ready_seconds, now));
        }
        if !pods::is_deleting(pod) {
            counts.current += i32::from(revision(pod) == revisions.current);
            counts.updated += i32::from(revision(pod) == revisions.update);
        }
    }
    counts
}

/// The new status, if it differs. An update that is complete makes the new revision the current one.
pub(super) fn status(
    set: &StatefulSet,
    mut counts: Counts,
    revisions: Revisions<'_>,
) -> Option<StatefulSetStatus> {
    let old = set.status.clone().unwrap_or_default();
    let wanted = set.spec.replicas.unwrap_or(1);
    let complete = counts.updated == wanted && counts.ready == wanted && counts.replicas == wanted;
    let mut current = revisions.current;
    if complete {
        counts.current = counts.updated;
        current = revisions.update;
    }
    let nonzero = crate::replicas::nonzero;
    let new = StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas: counts.replicas,
        ready_replicas: nonzero(counts.ready),
        available_replicas: Some(counts.available),
        current_replicas: nonzero(counts.current),
        updated_replicas: nonzero(counts.updated),
        current_revision: Some(current.to_owned()),
        update_revision: Some(revisions.update.to_owned()),
        collision_count: Some(old.collision_count.unwrap_or(0)),
        conditions: old.conditions.clone(),
    };
    (!same(&old, &new)).then_some(new)
}

/// An absent number counts as zero: the API leaves zeros out.
fn same(old: &StatefulSetStatus, new: &StatefulSetStatus) -> bool {
    let zero = |n: Option<i32>| n.unwrap_or(0);
    old.observed_generation >= new.observed_generation
        && old.replicas == new.replicas
        && zero(old.ready_replicas) == zero(new.ready_replicas)
        && zero(old.available_replicas) == zero(new.available_replicas)
        && zero(old.current_replicas) == zero(new.current_replicas)
        && zero(old.updated_replicas) == zero(new.updated_replicas)
        && old.current_revision == new.current_revision
        && old.update_revision == new.update_revision
}
