//! The phase of a pod: what its container statuses come to.

use k8s_openapi::api::core::v1::{Container, ContainerStatus};

use super::terminated;
use crate::view::PodView;
use crate::{pod, restart};

#[derive(Default)]
struct Count {
    unknown: usize,
    running: usize,
    waiting: usize,
    stopped: usize,
    stopped_for_good: usize,
    succeeded: usize,
    pending_init: usize,
    pending_sidecars: usize,
    failed_init: bool,
}

/// The phase of the pod.
pub(super) fn phase(
    view: &PodView<'_>,
    containers: &[ContainerStatus],
    inits: &[ContainerStatus],
    ended: bool,
) -> String {
    let mut count = Count::default();
    for spec in pod::init_containers(view.pod) {
        let status = inits.iter().find(|s| s.name == spec.name);
        match pod::is_sidecar(spec) {
            true => count_sidecar(status, &mut count),
            false => count_init(view, spec, status, &mut count),
        }
    }
    for spec in &pod::spec(view.pod).containers {
        let status = containers.iter().find(|s| s.name == spec.name);
        count_ordinary(view, spec, status, &mut count);
    }
    if count.failed_init {
        return "Failed".to_owned();
    }
    let initialized = pod::spec(view.pod)
        .containers
        .iter()
        .any(|c| view.active(&c.name).is_some());
    let held = count.pending_init > 0 || (count.pending_sidecars > 0 && !initialized);
    let known = count.unknown == 0;
    let phase = if held || count.waiting > 0 {
        "Pending"
    } else if count.running > 0 && known {
        "Running"
    } else if count.running == 0 && count.stopped > 0 && known {
        match (
            ended || count.stopped == count.stopped_for_good,
            count.succeeded,
        ) {
            (false, _) => "Running",
            (true, succeeded) if succeeded == count.stopped => "Succeeded",
            (true, _) => "Failed",
        }
    } else {
        "Pending"
    };
    phase.to_owned()
}

fn count_init(
    view: &PodView<'_>,
    spec: &Container,
    status: Option<&ContainerStatus>,
    count: &mut Count,
) {
    let state = status.and_then(|s| s.state.as_ref());
    let last = status.and_then(|s| terminated(s.last_state.as_ref()));
    let waiting = state.is_some_and(|s| s.waiting.is_some());
    let ended = terminated(state).or(last.filter(|_| waiting));
    match ended {
        None => count.pending_init += 1,
        Some(t) if t.exit_code != 0 => {
            count.failed_init |= !restart::restarts(view.pod, spec, t.exit_code);
        }
        Some(_) => {}
    }
}

fn count_sidecar(status: Option<&ContainerStatus>, count: &mut Count) {
    let state = status.and_then(|s| s.state.as_ref());
    if state.is_some_and(|s| s.running.is_some()) {
        count.running += 1;
        if status.and_then(|s| s.started) != Some(true) {
            count.pending_sidecars += 1;
        }
    } else if terminated(state).is_none()
        && status
            .and_then(|s| terminated(s.last_state.as_ref()))
            .is_none()
    {
        count.pending_sidecars += 1;
        count.waiting += 1;
    }
}

fn count_ordinary(
    view: &PodView<'_>,
    spec: &Container,
    status: Option<&ContainerStatus>,
    count: &mut Count,
) {
    let Some(state) = status.and_then(|s| s.state.as_ref()) else {
        count.unknown += 1;
        return;
    };
    let for_good = |code| usize::from(!restart::restarts(view.pod, spec, code));
    if state.running.is_some() {
        count.running += 1;
    } else if let Some(t) = &state.terminated {
        count.stopped += 1;
        count.stopped_for_good += for_good(t.exit_code);
        count.succeeded += usize::from(t.exit_code == 0);
    } else if let Some(t) = status.and_then(|s| terminated(s.last_state.as_ref())) {
        count.stopped += 1;
        count.stopped_for_good += for_good(t.exit_code);
    } else {
        count.waiting += 1;
    }
}
