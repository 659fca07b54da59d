//! The status of an owner of replicas. Both kinds spell it alike, so it is written as the tree that it is.

use control::plan::to_value;
use control::{Plan, StatusWrite, Target};
use serde_json::{Map, Value, json};

use super::{Decision, Observed, Replicated, decide};

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Decides about one owner of replicas.
pub fn reconcile<O: Replicated>(o: &Observed<O>) -> Plan {
    let decision = decide(o);
    let status = (!decision.asks).then(|| status(o, &decision)).flatten();
    Plan {
        status,
        actions: decision.actions,
        requeue_after: decision.requeue_after,
        because: decision.because,
        ..Plan::default()
    }
}

/// The new status, if it differs.
fn status<O: Replicated>(o: &Observed<O>, decision: &Decision) -> Option<StatusWrite> {
    let mut object = to_value(o.root.as_ref());
    let old = object["status"].take();
    let counts = decision.counts;
    let generation = o.root.metadata().generation.unwrap_or(0);
    let mut new = Map::new();
    // As the API writes them: numbers are left out when they are zero, but for the first.
    new.insert("replicas".into(), counts.replicas.into());
    let numbers = [
        ("fullyLabeledReplicas", i64::from(counts.fully_labeled)),
        ("readyReplicas", i64::from(counts.ready)),
        ("availableReplicas", i64::from(counts.available)),
        ("observedGeneration", generation),
    ];
    for (key, number) in numbers.into_iter().filter(|(_, number)| *number != 0) {
        new.insert(key.into(), number.into());
    }
    if O::TELLS_TERMINATING {
        new.insert("terminatingReplicas".into(), counts.terminating.into());
    }
    let conditions = conditions(o, decision, &old);
    if !conditions.is_empty() {
        new.insert("conditions".into(), conditions.into());
    }
    let new = Value::Object(new);
    if same(&old, &new) {
        return None;
    }
    object["status"] = new;
    Some(StatusWrite {
        target: Target::of(o.root.as_ref()),
        object,
    })
}

/// An absent number counts as zero.
fn same(old: &Value, new: &Value) -> bool {
    let zero = [
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
    ];
    let number = |status: &Value, key: &str| status[key].as_i64().unwrap_or(0);
    let list = |status: &Value| status["conditions"].as_array().cloned().unwrap_or_default();
    zero.iter().all(|key| number(old, key) == number(new, key))
        && old["terminatingReplicas"] == new["terminatingReplicas"]
        && list(old) == list(new)
}

fn conditions<O: Replicated>(o: &Observed<O>, decision: &Decision, old: &Value) -> Vec<Value> {
    let mut conditions = old["conditions"].as_array().cloned().unwrap_or_default();
    let is_failure = |c: &Value| c["type"] == REPLICA_FAILURE;
    match &decision.failure {
        None => conditions.retain(|c| !is_failure(c)),
        Some(_) if conditions.iter().any(is_failure) => {}
        Some(failure) => conditions.push(json!({
            "type": REPLICA_FAILURE,
            "status": "True",
            "reason": failure.reason,
            "message": failure.message,
            "lastTransitionTime": machinery::time::rfc3339(o.now),
        })),
    }
    conditions
}
