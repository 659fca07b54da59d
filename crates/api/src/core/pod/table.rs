//! The row of a pod: READY, STATUS, RESTARTS and the rest, from the statuses of its containers.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodSpec, PodStatus,
};
use machinery::Object;
use machinery::table::{Column, Row};
use serde_json::{Value, json};

use crate::columns;
use crate::kind;
use crate::view::{Items, OrEmpty, Yes};

pub(super) const COLUMNS: &[Column] = &[
    columns::NAME,
    columns::text(
        "Ready",
        "The aggregate readiness state of this pod for accepting traffic.",
    ),
    columns::text(
        "Status",
        "The aggregate status of the containers in this pod.",
    ),
    columns::text(
        "Restarts",
        "The number of times the containers in this pod have been restarted and when the last container in this pod \
         has restarted.",
    ),
    columns::AGE,
    columns::wide(
        "IP",
        "podIP address allocated to the pod. Routable at least within the cluster. \
                         Empty if not yet allocated.",
    ),
    columns::wide(
        "Node",
        "NodeName indicates in which node this pod is scheduled. If empty, this pod is a candidate \
         for scheduling by the scheduler defined in schedulerName. Once this field is set, the \
         kubelet for this node becomes responsible for the lifecycle of this pod. This field should \
         not be used to express a desire for the pod to be scheduled on a specific node. \
         https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#nodename",
    ),
    columns::wide(
        "Nominated Node",
        "nominatedNodeName is set only when this pod preempts other pods on the node, but it cannot \
         be scheduled right away as preemption victims receive their graceful termination periods. \
         This field does not guarantee that the pod will be scheduled on this node. Scheduler may \
         decide to place the pod elsewhere if other nodes become available sooner. Scheduler may \
         also decide to give the resources on this node to a higher priority pod that is created \
         after preemption. As a result, this field may be different than PodSpec.nodeName when the \
         pod is scheduled.",
    ),
    columns::wide(
        "Readiness Gates",
        "If specified, all readiness gates will be evaluated for pod readiness. A pod is ready when \
         all its containers are ready AND all conditions specified in the readiness gates have \
         status equal to \"True\" More info: \
         https://git.k8s.io/enhancements/keps/sig-network/580-pod-readiness-gates",
    ),
];

/// What the statuses of the containers add up to.
struct Summary {
    ready: usize,
    reason: String,
    restarts: i32,
    last_restart: Option<Timestamp>,
}

impl Summary {
    fn count(&mut self, status: &ContainerStatus) {
        self.restarts += status.restart_count;
        let last = status
            .last_state
            .as_ref()
            .and_then(|s| s.terminated.as_ref());
        let finished = last.and_then(|t| columns::moment(t.finished_at.as_ref()));
        self.last_restart = self.last_restart.max(finished);
    }
}

pub(super) fn row(pod: &Pod, tree: &Object, now: Timestamp) -> Row {
    let (empty_spec, empty_status) = Default::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty_spec);
    let status = pod.status.as_ref().unwrap_or(&empty_status);
    let summary = summary(pod, spec, status);
    let sidecars = spec
        .init_containers
        .items()
        .iter()
        .filter(|c| is_sidecar(c))
        .count();
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts != 0 => {
            format!(
                "{} ({} ago)",
                summary.restarts,
                columns::since(Some(last), now)
            )
        }
        _ => summary.restarts.to_string(),
    };
    let or_none = |text: &str| Value::from(if text.is_empty() { "<none>" } else { text });
    let ip = status.pod_ips.items().first().map_or("", |ip| &ip.ip);
    let cells = vec![
        tree.name().into(),
        format!("{}/{}", summary.ready, spec.containers.len() + sidecars).into(),
        summary.reason.into(),
        restarts.into(),
        kind::age(tree, now).into(),
        or_none(ip),
        or_none(spec.node_name.text()),
        or_none(status.nominated_node_name.text()),
        readiness_gates(spec, status).into(),
    ];
    Row {
        cells,
        conditions: conditions(status.phase.text()),
    }
}

/// A finished pod's row is marked, so that clients may hide it.
fn conditions(phase: &str) -> Vec<Value> {
    let message = match phase {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return Vec::new(),
    };
    vec![json!({"type": "Completed", "status": "True", "reason": phase, "message": message})]
}

fn is_sidecar(container: &k8s_openapi::api::core::v1::Container) -> bool {
    container.restart_policy.text() == "Always"
}

fn summary(pod: &Pod, spec: &PodSpec, status: &PodStatus) -> Summary {
    let phase = status.phase.text();
    let mut reason = match status.reason.text() {
        "" => phase,
        reason => reason,
    };
    let gated = |c: &k8s_openapi::api::core::v1::PodCondition| {
        c.type_ == "PodScheduled" && c.reason.text() == "SchedulingGated"
    };
    if status.conditions.items().iter().any(gated) {
        reason = "SchedulingGated";
    }
    let reason = reason.to_owned();
    let (mut summary, sidecars, initializing) = init_summary(spec, status, reason);
    if !initializing || has_condition(status, "Initialized") {
        summary.restarts = sidecars.restarts;
        summary.last_restart = sidecars.last_restart;
        main_summary(&mut summary, status);
    }
    if pod.metadata.deletion_timestamp.is_some() {
        if status.reason.text() == "NodeLost" {
            summary.reason = "Unknown".into();
        } else if !matches!(phase, "Failed" | "Succeeded") {
            summary.reason = "Terminating".into();
        }
    }
    summary
}

/// Walks the init containers up to the one that holds the others up. Also returns the restarts of the sidecars alone
/// and whether the pod is still initializing.
fn init_summary(spec: &PodSpec, status: &PodStatus, reason: String) -> (Summary, Summary, bool) {
    let fresh = |reason| Summary {
        ready: 0,
        reason,
        restarts: 0,
        last_restart: None,
    };
    let (mut all, mut sidecars) = (fresh(reason), fresh(String::new()));
    let init = spec.init_containers.items();
    for (i, container) in status.init_container_statuses.items().iter().enumerate() {
        let sidecar = init
            .iter()
            .any(|c| c.name == container.name && is_sidecar(c));
        all.count(container);
        if sidecar {
            sidecars.count(container);
        }
        let state = container.state.as_ref();
        let terminated = state.and_then(|s| s.terminated.as_ref());
        let waiting = state
            .and_then(|s| s.waiting.as_ref())
            .map_or("", |w| w.reason.text());
        if terminated.is_some_and(|t| t.exit_code == 0) {
            continue;
        }
        if sidecar && container.started.yes() {
            all.ready += usize::from(container.ready);
            continue;
        }
        all.reason = match terminated {
            Some(terminated) => format!("Init:{}", ending(terminated)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => {
                format!("Init:{waiting}")
            }
            None => format!("Init:{i}/{}", init.len()),
        };
        return (all, sidecars, true);
    }
    (all, sidecars, false)
}

/// How a container ended, in one word.
fn ending(terminated: &ContainerStateTerminated) -> String {
    match (terminated.reason.text(), terminated.signal.unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", terminated.exit_code),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn main_summary(summary: &mut Summary, status: &PodStatus) {
    let mut running = false;
    let mut failure = String::new();
    let empty = ContainerState::default();
    for container in status.container_statuses.items().iter().rev() {
        summary.count(container);
        let state = container.state.as_ref().unwrap_or(&empty);
        let waiting = state.waiting.as_ref().map_or("", |w| w.reason.text());
        if !waiting.is_empty() {
            summary.reason = waiting.to_owned();
        } else if let Some(terminated) = &state.terminated {
            summary.reason = ending(terminated);
            if terminated.exit_code != 0 {
                failure.clone_from(&summary.reason);
            }
        } else if container.ready && state.running.is_some() {
            running = true;
            summary.ready += 1;
        }
    }
    // One container that still runs makes the pod Running again.
    if summary.reason == "Completed" {
        if running && has_condition(status, "Ready") {
            summary.reason = "Running".into();
        } else if !failure.is_empty() {
            summary.reason = failure;
        } else if running {
            summary.reason = "NotReady".into();
        }
    }
}

fn has_condition(status: &PodStatus, wanted: &str) -> bool {
    status
        .conditions
        .items()
        .iter()
        .any(|c| c.type_ == wanted && c.status == "True")
}

fn readiness_gates(spec: &PodSpec, status: &PodStatus) -> String {
    let gates = spec.readiness_gates.items();
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let met = gates.iter().filter(|gate| {
        let condition = status
            .conditions
            .items()
            .iter()
            .find(|c| c.type_ == gate.condition_type);
        condition.is_some_and(|c| c.status == "True")
    });
    format!("{}/{}", met.count(), gates.len())
}
