//! The status of a pod, from what is observed and what was published before.
//!
//! The rules are those of upstream's `pkg/kubelet/kubelet_pods.go` and `pkg/kubelet/status`.

mod container;
mod phase;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStatus, HostIP, PodIP, PodStatus,
};

use crate::containers::sandbox_problem;
use crate::view::PodView;
use crate::{conditions, pod, qos};
pub(crate) use container::{crash_loop, find_old, full_id, is_started, terminated};
use container::{readiness, statuses, unknown};
use phase::phase;

/// What the status of a pod says that was too long alive.
pub(crate) const DEADLINE_MESSAGE: &str =
    "Pod was active on the node longer than the specified deadline";

/// Why a pod is ending, other than that its containers are done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is not.
    None,
    /// It is to be deleted, or is gone already.
    Deleted,
    /// The node does not take it.
    Rejected,
    /// Its time is over.
    Deadline,
    /// It has ended before.
    Terminal,
}

/// See [`Ending`].
pub(crate) fn ending(view: &PodView<'_>) -> Ending {
    let terminal = |s: &PodStatus| matches!(s.phase.as_deref(), Some("Succeeded" | "Failed"));
    if view.removed || pod::is_deleting(view.pod) {
        Ending::Deleted
    } else if view.memory.rejection.is_some() {
        Ending::Rejected
    } else if pod::is_terminal(view.pod) || terminal(view.last_status) {
        Ending::Terminal
    } else if deadline(view).is_some_and(|at| at <= view.now) {
        Ending::Deadline
    } else {
        Ending::None
    }
}

/// When the pod's active deadline is.
pub(crate) fn deadline(view: &PodView<'_>) -> Option<Timestamp> {
    let seconds = pod::spec(view.pod).active_deadline_seconds?;
    let start = view.last_status.start_time.as_ref()?;
    Some(pod::after(start.0, seconds))
}

pub(crate) fn is_failed(status: &PodStatus) -> bool {
    status.phase.as_deref() == Some("Failed")
}

/// The status to publish. `ended`: nothing of the pod runs or will run.
pub(crate) fn status(view: &PodView<'_>, ended: bool) -> PodStatus {
    let spec = pod::spec(view.pod);
    let last = view.last_status;
    let mut status = PodStatus {
        observed_generation: view.pod.metadata.generation,
        qos_class: Some(qos::class(view.pod).to_owned()),
        start_time: last.start_time.clone().or(Some(pod::api_time(view.now))),
        nominated_node_name: last.nominated_node_name.clone(),
        resource_claim_statuses: last.resource_claim_statuses.clone(),
        ..Default::default()
    };
    addresses(view, &mut status);
    if let (Some((reason, message)), false) = (&view.memory.rejection, has_run(view)) {
        status.phase = Some("Failed".to_owned());
        status.reason = Some(reason.clone());
        status.message = Some(format!("Pod was rejected: {message}"));
        status.conditions = last.conditions.clone();
        return status;
    }
    let ordinary: Vec<&Container> = spec.containers.iter().collect();
    let init: Vec<&Container> = pod::init_containers(view.pod).iter().collect();
    let ephemeral: Vec<Container> = pod::ephemeral_containers(view.pod)
        .iter()
        .map(pod::plain)
        .collect();
    let ephemeral: Vec<&Container> = ephemeral.iter().collect();
    let old = |list: &'_ Option<Vec<ContainerStatus>>| list.clone().unwrap_or_default();
    let mut lists = [
        statuses(view, &ordinary, &old(&last.container_statuses), false),
        statuses(view, &init, &old(&last.init_container_statuses), true),
        statuses(
            view,
            &ephemeral,
            &old(&last.ephemeral_container_statuses),
            false,
        ),
    ];
    lists[0].sort_by(|a, b| a.name.cmp(&b.name));
    for list in &mut lists[..2] {
        for one in list {
            readiness(view, one);
        }
    }
    if ended {
        assume_ended(view, &mut lists);
    }
    let [containers, inits, ephemerals] = lists;
    status.phase = Some(phase(view, &containers, &inits, ended));
    keep_terminal_phase(view, &mut status, ended);
    let all: Vec<ContainerStatus> = inits.iter().chain(&containers).cloned().collect();
    status.conditions = Some(conditions::conditions(view, &status, &all));
    let some = |list: Vec<ContainerStatus>| (!list.is_empty()).then_some(list);
    status.container_statuses = some(containers);
    status.init_container_statuses = some(inits);
    status.ephemeral_container_statuses = some(ephemerals);
    status
}

fn has_run(view: &PodView<'_>) -> bool {
    !view.containers.is_empty()
}

fn addresses(view: &PodView<'_>, status: &mut PodStatus) {
    let hosts = &view.node.ips;
    status.host_ip = hosts.first().cloned();
    status.host_ips =
        (!hosts.is_empty()).then(|| hosts.iter().map(|ip| HostIP { ip: ip.clone() }).collect());
    let ready = view.sandbox().filter(|s| s.ready && !s.ips.is_empty());
    let ips: Vec<String> = match ready {
        Some(sandbox) => sandbox.ips.clone(),
        None if pod::is_host_network(view.pod) => hosts.clone(),
        None => {
            let last = view.last_status.pod_ips.iter().flatten();
            last.map(|i| i.ip.clone()).collect()
        }
    };
    status.pod_ip = ips.first().cloned();
    status.pod_ips = (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect());
}

/// What a status says that its phase alone does not, kept for as long as the phase stays.
fn keep_terminal_phase(view: &PodView<'_>, status: &mut PodStatus, ended: bool) {
    let last = view.last_status;
    let api = view.pod.status.as_ref();
    for known in [api.and_then(|s| s.phase.as_deref()), last.phase.as_deref()] {
        if let Some(phase @ ("Succeeded" | "Failed")) = known {
            status.phase = Some(phase.to_owned());
            break;
        }
    }
    let terminal = |s: &PodStatus| matches!(s.phase.as_deref(), Some("Succeeded" | "Failed"));
    if ending(view) == Ending::Deadline {
        status.phase = Some("Failed".to_owned());
        status.reason = Some("DeadlineExceeded".to_owned());
        status.message = Some(DEADLINE_MESSAGE.to_owned());
    } else if status.phase == last.phase {
        status.reason = last.reason.clone();
        status.message = last.message.clone();
    }
    if ended && !terminal(status) {
        status.phase = Some("Failed".to_owned());
    }
}

/// Once a pod has ended, what is not known to have ended counts as failed.
fn assume_ended(view: &PodView<'_>, lists: &mut [Vec<ContainerStatus>; 3]) {
    let moved = |s: &ContainerStatus| {
        let state = s.state.as_ref();
        terminated(s.last_state.as_ref()).is_some()
            || state.is_some_and(|s| s.running.is_some() || s.terminated.is_some())
    };
    let last_init_done = lists[1].last().is_some_and(|s| s.ready);
    let initialized =
        pod::init_containers(view.pod).is_empty() || lists[0].iter().any(moved) || last_init_done;
    let fail = |status: &mut ContainerStatus| {
        if terminated(status.state.as_ref()).is_none() {
            let message = "The container could not be located when the pod was terminated";
            status.state = Some(ContainerState {
                terminated: Some(unknown(message)),
                ..Default::default()
            });
            status.ready = false;
            status.started = Some(false);
        }
    };
    if initialized {
        lists[0].iter_mut().for_each(fail);
    }
    let begun = lists[1].iter().rposition(moved).map_or(0, |at| at + 1);
    lists[1][..begun].iter_mut().for_each(fail);
}

/// Whether the newest sandbox works, for the condition that says so.
pub(crate) fn sandbox_reason(view: &PodView<'_>) -> Option<&'static str> {
    sandbox_problem(view).map(|(problem, _)| problem)
}
