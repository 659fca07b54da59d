//! Pods leave nodes whose NoExecute taints they do not tolerate, or no longer.
//!
//! Invariants: a pod that tolerates all such taints without limit is never touched; a limited toleration is granted in
//! full, counted from when the taint and the pod met. Upstream: `pkg/controller/tainteviction` (KEP-3902).

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use control::plan::reference;
use control::{
    Action, Caches, Change, Event, EventType, Key, Look, Patch, Plan, Reconciler, Target, Wake,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use machinery::placement;
use serde_json::json;

use crate::pods;

/// The controller of taint evictions.
pub struct TaintEvictionController;

/// All that a decision may depend on.
pub struct Observed {
    /// The pod.
    pub pod: Arc<Pod>,
    /// The NoExecute taints of its node.
    pub taints: Vec<Taint>,
    /// Since when it has been waiting for its eviction.
    pub since: Option<Timestamp>,
    /// The moment of the decision.
    pub now: Timestamp,
}

impl Reconciler for TaintEvictionController {
    type Observed = Observed;

    const NAME: &'static str = "taint-eviction-controller";
    const IDENTITY: &'static str = "node-controller";

    fn wake(on: &mut Wake<'_>) {
        on.index::<Pod>(pods::BY_NODE, |pod| vec![pods::node_name(pod).to_owned()])
            .on::<Pod>(keys_of_pod)
            .on::<Node>(keys_of_node);
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        let pod = look.caches.of::<Pod>().get(look.key)?;
        let node = look.caches.of::<Node>().named("", pods::node_name(&pod));
        Some(Observed {
            taints: node.map(|n| no_execute(&n)).unwrap_or_default(),
            pod,
            since: look.since,
            now: look.now,
        })
    }

    fn reconcile(o: &Observed) -> Plan {
        if pods::is_deleting(&o.pod) || pods::is_terminal(&o.pod) {
            return Plan::idle("it is leaving");
        }
        match granted(o) {
            Grant::Forever => stay(o),
            Grant::None => evict(o),
            Grant::For(time) => {
                let since = o.since.unwrap_or_else(|| met(o));
                let passed = Duration::try_from(since.duration_until(o.now)).unwrap_or_default();
                if passed >= time {
                    return evict(o);
                }
                Plan {
                    requeue_after: Some(time - passed),
                    since: Some(since),
                    because: format!("it tolerates the taints for {time:?}"),
                    ..Plan::default()
                }
            }
        }
    }
}

fn no_execute(node: &Node) -> Vec<Taint> {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_ref());
    let taints = taints.into_iter().flatten();
    taints
        .filter(|t| t.effect == "NoExecute")
        .cloned()
        .collect()
}

/// Only pods that meet taints: new ones, and those whose tolerations or node change.
fn keys_of_pod(change: &Change<Pod>, caches: &Caches) -> Vec<Key> {
    let Some(pod) = &change.new else {
        return Vec::new();
    };
    let tolerations = |p: &Pod| p.spec.as_ref().and_then(|s| s.tolerations.clone());
    let same = change.old.as_ref().is_some_and(|old| {
        pods::node_name(old) == pods::node_name(pod) && tolerations(old) == tolerations(pod)
    });
    let node = caches.of::<Node>().named("", pods::node_name(pod));
    let tainted = node.is_some_and(|n| !no_execute(&n).is_empty());
    let wakes = !same && tainted;
    wakes.then(|| Key::of(pod.as_ref())).into_iter().collect()
}

fn keys_of_node(change: &Change<Node>, caches: &Caches) -> Vec<Key> {
    let taints = |node: Option<&Arc<Node>>| node.map(|n| no_execute(n)).unwrap_or_default();
    if taints(change.old.as_ref()) == taints(change.new.as_ref()) {
        return Vec::new();
    }
    let name = change.latest().metadata.name.as_deref().unwrap_or_default();
    let pods = caches.of::<Pod>().indexed(pods::BY_NODE, name);
    pods.iter().map(|p| Key::of(p.as_ref())).collect()
}

/// How long a pod may stay.
enum Grant {
    Forever,
    For(Duration),
    None,
}

fn granted(o: &Observed) -> Grant {
    let spec = o.pod.spec.as_ref();
    let tolerations = spec.and_then(|s| s.tolerations.as_deref());
    let tolerations = tolerations.unwrap_or_default();
    let mut shortest: Option<i64> = None;
    for taint in &o.taints {
        let Some(used) = tolerations.iter().find(|t| placement::tolerates(t, taint)) else {
            return Grant::None;
        };
        if let Some(seconds) = used.toleration_seconds {
            shortest = Some(shortest.map_or(seconds, |s| s.min(seconds)));
        }
    }
    match shortest {
        None => Grant::Forever,
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds) if seconds > 0 => Grant::For(Duration::from_secs(seconds)),
            _ => Grant::None,
        },
    }
}

/// When the pod and the first of the taints met, as far as anybody knows.
fn met(o: &Observed) -> Timestamp {
    let added = o.taints.iter().filter_map(|t| t.time_added.as_ref());
    let tainted = added.map(|t| t.0).min().unwrap_or(o.now);
    let bound = pods::condition(&o.pod, "PodScheduled");
    let bound = bound.and_then(|c| c.last_transition_time.as_ref());
    tainted.max(bound.map_or(tainted, |t| t.0)).min(o.now)
}

fn say(o: &Observed, text: &str) -> Action {
    let key = Key::of(o.pod.as_ref());
    Action::Event(Event {
        about: reference(o.pod.as_ref()),
        event_type: EventType::Normal,
        reason: "TaintManagerEviction".to_owned(),
        message: format!("{text} Pod {key}"),
    })
}

fn stay(o: &Observed) -> Plan {
    let because = "it tolerates all taints of its node";
    if o.since.is_none() {
        return Plan::idle(because);
    }
    Plan {
        actions: vec![say(o, "Cancelling deletion of")],
        because: because.to_owned(),
        ..Plan::default()
    }
}

fn evict(o: &Observed) -> Plan {
    let message = "Taint manager: deleting due to NoExecute taint";
    let condition = pods::disruption(&o.pod, "DeletionByTaintManager", message, o.now);
    let patch = json!({
        "metadata": { "uid": o.pod.metadata.uid },
        "status": { "conditions": [condition] },
    });
    Plan {
        actions: vec![
            say(o, "Marking for deletion"),
            Action::Patch {
                target: Target::of(o.pod.as_ref()),
                patch: Patch::Strategic(patch),
                subresource: Some("status"),
                report: None,
            },
            Action::delete(o.pod.as_ref(), None),
        ],
        because: "it does not tolerate the taints of its node any longer".to_owned(),
        ..Plan::default()
    }
}
