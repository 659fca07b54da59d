//! Resizing in place: what containers have, what they should have, and how they get there.
//!
//! The control group of the pod must hold those of its containers at every moment: its limits are lifted before the first
//! one changes, and set anew after the last one. Upstream: `pkg/kubelet/kuberuntime` (computePodResizeAction),
//! `pkg/kubelet/allocation`.

use cri::v1::LinuxContainerResources;
use k8s_openapi::api::core::v1::{Container, ContainerResizePolicy, Pod, PodStatus};

use crate::plan::{Action, Plan};
use crate::status::find_old;
use crate::view::{Container as Observed, PodView, State};
use crate::{pod, resources};

/// What can change while a container runs; 0: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// CPU shares.
    pub cpu_shares: i64,
    /// CPU quota in a period.
    pub cpu_quota: i64,
    /// Bytes of memory.
    pub memory_bytes: i64,
}

impl Limits {
    /// Those among the resources of a container.
    pub fn of(resources: &LinuxContainerResources) -> Limits {
        Limits {
            cpu_shares: resources.cpu_shares,
            cpu_quota: resources.cpu_quota.max(0),
            memory_bytes: resources.memory_limit_in_bytes.max(0),
        }
    }

    fn of_spec(pod: &Pod, container: &Container) -> Limits {
        Limits::of(&resources::of_container(pod, container, 1))
    }

    /// The change, for the runtime.
    fn change(self) -> LinuxContainerResources {
        let or_none = |limit: i64| if limit == 0 { -1 } else { limit };
        LinuxContainerResources {
            cpu_period: resources::QUOTA_PERIOD,
            cpu_quota: or_none(self.cpu_quota),
            cpu_shares: self.cpu_shares,
            memory_limit_in_bytes: or_none(self.memory_bytes),
            ..Default::default()
        }
    }
}

/// A running container that has other resources than it should.
#[derive(Clone, Debug, PartialEq)]
struct Due {
    id: String,
    name: String,
    wanted: Limits,
    restart: bool,
}

/// Whether a container has what its spec asks for. Of a runtime that does not tell it is believed.
pub(crate) fn is_settled(view: &PodView<'_>, container: &Container, observed: &Observed) -> bool {
    has(view, observed).is_none_or(|has| has == Limits::of_spec(view.pod, container))
}

/// What a container has: what it was given last, or what the runtime tells.
fn has(view: &PodView<'_>, observed: &Observed) -> Option<Limits> {
    let given = view.memory.given.get(&observed.id).copied();
    observed.limits.map(|told| given.unwrap_or(told))
}

/// Whether a container has to be restarted for its new resources.
pub(crate) fn needs_restart(
    view: &PodView<'_>,
    container: &Container,
    observed: &Observed,
) -> bool {
    let (None, Some(has)) = (&view.memory.resize_refused, has(view, observed)) else {
        return false;
    };
    let wanted = Limits::of_spec(view.pod, container);
    let policies = container.resize_policy.iter().flatten();
    let mut restarting = policies.filter(|policy| policy.restart_policy == "RestartContainer");
    restarting.any(
        |policy: &ContainerResizePolicy| match policy.resource_name.as_str() {
            "cpu" => (has.cpu_shares, has.cpu_quota) != (wanted.cpu_shares, wanted.cpu_quota),
            "memory" => has.memory_bytes != wanted.memory_bytes,
            _ => false,
        },
    )
}

fn dues(view: &PodView<'_>) -> Vec<Due> {
    let lasting = pod::lasting_containers(view.pod);
    let running = lasting.filter_map(|container| {
        let observed = view.latest(&container.name)?;
        let runs = observed.state == State::Running;
        (runs && !is_settled(view, container, observed)).then(|| Due {
            id: observed.id.clone(),
            name: container.name.clone(),
            wanted: Limits::of_spec(view.pod, container),
            restart: needs_restart(view, container, observed),
        })
    });
    running.collect()
}

/// Whether a container of the pod has other resources than its spec says.
pub fn is_due(view: &PodView<'_>) -> bool {
    !dues(view).is_empty()
}

/// Whether a resize is under way.
pub(crate) fn in_progress(view: &PodView<'_>) -> bool {
    view.memory.resize_refused.is_none() && (view.memory.lifted || is_due(view))
}

/// Goes on with a resize.
pub(crate) fn advance(view: &PodView<'_>, plan: &mut Plan) {
    let memory = view.memory;
    if memory.resize_refused.is_some() || memory.resizing {
        return;
    }
    let dues = dues(view);
    if let Some(failure) = memory
        .resize_failure
        .as_ref()
        .filter(|f| f.retry_at > view.now)
    {
        plan.wait(failure.retry_at, "resize failed");
        return;
    }
    let (restarts, changes): (Vec<_>, Vec<_>) = dues.into_iter().partition(|due| due.restart);
    let settle = restarts.is_empty();
    if !changes.is_empty() || memory.lifted == settle {
        let changes = changes.into_iter();
        plan.actions.push(Action::Resize {
            containers: changes.map(|due| (due.id, due.wanted.change())).collect(),
            settle,
        });
    }
}

/// The pod as its node has agreed to it: with the resources that its containers were last said to have.
pub fn allocated(pod: &Pod, status: &PodStatus) -> Pod {
    let mut allocated = pod.clone();
    let Some(spec) = allocated.spec.as_mut() else {
        return allocated;
    };
    let init = spec.init_containers.iter_mut().flatten();
    for container in spec.containers.iter_mut().chain(init) {
        let old = find_old(status, &container.name);
        if let Some(resources) = old.and_then(|old| old.resources.clone()) {
            container.resources = Some(resources);
        }
    }
    allocated
}
