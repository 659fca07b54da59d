//! The status of a ReplicaSet.

use control::{Plan, StatusWrite};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::replicas::{Decision, Observed, decide, nonzero};

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Decides about one ReplicaSet.
pub(super) fn reconcile(o: &Observed<ReplicaSet>) -> Plan {
    let decision = decide(o);
    if decision.asks {
        return Plan {
            actions: decision.actions,
            because: decision.because,
            ..Plan::default()
        };
    }
    Plan {
        status: status(o, &decision),
        actions: decision.actions,
        requeue_after: decision.requeue_after,
        because: decision.because,
        ..Plan::default()
    }
}

/// The new status, if it differs.
fn status(o: &Observed<ReplicaSet>, decision: &Decision) -> Option<StatusWrite> {
    let root = o.root.as_ref();
    let old = root.status.clone().unwrap_or_default();
    let counts = decision.counts;
    let new = ReplicaSetStatus {
        replicas: counts.replicas,
        fully_labeled_replicas: nonzero(counts.fully_labeled),
        ready_replicas: nonzero(counts.ready),
        available_replicas: nonzero(counts.available),
        terminating_replicas: Some(counts.terminating),
        observed_generation: root.metadata.generation.filter(|g| *g != 0),
        conditions: conditions(o, decision, &old),
    };
    if same(&old, &new) {
        return None;
    }
    let mut object = root.clone();
    object.status = Some(new);
    Some(StatusWrite::of(&object))
}

/// An absent number counts as zero: the API leaves zeros out.
fn same(old: &ReplicaSetStatus, new: &ReplicaSetStatus) -> bool {
    let zero = |n: Option<i32>| n.unwrap_or(0);
    old.replicas == new.replicas
        && zero(old.fully_labeled_replicas) == zero(new.fully_labeled_replicas)
        && zero(old.ready_replicas) == zero(new.ready_replicas)
        && zero(old.available_replicas) == zero(new.available_replicas)
        && old.terminating_replicas == new.terminating_replicas
        && old.observed_generation.unwrap_or(0) == new.observed_generation.unwrap_or(0)
        && old.conditions.as_deref().unwrap_or_default()
            == new.conditions.as_deref().unwrap_or_default()
}

fn conditions(
    o: &Observed<ReplicaSet>,
    decision: &Decision,
    old: &ReplicaSetStatus,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let is_failure = |c: &ReplicaSetCondition| c.type_.as_deref() == Some(REPLICA_FAILURE);
    match &decision.failure {
        None => conditions.retain(|c| !is_failure(c)),
        Some(_) if conditions.iter().any(is_failure) => {}
        Some(failure) => conditions.push(ReplicaSetCondition {
            type_: Some(REPLICA_FAILURE.to_owned()),
            status: Some("True".to_owned()),
            reason: Some(failure.reason.to_owned()),
            message: Some(failure.message.clone()),
            last_transition_time: Some(Time(machinery::time::truncate(o.now))),
        }),
    }
    (!conditions.is_empty()).then_some(conditions)
}
