//! Whether a node has fallen silent, and what follows.

use std::time::Duration;

use control::plan::reference;
use control::{Action, Event, EventType, Patch, Plan, Question, StatusWrite, Target};
use k8s_openapi::api::core::v1::{Node, NodeCondition, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value, json};

use super::observe::{condition, lease_of};
use super::taints::{Eviction, wanted};
use super::{Known, Observed};

/// Conditions that only the kubelet knows.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// Labels of old, and those that they follow.
const FORMER_LABELS: [(&str, &str); 2] = [
    ("kubernetes.io/os", "beta.kubernetes.io/os"),
    ("kubernetes.io/arch", "beta.kubernetes.io/arch"),
];
/// Decides about one node.
pub(super) fn reconcile(o: &Observed) -> Plan {
    let o = match o {
        Observed::Known(known) => known,
        Observed::Gone(name) => return removed(name),
    };
    let mut plan = decide(o);
    plan.since = o.since.or(Some(o.now));
    if o.since.is_none() {
        let name = o.node.metadata.name.as_deref().unwrap_or_default();
        let text = format!("Node {name} event: Registered Node {name} in Controller");
        plan.actions.insert(0, say(o, "RegisteredNode", text));
    }
    plan
}

fn removed(name: &str) -> Plan {
    let event = Action::Event(Event {
        about: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(name.to_owned()),
            ..ObjectReference::default()
        },
        event_type: EventType::Normal,
        reason: "RemovingNode".to_owned(),
        message: format!("Node {name} event: Removing Node {name} from Controller"),
    });
    Plan {
        actions: vec![event],
        because: "the node is gone".to_owned(),
        ..Plan::default()
    }
}

fn decide(o: &Known) -> Plan {
    let silence = Duration::try_from(o.heard.duration_until(o.now)).unwrap_or_default();
    let grace = match condition(&o.node, "Ready") {
        Some(_) => o.options.node_monitor_grace_period,
        None => o.options.node_startup_grace_period,
    };
    if silence > grace
        && let Some(plan) = lost(o)
    {
        return plan;
    }
    let mut plan = follow(o);
    if silence <= grace {
        // The next renewal replaces this timer.
        let next = grace - silence + Duration::from_millis(10);
        plan.requeue_after = Some(plan.requeue_after.map_or(next, |turn| turn.min(next)));
    }
    plan
}

/// The node is silent: once the API confirms that, its conditions are unknown. None when they are already.
fn lost(o: &Known) -> Option<Plan> {
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
fn unknown(o: &Known) -> Option<Node> {
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
fn follow(o: &Known) -> Plan {
    let node = o.node.as_ref();
    let ready = condition(node, "Ready").map(|c| c.status.as_str());
    let eviction = eviction(o);
    let taints = wanted(node, eviction, o.now);
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
            // An empty list is none, as in upstream's encoding.
            let taints = Some(taints).filter(|t| !t.is_empty());
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
        requeue_after: match eviction {
            Eviction::After(turn) => Some(turn),
            Eviction::Now | Eviction::Paused | Eviction::Never => None,
        },
        ..Plan::default()
    }
}

/// Driving pods out is meant for single nodes that fail, not for networks that do.
fn eviction(o: &Known) -> Eviction {
    if o.cluster_ready == 0 {
        return Eviction::Never;
    }
    let rate = rate(o);
    if rate <= 0.0 {
        return Eviction::Paused;
    }
    // Another one's turn comes first; when it has been tainted, this node is looked at again.
    let name = o.node.metadata.name.as_deref();
    if o.zone.waiting.first().map(String::as_str) != name {
        return Eviction::Paused;
    }
    let pause = Duration::try_from_secs_f64(rate.recip()).unwrap_or(Duration::MAX);
    let last = o.zone.tainted.map(|at| at.duration_until(o.now));
    let passed = last.map(|passed| Duration::try_from(passed).unwrap_or_default());
    match passed.map(|passed| pause.saturating_sub(passed)) {
        Some(left) if !left.is_zero() => Eviction::After(left),
        _ => Eviction::Now,
    }
}

/// Nodes a second that may be tainted in this node's zone. A zone that is down as a whole is treated as if its nodes had
/// failed one by one: there are other zones.
#[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 nodes")]
fn rate(o: &Known) -> f64 {
    let size = o.zone.ready + o.zone.not_ready;
    let down = o.zone.not_ready as f64 / size.max(1) as f64;
    let mostly_down =
        o.zone.ready > 0 && o.zone.not_ready > 2 && down >= o.options.unhealthy_zone_threshold;
    match mostly_down {
        false => o.options.node_eviction_rate,
        true if size > o.options.large_cluster_size_threshold => {
            o.options.secondary_node_eviction_rate
        }
        true => 0.0,
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
fn not_ready(o: &Known, pod: &Pod) -> [Action; 2] {
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

fn say(o: &Known, reason: &str, message: String) -> Action {
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
