//! The status of a ReplicationController.

use control::{Plan, StatusWrite};
use k8s_openapi::api::core::v1::{
    ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::replicas::{Decision, Observed, decide, nonzero};

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Decides about one ReplicationController.
pub(super) fn reconcile(o: &Observed<ReplicationController>) -> Plan {
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
fn status(o: &Observed<ReplicationController>, decision: &Decision) -> Option<StatusWrite> {
    let root = o.root.as_ref();
    let old = root.status.clone().unwrap_or_default();
    let counts = decision.counts;
    let new = ReplicationControllerStatus {
        replicas: counts.replicas,
        fully_labeled_replicas: nonzero(counts.fully_labeled),
        ready_replicas: nonzero(counts.ready),
        available_replicas: nonzero(counts.available),
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
fn same(old: &ReplicationControllerStatus, new: &ReplicationControllerStatus) -> bool {
    let zero = |n: Option<i32>| n.unwrap_or(0);
    old.replicas == new.replicas
        && zero(old.fully_labeled_replicas) == zero(new.fully_labeled_replicas)
        && zero(old.ready_replicas) == zero(new.ready_replicas)
        && zero(old.available_replicas) == zero(new.available_replicas)
        && old.observed_generation.unwrap_or(0) == new.observed_generation.unwrap_or(0)
        && old.conditions.as_deref().unwrap_or_default()
            == new.conditions.as_deref().unwrap_or_default()
}

fn conditions(
    o: &Observed<ReplicationController>,
    decision: &Decision,
    old: &ReplicationControllerStatus,
) -> Option<Vec<ReplicationControllerCondition>> {
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let is_failure = |c: &ReplicationControllerCondition| c.type_ == REPLICA_FAILURE;
    match &decision.failure {
        None => conditions.retain(|c| !is_failure(c)),
        Some(_) if conditions.iter().any(is_failure) => {}
        Some(failure) => conditions.push(ReplicationControllerCondition {
            type_: REPLICA_FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: Some(failure.reason.to_owned()),
            message: Some(failure.message.clone()),
            last_transition_time: Some(Time(machinery::time::truncate(o.now))),
        }),
    }
    (!conditions.is_empty()).then_some(conditions)
}
