//! The conditions of a pod.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};

use crate::view::PodView;
use crate::{pod, resize, status};

/// The conditions that the kubelet writes, in the order in which it writes them.
const OWN: &[&str] = &[
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
];

/// The conditions that are there only for a while: those of a resize.
pub const PASSING: [&str; 2] = [RESIZE_PENDING, RESIZE_IN_PROGRESS];
const RESIZE_PENDING: &str = "PodResizePending";
const RESIZE_IN_PROGRESS: &str = "PodResizeInProgress";

struct Verdict {
    holds: bool,
    reason: Option<String>,
    message: Option<String>,
}

impl Verdict {
    fn yes() -> Verdict {
        Verdict {
            holds: true,
            reason: None,
            message: None,
        }
    }

    fn no(reason: &str, message: String) -> Verdict {
        Verdict {
            holds: false,
            reason: Some(reason.to_owned()),
            message: (!message.is_empty()).then_some(message),
        }
    }
}

/// All conditions of the pod: those of others as they are, the kubelet's own from `all` container statuses.
pub(crate) fn conditions(
    view: &PodView<'_>,
    status: &PodStatus,
    all: &[ContainerStatus],
) -> Vec<PodCondition> {
    let api = view.pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let last = view.last_status.conditions.as_ref();
    let foreign = api.into_iter().flatten();
    let mut list: Vec<PodCondition> = foreign
        .filter(|c| !OWN.contains(&c.type_.as_str()))
        .filter(|c| !PASSING.contains(&c.type_.as_str()))
        .cloned()
        .collect();
    let phase = status.phase.as_deref().unwrap_or_default();
    for kind in OWN {
        let verdict = match *kind {
            "PodReadyToStartContainers" => ready_to_start(view),
            "Initialized" => initialized(view, all, phase),
            "Ready" => ready(view, all, phase, &list),
            "ContainersReady" => containers_ready(view, all, phase),
            _ => Verdict::yes(),
        };
        let known = last.into_iter().flatten().chain(api.into_iter().flatten());
        let old = known.into_iter().find(|c| c.type_ == **kind);
        list.push(condition(view, kind, verdict, old));
    }
    let known = || last.into_iter().flatten().chain(api.into_iter().flatten());
    list.extend(of_resize(view).map(|(kind, reason, message)| {
        let verdict = Verdict {
            holds: true,
            ..Verdict::no(&reason, message)
        };
        let old = known().find(|c| c.type_ == kind && c.reason.as_deref() == Some(&reason));
        let mut condition = condition(view, kind, verdict, old);
        condition.reason = condition.reason.filter(|reason| !reason.is_empty());
        condition
    }));
    list
}

/// How far a resize is: type, reason and message of its condition.
fn of_resize(view: &PodView<'_>) -> Option<(&'static str, String, String)> {
    if let Some(refused) = &view.memory.resize_refused {
        let (reason, message) = (refused.reason.clone(), refused.message.clone());
        return Some((RESIZE_PENDING, reason, message));
    }
    let failed = view.memory.resize_failure.as_ref();
    let (reason, message) = match failed {
        Some(failure) => ("Error".to_owned(), failure.message.clone()),
        None => (String::new(), String::new()),
    };
    resize::in_progress(view).then_some((RESIZE_IN_PROGRESS, reason, message))
}

fn condition(
    view: &PodView<'_>,
    kind: &str,
    verdict: Verdict,
    old: Option<&PodCondition>,
) -> PodCondition {
    let status = if verdict.holds { "True" } else { "False" };
    let unchanged = old.filter(|o| o.status == status);
    let since = unchanged.and_then(|o| o.last_transition_time.clone());
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason,
        message: verdict.message,
        observed_generation: view.pod.metadata.generation,
        last_transition_time: since.or(Some(pod::api_time(view.now))),
        last_probe_time: None,
    }
}

fn ready_to_start(view: &PodView<'_>) -> Verdict {
    match status::sandbox_reason(view) {
        None => Verdict::yes(),
        Some(problem) => Verdict::no("PodSandboxNotReady", problem.to_owned()),
    }
}

/// Names as Go prints a list of strings.
fn list_of(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn complaint(kinds: [(&str, &[&str]); 2]) -> String {
    let parts: Vec<String> = kinds
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(text, names)| format!("containers with {text} status: {}", list_of(names)))
        .collect();
    parts.join(", ")
}

fn initialized(view: &PodView<'_>, all: &[ContainerStatus], phase: &str) -> Verdict {
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for spec in pod::init_containers(view.pod) {
        match all.iter().find(|s| s.name == spec.name) {
            None => unknown.push(spec.name.as_str()),
            Some(s) => {
                let done = match pod::is_sidecar(spec) {
                    true => s.started == Some(true),
                    false => s.ready,
                };
                if !done {
                    incomplete.push(spec.name.as_str());
                }
            }
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return Verdict {
            reason: Some("PodCompleted".to_owned()),
            ..Verdict::yes()
        };
    }
    let complaint = complaint([("unknown", &unknown), ("incomplete", &incomplete)]);
    if complaint.is_empty() || any_ordinary_started(view, all) {
        return Verdict::yes();
    }
    Verdict::no("ContainersNotInitialized", complaint)
}

fn any_ordinary_started(view: &PodView<'_>, all: &[ContainerStatus]) -> bool {
    let containers = &pod::spec(view.pod).containers;
    let ordinary = all
        .iter()
        .filter(|s| containers.iter().any(|c| c.name == s.name));
    ordinary.into_iter().any(|s| {
        let state = s.state.as_ref();
        state.is_some_and(|s| s.running.is_some() || s.terminated.is_some())
            || status::terminated(s.last_state.as_ref()).is_some()
    })
}

fn containers_ready(view: &PodView<'_>, all: &[ContainerStatus], phase: &str) -> Verdict {
    let sidecars = pod::init_containers(view.pod)
        .iter()
        .filter(|c| pod::is_sidecar(c));
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    for spec in sidecars.chain(&pod::spec(view.pod).containers) {
        match all.iter().find(|s| s.name == spec.name) {
            None => unknown.push(spec.name.as_str()),
            Some(s) if !s.ready => unready.push(spec.name.as_str()),
            Some(_) => {}
        }
    }
    match phase {
        "Succeeded" if unknown.is_empty() => return Verdict::no("PodCompleted", String::new()),
        "Failed" => return Verdict::no("PodFailed", String::new()),
        _ => {}
    }
    match complaint([("unknown", &unknown), ("unready", &unready)]) {
        none if none.is_empty() => Verdict::yes(),
        complaint => Verdict::no("ContainersNotReady", complaint),
    }
}

fn ready(
    view: &PodView<'_>,
    all: &[ContainerStatus],
    phase: &str,
    foreign: &[PodCondition],
) -> Verdict {
    let containers = containers_ready(view, all, phase);
    if !containers.holds {
        return containers;
    }
    let gates = pod::spec(view.pod).readiness_gates.iter().flatten();
    let complaints: Vec<String> = gates
        .filter_map(|gate| {
            let kind = &gate.condition_type;
            match foreign.iter().find(|c| c.type_ == *kind) {
                None => Some(format!(
                    "corresponding condition of pod readiness gate \"{kind}\" does not exist."
                )),
                Some(c) if c.status != "True" => Some(format!(
                    "the status of pod readiness gate \"{kind}\" is not \"True\", but {}",
                    c.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    match complaints.is_empty() {
        true => Verdict::yes(),
        false => Verdict::no("ReadinessGatesNotReady", complaints.join(", ")),
    }
}
