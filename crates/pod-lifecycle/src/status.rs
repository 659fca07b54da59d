//! The status of a pod, from what is observed and what was published before.
//!
//! The rules are those of upstream's `pkg/kubelet/kubelet_pods.go` and `pkg/kubelet/status`.

mod phase;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, ContainerUser, HostIP, LinuxContainerUser, PodIP,
    PodStatus, ResourceRequirements, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::containers::{sandbox_problem, should_start, verdict, was_started};
use crate::probe::Kind;
use crate::view::{self, PodView, State};
use crate::{conditions, pod, qos, resize};
use phase::phase;

/// What the status of a pod says that was too long alive.
pub(crate) const DEADLINE_MESSAGE: &str =
    "Pod was active on the node longer than the specified deadline";

const UNKNOWN: &str = "ContainerStatusUnknown";

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

/// The id of a container as the API has it.
pub(crate) fn full_id(view: &PodView<'_>, id: &str) -> String {
    format!("{}://{id}", view.node.runtime_name)
}

/// The status of that container in a pod's status.
pub(crate) fn find_old<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let lists = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let mut all = lists.into_iter().flatten().flatten();
    all.find(|s| s.name == name)
}

/// Until when a container that keeps failing has to wait, and how long that is in seconds.
pub(crate) fn crash_loop(view: &PodView<'_>, name: &str) -> Option<(Timestamp, i64)> {
    let last = view.latest(name)?;
    if last.state != State::Exited {
        return None;
    }
    let finished = last.finished_at?;
    let backoff = view.memory.backoffs.get(name)?;
    let until = backoff.until(finished).filter(|until| *until > view.now)?;
    Some((until, backoff.seconds))
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

fn statuses(
    view: &PodView<'_>,
    specs: &[&Container],
    old: &[ContainerStatus],
    is_init: bool,
) -> Vec<ContainerStatus> {
    specs
        .iter()
        .map(|spec| {
            let old = old.iter().find(|s| s.name == spec.name);
            one_status(view, spec, old, is_init)
        })
        .collect()
}

fn one_status(
    view: &PodView<'_>,
    spec: &Container,
    old: Option<&ContainerStatus>,
    is_init: bool,
) -> ContainerStatus {
    let mut status = before_running(view, spec, old);
    let mut seen = view
        .containers
        .iter()
        .filter(|c| c.name == spec.name)
        .filter(|c| {
            c.state == State::Exited || view.latest(&spec.name).is_some_and(|l| l.id == c.id)
        });
    match seen.next() {
        Some(newest) => {
            status = observed(view, spec, newest, old);
            if let Some(previous) = seen.next() {
                status.last_state = Some(state_of(view, previous, None));
            }
        }
        None => lost(view, &mut status, old),
    }
    let latest = view.latest(&spec.name);
    if is_init {
        if latest.is_some_and(|c| c.state == State::Exited && c.exit_code == 0) {
            return status;
        }
        if latest.is_none() && !pod::is_sidecar(spec) && assume_init_done(view, &mut status) {
            return status;
        }
    }
    if should_start(view, spec) {
        waiting_reason(view, spec, &mut status);
    }
    status
}

/// The status of a container that nobody has seen: as before, or waiting.
fn before_running(
    view: &PodView<'_>,
    spec: &Container,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    if let Some(old) = old.filter(|o| terminated(o.state.as_ref()).is_some()) {
        return old.clone();
    }
    let reason = default_reason(view);
    ContainerStatus {
        name: spec.name.clone(),
        image: spec.image.clone().unwrap_or_default(),
        state: Some(waiting(reason, None)),
        restart_count: old.map_or(0, |o| o.restart_count),
        last_state: old.and_then(|o| o.last_state.clone()).or_else(empty_state),
        volume_mounts: mounts(spec),
        ..Default::default()
    }
}

fn empty_state() -> Option<ContainerState> {
    Some(ContainerState::default())
}

fn default_reason(view: &PodView<'_>) -> &'static str {
    match pod::init_containers(view.pod) {
        [] => "ContainerCreating",
        _ => "PodInitializing",
    }
}

fn mounts(spec: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = spec.volume_mounts.as_ref()?;
    let one = |m: &k8s_openapi::api::core::v1::VolumeMount| {
        let read_only = m.read_only.filter(|r| *r);
        VolumeMountStatus {
            mount_path: m.mount_path.clone(),
            name: m.name.clone(),
            read_only,
            recursive_read_only: read_only.map(|_| match m.recursive_read_only.as_deref() {
                Some("Enabled" | "IfPossible") => "Enabled".to_owned(),
                _ => "Disabled".to_owned(),
            }),
            volume_status: None,
        }
    };
    Some(mounts.iter().map(one).collect())
}

fn observed(
    view: &PodView<'_>,
    spec: &Container,
    container: &view::Container,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let count = i32::try_from(container.restart_count).unwrap_or(i32::MAX);
    let id = full_id(view, &container.id);
    let same = old.filter(|o| o.container_id.as_ref() == Some(&id));
    let last_state = match old {
        Some(o) if same.is_none() && terminated(o.state.as_ref()).is_some() => o.state.clone(),
        other => other.and_then(|o| o.last_state.clone()),
    };
    let (resources, allocated) = resources(view, spec, container, old);
    ContainerStatus {
        name: spec.name.clone(),
        restart_count: count.max(same.map_or(0, |o| o.restart_count)),
        image: container.image.clone(),
        image_id: container.image_ref.clone(),
        container_id: Some(id),
        started: same.and_then(|o| o.started),
        state: Some(state_of(view, container, old)),
        last_state: last_state.or_else(empty_state),
        allocated_resources: allocated,
        resources: Some(resources),
        volume_mounts: mounts(spec),
        user: container.user.as_ref().map(|user| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: user.uid,
                gid: user.gid,
                supplemental_groups: Some(user.groups.clone()),
            }),
        }),
        ..Default::default()
    }
}

/// The resources that a container has, and the requests that its node has agreed to.
fn resources(
    view: &PodView<'_>,
    spec: &Container,
    container: &view::Container,
    old: Option<&ContainerStatus>,
) -> (ResourceRequirements, Option<BTreeMap<String, Quantity>>) {
    let wanted = spec.resources.clone().unwrap_or_default();
    let runs = container.state == State::Running;
    let settled = !runs || resize::is_settled(view, spec, container);
    let before = old.and_then(|old| old.resources.clone());
    let has = match before {
        Some(before) if !settled => before,
        _ => wanted.clone(),
    };
    let allocated = match &view.memory.resize_refused {
        Some(_) if !settled => old.and_then(|old| old.allocated_resources.clone()),
        _ => wanted.requests,
    };
    (has, allocated)
}

fn state_of(
    view: &PodView<'_>,
    container: &view::Container,
    old: Option<&ContainerStatus>,
) -> ContainerState {
    let was_running = old
        .and_then(|o| o.state.as_ref())
        .is_some_and(|s| s.running.is_some());
    let mut state = ContainerState::default();
    match container.state {
        State::Running => {
            state.running = Some(ContainerStateRunning {
                started_at: container.started_at.map(pod::api_time),
            });
        }
        State::Exited => {
            let text = |s: &str| (!s.is_empty()).then(|| s.to_owned());
            state.terminated = Some(ContainerStateTerminated {
                exit_code: container.exit_code,
                reason: text(&container.reason),
                message: text(&container.message),
                started_at: container.started_at.map(pod::api_time),
                finished_at: container.finished_at.map(pod::api_time),
                container_id: Some(full_id(view, &container.id)),
                signal: None,
            });
        }
        State::Unknown if was_running => {
            state.terminated = Some(unknown(
                "The container could not be located when the pod was terminated",
            ));
        }
        State::Created | State::Unknown => {
            state.waiting = Some(ContainerStateWaiting::default());
        }
    }
    state
}

fn unknown(message: &str) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: 137,
        reason: Some(UNKNOWN.to_owned()),
        message: Some(message.to_owned()),
        ..Default::default()
    }
}

/// A container that was running and is nowhere any more has ended, whatever became of it.
fn lost(view: &PodView<'_>, status: &mut ContainerStatus, old: Option<&ContainerStatus>) {
    let was_running = old
        .and_then(|o| o.state.as_ref())
        .is_some_and(|s| s.running.is_some());
    if !was_running || terminated(status.last_state.as_ref()).is_some() {
        return;
    }
    let message = "The container could not be located when the pod was deleted.  The container used to be Running";
    status.last_state = Some(ContainerState {
        terminated: Some(unknown(message)),
        ..Default::default()
    });
    if !pod::is_deleting(view.pod) {
        status.restart_count += 1;
    }
}

/// An init container that is gone while the ordinary ones exist has succeeded.
fn assume_init_done(view: &PodView<'_>, status: &mut ContainerStatus) -> bool {
    let ordinary = &pod::spec(view.pod).containers;
    let created = ordinary
        .iter()
        .any(|c| view.containers.iter().any(|o| o.name == c.name));
    let waiting = status.state.as_ref().is_some_and(|s| s.waiting.is_some());
    if !created || !waiting {
        return false;
    }
    status.state = Some(ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: 0,
            reason: Some("Completed".to_owned()),
            message: Some("Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally".to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    });
    true
}

/// A container that should run and cannot is waiting, and says why.
fn waiting_reason(view: &PodView<'_>, spec: &Container, status: &mut ContainerStatus) {
    let failure = view.memory.start_failures.get(&spec.name);
    let (reason, message) = if let Some((_, seconds)) = crash_loop(view, &spec.name) {
        let (name, pod) = (&spec.name, pod::describe(view.pod));
        let wait = go_duration(seconds);
        let message = format!("back-off {wait} restarting failed container={name} pod={pod}");
        ("CrashLoopBackOff", message)
    } else if let Some(failure) = failure {
        match failure.pull.is_some() && failure.told {
            true => (
                "ImagePullBackOff",
                format!(
                    "Back-off pulling image \"{}\": {}: {}",
                    spec.image.as_deref().unwrap_or_default(),
                    failure.reason,
                    failure.message
                ),
            ),
            false => (failure.reason.as_str(), failure.message.clone()),
        }
    } else {
        return;
    };
    if terminated(status.state.as_ref()).is_some() {
        status.last_state = status.state.take();
    }
    status.state = Some(waiting(reason, Some(message)));
}

/// Seconds the way Go prints a duration: `10s`, `1m20s`, `5m0s`.
pub(crate) fn go_duration(seconds: i64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, s) => format!("{s}s"),
        (m, s) => format!("{m}m{s}s"),
    }
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: message.filter(|m| !m.is_empty()),
        }),
        ..Default::default()
    }
}

pub(crate) fn terminated(state: Option<&ContainerState>) -> Option<&ContainerStateTerminated> {
    state.and_then(|s| s.terminated.as_ref())
}

/// Whether a running container has got over its start.
pub(crate) fn is_started(
    view: &PodView<'_>,
    spec: &Container,
    container: &view::Container,
) -> bool {
    match verdict(view, &container.id, Kind::Startup) {
        Some(verdict) => verdict,
        None => was_started(view, &container.id) || spec.startup_probe.is_none(),
    }
}

fn readiness(view: &PodView<'_>, status: &mut ContainerStatus) {
    let Some(spec) = pod::lasting_containers(view.pod).find(|c| c.name == status.name) else {
        return;
    };
    let is_init = pod::init_containers(view.pod)
        .iter()
        .any(|c| c.name == status.name);
    let running = view
        .latest(&status.name)
        .filter(|c| c.state == State::Running)
        .filter(|_| status.state.as_ref().is_some_and(|s| s.running.is_some()));
    let started = running.is_some_and(|c| is_started(view, spec, c));
    status.started = Some(started);
    status.ready = if is_init && !pod::is_sidecar(spec) {
        terminated(status.state.as_ref()).is_some_and(|t| t.exit_code == 0)
    } else {
        started && running.is_some_and(|c| is_ready(view, spec, c))
    };
}

fn is_ready(view: &PodView<'_>, spec: &Container, container: &view::Container) -> bool {
    if let Some(verdict) = verdict(view, &container.id, Kind::Readiness) {
        return verdict;
    }
    if spec.readiness_probe.is_none() {
        return true;
    }
    // Ran before this kubelet did: ready until a probe says otherwise, if it was.
    let before = match (view.memory.since, container.started_at) {
        (Some(since), Some(started)) => started < since,
        _ => false,
    };
    let id = full_id(view, &container.id);
    let old = find_old(view.last_status, &spec.name);
    before && old.is_some_and(|o| o.ready && o.container_id == Some(id))
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
