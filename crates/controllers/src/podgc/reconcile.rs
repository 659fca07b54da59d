//! Whether a pod is removed by force.

use std::sync::Arc;
use std::time::Duration;

use control::{Action, Patch, Plan, Question, Target};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::Observed;
use super::observe::node_of;
use crate::pods;

/// How long a node may be missing before anybody asks for it.
const QUARANTINE: Duration = Duration::from_secs(40);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Decides about one pod, or about all that have ended.
pub(super) fn reconcile(o: &Observed) -> Plan {
    match o {
        Observed::Ended(pods, kept) => keep_some(pods, *kept),
        Observed::Pod {
            pod,
            node,
            node_lives,
            since,
            now,
        } => {
            if pods::node_name(pod).is_empty() {
                return unbound(pod);
            }
            match node {
                Some(node) => bound(pod, node),
                None => lost(pod, *node_lives, *since, *now),
            }
        }
    }
}

fn unbound(pod: &Pod) -> Plan {
    if !pods::is_deleting(pod) {
        return Plan::idle("it waits for a node");
    }
    Plan {
        actions: remove(pod, None),
        because: "it is leaving and was never bound to a node".to_owned(),
        ..Plan::default()
    }
}

fn bound(pod: &Pod, node: &Node) -> Plan {
    if !(pods::is_deleting(pod) && is_out_of_service(node)) {
        return Plan::idle("its node is there");
    }
    Plan {
        actions: remove(pod, None),
        because: "it is leaving and its node is out of service".to_owned(),
        ..Plan::default()
    }
}

fn lost(pod: &Pod, node_lives: Option<bool>, since: Option<Timestamp>, now: Timestamp) -> Plan {
    let since = since.unwrap_or(now);
    let waited = Duration::try_from(since.duration_until(now)).unwrap_or(Duration::ZERO);
    if waited < QUARANTINE {
        return Plan {
            requeue_after: Some(QUARANTINE - waited),
            since: Some(since),
            because: "its node is missing, which may pass".to_owned(),
            ..Plan::default()
        };
    }
    match node_lives {
        None => Plan {
            actions: vec![Action::Confirm(Question::Get(node_of(pod)))],
            since: Some(since),
            because: "its node has been missing for long, the API is asked".to_owned(),
            ..Plan::default()
        },
        Some(true) => Plan::idle("its node is there after all"),
        Some(false) => {
            let message = "PodGC: node no longer exists";
            let condition = pods::disruption(pod, "DeletionByPodGC", message, now);
            Plan {
                actions: remove(pod, Some(condition)),
                because: "its node no longer exists".to_owned(),
                ..Plan::default()
            }
        }
    }
}

/// Whether the node is not ready and somebody has said that it is switched off.
pub(super) fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_ref());
    let tainted = taints.is_some_and(|t| t.iter().any(|t| t.key == OUT_OF_SERVICE));
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let ready =
        conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    tainted && !ready
}

/// Too many ended pods: evicted ones go first, then the oldest.
fn keep_some(pods: &[Arc<Pod>], kept: usize) -> Plan {
    let surplus = if kept == 0 {
        0
    } else {
        pods.len().saturating_sub(kept)
    };
    if surplus == 0 {
        return Plan::idle(format!("{} pods have ended", pods.len()));
    }
    let mut sorted: Vec<&Arc<Pod>> = pods.iter().collect();
    sorted.sort_by_key(|p| {
        let reason = p.status.as_ref().and_then(|s| s.reason.as_deref());
        (
            reason != Some("Evicted"),
            p.metadata.creation_timestamp.clone(),
            p.metadata.name.clone(),
        )
    });
    let gone = sorted.into_iter().take(surplus);
    Plan {
        actions: gone.flat_map(|p| remove(p, None)).collect(),
        because: format!("{} pods have ended, {kept} are kept", pods.len()),
        ..Plan::default()
    }
}

/// Marks it failed, unless it has ended, and removes it without grace.
fn remove(pod: &Pod, condition: Option<Value>) -> Vec<Action> {
    let mut actions = Vec::new();
    if !pods::is_terminal(pod) {
        let mut status = json!({ "phase": "Failed" });
        if let Some(condition) = condition {
            status["conditions"] = json!([condition]);
        }
        let patch = json!({ "metadata": { "uid": pod.metadata.uid }, "status": status });
        actions.push(Action::Patch {
            target: Target::of(pod),
            patch: Patch::Strategic(patch),
            subresource: Some("status"),
            report: None,
        });
    }
    actions.push(Action::Delete {
        target: Target::of(pod),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        resource_version: None,
        propagation: None,
        grace_seconds: Some(0),
        report: None,
    });
    actions
}
