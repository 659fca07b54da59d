//! What the sandbox and each container of a pod need: the order of init containers and sidecars, restarts, kills.
//!
//! The rules are those of upstream's `pkg/kubelet/kuberuntime` (computePodActions).

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::plan::Kill;
use crate::pod;
use crate::probe::Kind;
use crate::resize;
use crate::restart;
use crate::view::{PodView, Sandbox, State};

/// What is to be done about sandbox and containers of a pod that is not terminating.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// Everything in the present sandbox has to end: the pod is done, or gets another sandbox.
    pub kill_pod: bool,
    /// Make a sandbox with this number.
    pub create_sandbox: Option<u32>,
    /// Why the present sandbox will not do.
    pub sandbox_problem: Option<&'static str>,
    /// Containers to start, in order, one after the other.
    pub start: Vec<ToStart>,
    /// Containers to stop.
    pub kill: Vec<Kill>,
}

/// A container to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToStart {
    /// Its name in the pod.
    pub name: String,
    /// What comes after it has to wait until it could be started.
    pub blocks: bool,
}

/// Why the newest sandbox cannot be used, and the number of the next one. `None`: it can.
pub fn sandbox_problem(view: &PodView<'_>) -> Option<(&'static str, u32)> {
    let Some(newest) = view.sandbox() else {
        return Some(("no pod sandbox exists", 0));
    };
    let next = newest.attempt + 1;
    let host_network = pod::is_host_network(view.pod);
    if view.sandboxes.iter().filter(|s| s.ready).count() > 1 {
        Some((
            "multiple pod sandboxes are ready and need to be reconciled",
            next,
        ))
    } else if !newest.ready {
        Some(("pod sandbox is not ready", next))
    } else if newest.host_network != host_network {
        Some((
            "network namespace mode changed and sandbox needs to be recreated",
            next,
        ))
    } else if !host_network && newest.ips.is_empty() {
        Some(("pod sandbox has no IP address", next))
    } else {
        None
    }
}

/// See [`Decision`].
pub fn decide(view: &PodView<'_>) -> Decision {
    let mut decision = Decision::default();
    if let Some((problem, attempt)) = sandbox_problem(view) {
        decision.sandbox_problem = Some(problem);
        decision.kill_pod = true;
        decision.create_sandbox = needs_sandbox(view, attempt).then_some(attempt);
        return decision;
    }
    for container in pod::ephemeral_containers(view.pod) {
        let seen = view.containers.iter().any(|c| c.name == container.name);
        if !seen {
            decision.start.push(ToStart {
                name: container.name.clone(),
                blocks: false,
            });
        }
    }
    let initialized = init_containers(view, &mut decision);
    if decision.kill_pod || !initialized {
        return decision;
    }
    let kept = ordinary_containers(view, &mut decision);
    if !kept {
        decision.kill_pod = true;
        decision.start.clear();
    }
    decision
}

/// A pod whose containers are all done gets no other sandbox.
fn needs_sandbox(view: &PodView<'_>, attempt: u32) -> bool {
    let restarts = pod::restart_policy(view.pod) != "Never";
    if !restarts && attempt != 0 && !view.containers.is_empty() {
        return false;
    }
    let containers = &pod::spec(view.pod).containers;
    let any_to_start = containers.iter().any(|c| !ran_for_good(view, c));
    let created = containers
        .iter()
        .any(|c| view.containers.iter().any(|o| o.name == c.name));
    any_to_start || !created
}

fn ran_for_good(view: &PodView<'_>, container: &Container) -> bool {
    let policy = restart::effective_policy(view.pod, container);
    let Some(observed) = view.latest(&container.name) else {
        return false;
    };
    policy == "OnFailure" && observed.state == State::Exited && observed.exit_code == 0
}

/// True once all init containers are done and all sidecars have started.
fn init_containers(view: &PodView<'_>, decision: &mut Decision) -> bool {
    let list = pod::init_containers(view.pod);
    if list.is_empty() {
        return true;
    }
    let mut initialized = any_ordinary_started(view);
    let mut later_seen = initialized;
    let mut start: Vec<usize> = Vec::new();
    for (index, container) in list.iter().enumerate().rev() {
        let sidecar = pod::is_sidecar(container);
        let Some(observed) = view.active(&container.name) else {
            let being_started = is_starting(view, &container.name);
            if being_started {
                later_seen = true;
            } else if later_seen && sidecar {
                start.push(index);
            }
            continue;
        };
        if later_seen && !sidecar {
            continue;
        }
        match step(view, container, observed) {
            InitStep::Wait => {}
            InitStep::Start => start.push(index),
            InitStep::Kill(kill) => decision.kill.push(kill),
            InitStep::Fail => {
                decision.kill_pod = true;
                decision.start.clear();
                return false;
            }
            InitStep::Done(kill) => {
                decision.kill.extend(kill);
                if index + 1 == list.len() {
                    initialized = true;
                } else if !later_seen {
                    start.push(index + 1);
                }
            }
        }
        later_seen = true;
    }
    if !later_seen {
        start.push(0);
    }
    start.reverse();
    decision.start.extend(start.into_iter().map(|i| ToStart {
        name: list[i].name.clone(),
        blocks: !pod::is_sidecar(&list[i]),
    }));
    initialized
}

fn is_starting(view: &PodView<'_>, name: &str) -> bool {
    view.memory
        .starting
        .as_ref()
        .is_some_and(|s| s.name == name)
}

/// An ordinary container in the present sandbox means that initialization is over.
fn any_ordinary_started(view: &PodView<'_>) -> bool {
    let containers = &pod::spec(view.pod).containers;
    containers
        .iter()
        .any(|c| view.active(&c.name).is_some() || is_starting(view, &c.name))
}

enum InitStep {
    Wait,
    Start,
    Kill(Kill),
    Fail,
    Done(Option<Kill>),
}

fn step(view: &PodView<'_>, container: &Container, observed: &crate::view::Container) -> InitStep {
    let sidecar = pod::is_sidecar(container);
    match observed.state {
        State::Created => InitStep::Start,
        State::Running if !sidecar => InitStep::Wait,
        State::Running => running_sidecar(view, container, observed),
        State::Exited if sidecar => InitStep::Start,
        State::Exited if observed.exit_code == 0 => InitStep::Done(None),
        State::Exited | State::Unknown => {
            match restart::restarts(view.pod, container, observed.exit_code.max(1)) {
                true => InitStep::Start,
                false => InitStep::Fail,
            }
        }
    }
}

fn running_sidecar(
    view: &PodView<'_>,
    container: &Container,
    observed: &crate::view::Container,
) -> InitStep {
    let name = &container.name;
    let verdict = |kind| verdict(view, &observed.id, kind);
    if container.startup_probe.is_some() && !was_started(view, &observed.id) {
        match verdict(Kind::Startup) {
            None => return InitStep::Wait,
            Some(true) => {}
            Some(false) => {
                let message = format!("Init container {name} failed startup probe");
                return InitStep::Kill(kill(
                    view,
                    container,
                    observed,
                    message,
                    Some(Kind::Startup),
                ));
            }
        }
    }
    if changed(container, observed) {
        let message = format!("Init container {name} definition changed");
        return InitStep::Done(Some(kill(view, container, observed, message, None)));
    }
    if resize::needs_restart(view, container, observed) {
        let message = format!("Container {name} resize requires restart");
        return InitStep::Done(Some(kill(view, container, observed, message, None)));
    }
    if verdict(Kind::Liveness) == Some(false) {
        let message = format!("Init container {name} failed liveness probe");
        let kill = kill(view, container, observed, message, Some(Kind::Liveness));
        return InitStep::Done(Some(kill));
    }
    InitStep::Done(None)
}

/// The startup probe of a container that a former kubelet saw succeed is not asked again.
pub(crate) fn was_started(view: &PodView<'_>, id: &str) -> bool {
    let full = crate::status::full_id(view, id);
    let last = view.last_status;
    let lists = [&last.container_statuses, &last.init_container_statuses];
    lists
        .into_iter()
        .flatten()
        .flatten()
        .any(|s| s.container_id.as_ref() == Some(&full) && s.started == Some(true))
}

fn changed(container: &Container, observed: &crate::view::Container) -> bool {
    let hash = observed.hash.as_deref();
    hash.is_some_and(|h| h != pod::container_hash(container))
}

pub(crate) fn verdict(view: &PodView<'_>, id: &str, kind: Kind) -> Option<bool> {
    let key = (id.to_owned(), kind);
    view.memory.probes.get(&key).and_then(|p| p.verdict)
}

/// True if a container runs on or is to be started.
fn ordinary_containers(view: &PodView<'_>, decision: &mut Decision) -> bool {
    let mut kept = false;
    for container in &pod::spec(view.pod).containers {
        if is_starting(view, &container.name) {
            kept = true;
            continue;
        }
        let observed = view.latest(&container.name);
        let running = observed.filter(|o| o.state == State::Running);
        let Some(running) = running else {
            if should_start(view, container) {
                kept = true;
                decision.start.push(ToStart {
                    name: container.name.clone(),
                    blocks: false,
                });
            }
            continue;
        };
        match reason_to_kill(view, container, running) {
            None => kept = true,
            Some(kill) => {
                kept |= kill.restart;
                decision.kill.push(kill);
            }
        }
    }
    kept
}

/// Whether a container that does not run should.
pub fn should_start(view: &PodView<'_>, container: &Container) -> bool {
    if pod::is_deleting(view.pod) {
        return false;
    }
    let Some(observed) = view.latest(&container.name) else {
        return true;
    };
    match observed.state {
        State::Running => false,
        State::Created | State::Unknown => true,
        State::Exited => {
            let wanted = view.memory.kills.get(&observed.id);
            wanted.is_some_and(|k| k.kill.restart)
                || restart::restarts(view.pod, container, observed.exit_code)
        }
    }
}

fn reason_to_kill(
    view: &PodView<'_>,
    container: &Container,
    observed: &crate::view::Container,
) -> Option<Kill> {
    let name = &container.name;
    let mut restart = restart::effective_policy(view.pod, container) != "Never";
    let failed = |kind| verdict(view, &observed.id, kind) == Some(false);
    let (message, kind) = if changed(container, observed) {
        restart = true;
        (format!("Container {name} definition changed"), None)
    } else if resize::needs_restart(view, container, observed) {
        let message = format!("Container {name} resize requires restart");
        return Some(kill(view, container, observed, message, None));
    } else if failed(Kind::Liveness) {
        (
            format!("Container {name} failed liveness probe"),
            Some(Kind::Liveness),
        )
    } else if failed(Kind::Startup) {
        (
            format!("Container {name} failed startup probe"),
            Some(Kind::Startup),
        )
    } else {
        return None;
    };
    let message = match restart {
        true => format!("{message}, will be restarted"),
        false => message,
    };
    let mut kill = kill(view, container, observed, message, kind);
    kill.restart = restart;
    Some(kill)
}

fn kill(
    view: &PodView<'_>,
    container: &Container,
    observed: &crate::view::Container,
    message: String,
    kind: Option<Kind>,
) -> Kill {
    let probe = kind.and_then(|k| k.of(container));
    let own = probe.and_then(|p| p.termination_grace_period_seconds);
    Kill {
        id: observed.id.clone(),
        name: container.name.clone(),
        message,
        grace_seconds: own.unwrap_or_else(|| pod::termination_grace_seconds(view.pod)),
        pre_stop: has_pre_stop(container),
        restart: true,
    }
}

/// Whether something has to run in the container before it is stopped.
pub fn has_pre_stop(container: &Container) -> bool {
    let lifecycle = container.lifecycle.as_ref();
    lifecycle.is_some_and(|l| l.pre_stop.is_some())
}

/// The kills of a pod that terminates: everything that runs.
pub fn kill_all(view: &PodView<'_>) -> Vec<Kill> {
    let running = view.containers.iter().filter(|c| c.state == State::Running);
    running
        .map(|c| Kill {
            id: c.id.clone(),
            name: c.name.clone(),
            message: format!("Stopping container {}", c.name),
            grace_seconds: pod::termination_grace_seconds(view.pod),
            pre_stop: find_lifecycle(view.pod, &c.name),
            restart: false,
        })
        .collect()
}

fn find_lifecycle(pod: &Pod, name: &str) -> bool {
    pod::lasting_containers(pod).any(|c| c.name == name && has_pre_stop(c))
}

/// Whether a container of a terminating pod may be stopped now: sidecars last, the last one first.
pub fn is_turn(view: &PodView<'_>, name: &str) -> bool {
    let runs = |name: &str| {
        let mut all = view.containers.iter();
        all.any(|c| c.name == name && c.state == State::Running)
    };
    let init = pod::init_containers(view.pod);
    let Some(at) = init
        .iter()
        .position(|c| c.name == name && pod::is_sidecar(c))
    else {
        return true;
    };
    let ordinary = &pod::spec(view.pod).containers;
    !ordinary.iter().any(|c| runs(&c.name)) && !init[at + 1..].iter().any(|c| runs(&c.name))
}

/// The sandboxes that are no longer the newest.
pub fn old_sandboxes<'a>(view: &PodView<'a>) -> impl Iterator<Item = &'a Sandbox> {
    view.sandboxes.iter().skip(1)
}
