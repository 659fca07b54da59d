//! Whether a node has fallen silent, and what follows.

use std::time::Duration;

use control::plan::reference;
use control::{Action, Event, EventType, Patch, Plan, Question, StatusWrite, Target};
use k8s_openapi::api::core::v1::{Node, NodeCondition, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value, json};

use super::observe::{condition, lease_of};
use super::taints::{Eviction, wanted};
use super::{GRACE, Observed, STARTUP_GRACE};

/// Conditions that only the kubelet knows.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// Labels of old, and those that they follow.
const FORMER_LABELS: [(&str, &str); 2] = [
    ("kubernetes.io/os", "beta.kubernetes.io/os"),
    ("kubernetes.io/arch", "beta.kubernetes.io/arch"),
];
/// Clusters up to this size stop driving pods out when a zone is mostly down.
const LARGE_CLUSTER: usize = 50;
/// Share of nodes that may be down in a zone, in percent.
const ZONE_THRESHOLD: usize = 55;

/// Decides about one node.
pub(super) fn reconcile(o: &Observed) -> Plan {
    let mut plan = decide(o);
    plan.since = o.since.or(Some(o.now));
    if o.since.is_none() {
        let name = o.node.metadata.name.as_deref().unwrap_or_default();
        let text = format!("Node {name} event: Registered Node {name} in Controller");
        plan.actions.insert(0, say(o, "RegisteredNode", text));
    }
    plan
}

fn decide(o: &Observed) -> Plan {
    let silence = Duration::try_from(o.heard.duration_until(o.now)).unwrap_or_default();
    let grace = match condition(&o.node, "Ready") {
        Some(_) => GRACE,
        None => STARTUP_GRACE,
    };
    if silence > grace
        && let Some(plan) = lost(o)
    {
        return plan;
    }
    let mut plan = follow(o);
    if silence <= grace {
        // The next renewal replaces this timer.
        plan.requeue_after = Some(grace - silence + Duration::from_millis(10));
    }
    plan
}

/// The node is silent: once the API confirms that, its conditions are unknown. None when they are already.
fn lost(o: &Observed) -> Option<Plan> {
    let node = unknown(o)?;
    let cached = o
        .lease
        .as_ref()
        .map(|l| l.metadata.resource_version.clone());
    let cached = cached.flatten().unwrap_or_default();
    match &o.live_lease {
        None => Some(Plan {
            actions: vec![Action::Confirm(Question::Get(lease_of(&o.node)))],
            because: "it is silent, the API is asked for its lease".to_owned(),
            ..Plan::default()
        }),
        Some(live) if *live != cached => Some(Plan {
            requeue_after: Some(Duration::from_secs(1)),
            because: "its lease has been renewed, the cache is behind".to_owned(),
            ..Plan::default()
        }),
        Some(_) => {
            let was_ready = condition(&o.node, "Ready").is_some_and(|c| c.status == "True");
            let name = o.node.metadata.name.as_deref().unwrap_or_default();
            let text = format!("Node {name} status is now: NodeNotReady");
            let event = was_ready.then(|| say(o, "NodeNotReady", text));
            Some(Plan {
                actions: event.into_iter().collect(),
                status: Some(StatusWrite::of(&node)),
                because: "it has fallen silent".to_owned(),
                ..Plan::default()
            })
        }
    }
}

/// The node with its reported conditions unknown; none if they are so already.
fn unknown(o: &Observed) -> Option<Node> {
    let mut node = o.node.as_ref().clone();
    let created = node.metadata.creation_timestamp.clone();
    let now = Some(Time(machinery::time::truncate(o.now)));
    let status = node.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    let mut changed = false;
    for kind in REPORTED {
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            None => {
                changed = true;
                conditions.push(NodeCondition {
                    type_: kind.to_owned(),
                    status: "Unknown".to_owned(),
                    reason: Some("NodeStatusNeverUpdated".to_owned()),
                    message: Some("Kubelet never posted node status.".to_owned()),
                    last_heartbeat_time: created.clone(),
                    last_transition_time: now.clone(),
                });
            }
            Some(old) if old.status != "Unknown" => {
                changed = true;
                old.status = "Unknown".to_owned();
                old.reason = Some("NodeStatusUnknown".to_owned());
                old.message = Some("Kubelet stopped posting node status.".to_owned());
                old.last_transition_time.clone_from(&now);
            }
            Some(_) => {}
        }
    }
    changed.then_some(node)
}

/// Taints, labels and pods follow the conditions as they are.
fn follow(o: &Observed) -> Plan {
    let node = o.node.as_ref();
    let ready = condition(node, "Ready").map(|c| c.status.as_str());
    let taints = wanted(node, eviction(o), o.now);
    let old = node.spec.as_ref().and_then(|s| s.taints.clone());
    let retaint = old.unwrap_or_default() != taints;
    let labels = labels(node);
    let mut actions = Vec::new();
    if retaint || !labels.is_empty() {
        let mut patch = json!({ "metadata": {
            "uid": node.metadata.uid,
            "resourceVersion": node.metadata.resource_version,
        }});
        if retaint {
            patch["spec"] = json!({ "taints": taints });
        }
        if !labels.is_empty() {
            patch["metadata"]["labels"] = Value::Object(labels);
        }
        actions.push(Action::merge(node, patch, None));
    }
    if ready == Some("Unknown") {
        for pod in &o.ready_pods {
            actions.extend(not_ready(o, pod));
        }
    }
    Plan {
        because: match ready {
            Some("True") => "it is ready".to_owned(),
            Some("Unknown") => "it is silent".to_owned(),
            Some(_) => "it is not ready".to_owned(),
            None => "it has not told its status yet".to_owned(),
        },
        actions,
        ..Plan::default()
    }
}

/// Driving pods out is meant for single nodes that fail, not for networks that do.
fn eviction(o: &Observed) -> Eviction {
    let size = o.cluster.ready + o.cluster.not_ready;
    if o.cluster.ready == 0 {
        return Eviction::Never;
    }
    let zone_size = o.zone.ready + o.zone.not_ready;
    let mostly_down = o.zone.not_ready > 2
        && o.zone.ready > 0
        && o.zone.not_ready * 100 >= zone_size * ZONE_THRESHOLD;
    if mostly_down && size <= LARGE_CLUSTER {
        Eviction::Paused
    } else {
        Eviction::Normal
    }
}

fn labels(node: &Node) -> Map<String, Value> {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let differing = FORMER_LABELS.iter().filter_map(|(key, former)| {
        let value = labels.get(*key)?;
        (labels.get(*former) != Some(value))
            .then(|| ((*former).to_owned(), Value::from(value.as_str())))
    });
    differing.collect()
}

/// Marks a pod of a silent node as not ready, and says so.
fn not_ready(o: &Observed, pod: &Pod) -> [Action; 2] {
    let condition = json!({
        "type": "Ready",
        "status": "False",
        "lastTransitionTime": machinery::time::rfc3339(o.now),
    });
    let patch = json!({
        "metadata": { "uid": pod.metadata.uid },
        "status": { "conditions": [condition] },
    });
    [
        Action::Patch {
            target: Target::of(pod),
            patch: Patch::Strategic(patch),
            subresource: Some("status"),
            report: None,
        },
        Action::Event(Event {
            about: reference(pod),
            event_type: EventType::Warning,
            reason: "NodeNotReady".to_owned(),
            message: "Node is not ready".to_owned(),
        }),
    ]
}

fn say(o: &Observed, reason: &str, message: String) -> Action {
    Action::Event(Event {
        about: ObjectReference {
            resource_version: None,
            ..reference(o.node.as_ref())
        },
        event_type: EventType::Normal,
        reason: reason.to_owned(),
        message,
    })
}
