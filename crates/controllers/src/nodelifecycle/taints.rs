//! Which taints a node's conditions mean.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::observe::condition;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Condition, its state, and the taint that it means.
const MEANINGS: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    (
        "MemoryPressure",
        "True",
        "node.kubernetes.io/memory-pressure",
    ),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    (
        "NetworkUnavailable",
        "True",
        "node.kubernetes.io/network-unavailable",
    ),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

/// The taints that the node shall have; those of others stay as they are, and so does their order.
pub(super) fn wanted(node: &Node, evicts: Eviction, now: Timestamp) -> Vec<Taint> {
    let means = |(kind, state, _): &&(&str, &str, &str)| {
        condition(node, kind).is_some_and(|c| c.status == *state)
    };
    let mut wanted: Vec<(&str, &str)> = MEANINGS
        .iter()
        .filter(means)
        .map(|(_, _, key)| (*key, "NoSchedule"))
        .collect();
    let spec = node.spec.as_ref();
    if spec.and_then(|s| s.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let old = spec.and_then(|s| s.taints.clone()).unwrap_or_default();
    let ready = condition(node, "Ready").map(|c| c.status.as_str());
    let execute = match ready {
        Some("False") => Some(NOT_READY),
        Some("Unknown") => Some(UNREACHABLE),
        _ => None,
    };
    let had = |key: &str| old.iter().any(|t| t.key == key && t.effect == "NoExecute");
    if let Some(key) = execute {
        let may = match evicts {
            Eviction::Never => false,
            // Nothing new, but what has been decided stands, and follows the condition.
            Eviction::Paused | Eviction::After(_) => had(NOT_READY) || had(UNREACHABLE),
            Eviction::Now => true,
        };
        if may {
            wanted.push((key, "NoExecute"));
        }
    }
    let mut taints = old;
    taints.retain(|t| !is_ours(t) || wanted.contains(&(t.key.as_str(), t.effect.as_str())));
    for (key, effect) in wanted {
        if !taints.iter().any(|t| t.key == key && t.effect == effect) {
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: Some(Time(machinery::time::truncate(now))),
            });
        }
    }
    taints
}

/// Whether pods may be driven out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Eviction {
    /// It is this node's turn.
    Now,
    /// It is, but the last one was too short a time ago.
    After(Duration),
    /// It is another one's turn, or too much of the zone is down: nothing new.
    Paused,
    /// All nodes are down: nothing at all.
    Never,
}

fn is_ours(taint: &Taint) -> bool {
    match taint.effect.as_str() {
        "NoSchedule" => {
            taint.key == UNSCHEDULABLE || MEANINGS.iter().any(|(_, _, key)| *key == taint.key)
        }
        _ => is_eviction(taint),
    }
}

/// Whether this controller drives pods out by it.
pub(super) fn is_eviction(taint: &Taint) -> bool {
    taint.effect == "NoExecute" && [NOT_READY, UNREACHABLE].contains(&taint.key.as_str())
}
