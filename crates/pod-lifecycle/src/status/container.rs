//! The status of one container: its state, its reasons, whether it has started and is ready.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, ContainerUser, LinuxContainerUser, PodStatus,
    ResourceRequirements, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::containers::{should_start, verdict, was_started};
use crate::probe::Kind;
use crate::view::{self, PodView, State};
use crate::{pod, resize};

const UNKNOWN: &str = "ContainerStatusUnknown";

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

pub(super) fn statuses(
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

pub(super) fn unknown(message: &str) -> ContainerStateTerminated {
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
fn go_duration(seconds: i64) -> String {
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

pub(super) fn readiness(view: &PodView<'_>, status: &mut ContainerStatus) {
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
