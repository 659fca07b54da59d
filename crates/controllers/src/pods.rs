//! Facts about pods that several controllers share: ready, available, active, and which of them goes first.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodStatus};
use serde_json::{Value, json};

/// Index of pods by the UID of their controller.
pub const BY_CONTROLLER: &str = "controller";
/// Index of pods without controller, by namespace.
pub const ORPHANS: &str = "orphans";
/// Index of pods by node.
pub const BY_NODE: &str = "node";

/// Pods whose deletion costs less go first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The phase, empty when there is none yet.
pub fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status.and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// The node it is bound to, empty when there is none.
pub fn node_name(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref();
    spec.and_then(|s| s.node_name.as_deref())
        .unwrap_or_default()
}

/// One condition of the status.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == kind)
}

/// Whether it has run to its end.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether its deletion has begun.
pub fn is_deleting(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether it counts as a replica.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_deleting(pod)
}

/// Whether it is on its way out but has not ended yet.
pub fn is_terminating(pod: &Pod) -> bool {
    !is_terminal(pod) && is_deleting(pod)
}

/// Whether the Ready condition is true.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// The condition that tells why a pod is removed by somebody else than its user.
pub fn disruption(pod: &Pod, reason: &str, message: &str, now: Timestamp) -> Value {
    let mut condition = json!({
        "type": "DisruptionTarget",
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": machinery::time::rfc3339(now),
    });
    if let Some(generation) = pod.metadata.generation {
        condition["observedGeneration"] = generation.into();
    }
    condition
}

/// Since when it is ready.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|c| c.status == "True")?;
    ready.last_transition_time.as_ref().map(|t| t.0)
}

/// Whether it has been ready long enough.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    is_ready(pod)
        && (min_ready_seconds == 0
            || ready_since(pod).is_some_and(|since| available_at(since, min_ready_seconds) <= now))
}

/// How long until the next of the pods becomes available merely by time passing.
pub fn next_availability(
    pods: &[Arc<Pod>],
    min_ready_seconds: i32,
    now: Timestamp,
) -> Option<Duration> {
    let waiting = pods
        .iter()
        .filter(|p| !is_available(p, min_ready_seconds, now));
    let times = waiting.filter_map(|p| ready_since(p));
    let wait = |since| now.duration_until(available_at(since, min_ready_seconds));
    times
        .map(wait)
        .filter_map(|wait| Duration::try_from(wait).ok())
        .min()
}

fn available_at(since: Timestamp, min_ready_seconds: i32) -> Timestamp {
    let seconds = u64::try_from(min_ready_seconds).unwrap_or(0);
    // Anybody who may write a status may write the year 9999.
    since
        .saturating_add(Duration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

/// The pods to delete first, `count` of them. Pods on nodes that carry many of the `related` ones go before others.
pub fn first_to_go(
    pods: &[Arc<Pod>],
    related: &[Arc<Pod>],
    count: usize,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in related.iter().filter(|p| is_active(p)) {
        *on_node.entry(node_name(pod)).or_default() += 1;
    }
    let mut ranked: Vec<(&Arc<Pod>, usize)> = pods
        .iter()
        .map(|pod| (pod, on_node.get(node_name(pod)).copied().unwrap_or(0)))
        .collect();
    ranked.sort_by(|(a, near_a), (b, near_b)| deletion_order(a, *near_a, b, *near_b, now));
    let chosen = ranked.into_iter().take(count);
    chosen.map(|(pod, _)| Arc::clone(pod)).collect()
}

/// Upstream's order (`ActivePodsWithRanks`), made total: times count by their power of two, the UID decides last.
fn deletion_order(a: &Pod, near_a: usize, b: &Pod, near_b: usize, now: Timestamp) -> Ordering {
    let key = |pod: &Pod, near: usize| {
        let ready = is_ready(pod);
        let ready_age = if ready {
            age_rank(ready_since(pod), now)
        } else {
            0
        };
        (
            !node_name(pod).is_empty(),
            phase_rank(phase(pod)),
            ready,
            deletion_cost(pod),
            Reverse(near),
            ready_age,
            Reverse(restarts(pod)),
            age_rank(creation(pod), now),
        )
    };
    let order = key(a, near_a).cmp(&key(b, near_b));
    order.then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
}

fn phase_rank(phase: &str) -> u8 {
    match phase {
        "Pending" => 0,
        "Unknown" => 1,
        "Running" => 2,
        _ => 0,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    let value = annotations.and_then(|a| a.get(DELETION_COST));
    value.and_then(|v| v.parse().ok()).unwrap_or(0)
}

fn creation(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|t| t.0)
}

/// The power of two of an age in nanoseconds; -1 for the future, less for no time at all.
fn age_rank(since: Option<Timestamp>, now: Timestamp) -> i64 {
    let Some(since) = since else { return -2 };
    let age = since.duration_until(now).as_nanos();
    u128::try_from(age)
        .ok()
        .and_then(u128::checked_ilog2)
        .map_or(-1, i64::from)
}

/// Most restarts among the regular containers and among the sidecars.
fn restarts(pod: &Pod) -> (i32, i32) {
    let Some(status) = &pod.status else {
        return (0, 0);
    };
    let regular = status.container_statuses.iter().flatten();
    let regular = regular.map(|s| s.restart_count).max().unwrap_or(0);
    (regular, sidecar_restarts(pod, status))
}

fn sidecar_restarts(pod: &Pod, status: &PodStatus) -> i32 {
    let init = pod.spec.as_ref().and_then(|s| s.init_containers.as_ref());
    let sidecar = |name: &str| {
        let is = |c: &&Container| c.name == name && c.restart_policy.as_deref() == Some("Always");
        init.is_some_and(|all| all.iter().any(|c| is(&c)))
    };
    let statuses = status.init_container_statuses.iter().flatten();
    let sidecars = statuses.filter(|s| sidecar(&s.name));
    sidecars.map(|s| s.restart_count).max().unwrap_or(0)
}

/// When a pod that has ended did so: by its containers, by its Ready condition, by its deletion, or else when it was
/// made.
pub fn finished_at(pod: &Pod) -> Option<Timestamp> {
    containers_finished(pod)
        .or_else(|| {
            let ready = condition(pod, "Ready").filter(|c| c.status == "False")?;
            ready.last_transition_time.as_ref().map(|t| t.0)
        })
        .or_else(|| {
            let deletion = pod.metadata.deletion_timestamp.as_ref()?.0;
            let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
            let grace = Duration::from_secs(grace.max(0).unsigned_abs());
            deletion.saturating_sub(grace).ok()
        })
        .or_else(|| creation(pod))
}

/// When the last container ended; nothing while one has not. Sidecars end last.
fn containers_finished(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let init = pod.spec.as_ref().and_then(|s| s.init_containers.as_ref());
    let sidecar = |name: &str| {
        let is = |c: &Container| c.name == name && c.restart_policy.as_deref() == Some("Always");
        init.is_some_and(|all| all.iter().any(is))
    };
    let sidecars = status.init_container_statuses.iter().flatten();
    let sidecars = sidecars.filter(|s| sidecar(&s.name));
    let regular = status.container_statuses.iter().flatten();
    let mut last = None;
    for container in regular.chain(sidecars) {
        let ended = container.state.as_ref()?.terminated.as_ref()?;
        last = last.max(Some(ended.finished_at.as_ref()?.0));
    }
    last
}
