//! What is wrong with the containers of a pod that has a node.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod};

use crate::answer::Cause;
use crate::events;
use crate::picture::Picture;

/// Exit codes from here on are a signal's number more.
const SIGNALLED: i32 = 128;

/// One cause for each container that does not run as it should; init containers first, since the others wait for them.
pub(crate) fn causes(picture: &Picture, pod: &Pod) -> Vec<Cause> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let init = status.init_container_statuses.iter().flatten();
    let init: Vec<Cause> = init
        .filter(|c| {
            !c.ready
                && c.state
                    .as_ref()
                    .is_none_or(|s| s.terminated.as_ref().is_none_or(|t| t.exit_code != 0))
        })
        .filter_map(|c| cause(picture, pod, c, "init container"))
        .collect();
    if !init.is_empty() {
        return init;
    }
    let main = status.container_statuses.iter().flatten();
    main.filter_map(|c| cause(picture, pod, c, "container"))
        .collect()
}

fn cause(picture: &Picture, pod: &Pod, status: &ContainerStatus, word: &str) -> Option<Cause> {
    let name = format!("{word} {}", status.name);
    let state = status.state.clone().unwrap_or_default();
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or("waiting");
        let message = waiting.message.clone().unwrap_or_default();
        return Some(self::waiting(picture, pod, status, &name, reason).detail(message));
    }
    if let Some(ended) = &state.terminated {
        let ended_well = ended.exit_code == 0;
        let cause = Cause::new(format!("{name} has ended: {}", ending(ended)));
        let advice = logs(pod, &status.name, false);
        return (!ended_well).then(|| {
            cause
                .detail(ended.message.clone().unwrap_or_default())
                .advise(advice)
        });
    }
    if status.ready {
        return None;
    }
    Some(unready(picture, pod, status, &name, &state))
}

fn waiting(
    picture: &Picture,
    pod: &Pod,
    status: &ContainerStatus,
    name: &str,
    reason: &str,
) -> Cause {
    let cause = Cause::new(format!("{name} does not run: {reason}"));
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    match reason {
        "ErrImagePull" | "ImagePullBackOff" => {
            cause.advise(format!(
                "check the image name {} and access to its registry, or load it: oxikube image load FILE",
                status.image
            ))
        }
        "ErrImageNeverPull" => cause.advise(format!(
            "imagePullPolicy is Never and {} is not on the node: oxikube image load FILE",
            status.image
        )),
        "InvalidImageName" => cause.advise("correct the name of the image"),
        "CrashLoopBackOff" => {
            let last = status.last_state.as_ref().and_then(|s| s.terminated.as_ref());
            let how = last.map(|t| format!("the last run: {}", ending(t))).unwrap_or_default();
            let restarts = format!("restarted {} times", status.restart_count);
            let message = last.and_then(|t| t.message.clone()).unwrap_or_default();
            let cause = cause.detail(format!("{how}; {restarts}")).detail(message);
            match last.and_then(|t| t.reason.as_deref()) {
                Some("OOMKilled") => cause.advise("raise resources.limits.memory, or make it use less"),
                _ => cause.advise(logs(pod, &status.name, true)),
            }
        }
        "CreateContainerConfigError" => {
            cause.advise("a ConfigMap, Secret or key that it refers to is missing, or its user cannot be found out")
        }
        "CreateContainerError" | "RunContainerError" | "StartError" => {
            cause.advise("check command, args and workingDir")
        }
        "PodInitializing" => Cause::new(format!("{name} waits for the init containers")),
        "ContainerCreating" => creating(picture, uid, name),
        _ => cause,
    }
}

/// Before the first container: volumes and the pod's network.
fn creating(picture: &Picture, uid: &str, name: &str) -> Cause {
    let told = [
        ("FailedMount", "a volume cannot be mounted"),
        ("FailedAttachVolume", "a volume cannot be attached"),
        ("FailedCreatePodSandBox", "the pod's sandbox cannot be made"),
        ("NetworkNotReady", "the node's network is not ready"),
    ];
    for (reason, words) in told {
        if let Some(message) = events::message(picture, uid, &[reason]) {
            return Cause::new(format!("{name} is not created yet: {words}")).detail(message);
        }
    }
    Cause::new(format!("{name} is being created"))
}

/// It runs, and is not ready or not started.
fn unready(
    picture: &Picture,
    pod: &Pod,
    status: &ContainerStatus,
    name: &str,
    state: &ContainerState,
) -> Cause {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let told = events::message(picture, uid, &["Unhealthy"]).unwrap_or_default();
    let spec = pod.spec.as_ref();
    let containers = spec.into_iter().flat_map(|s| {
        s.containers
            .iter()
            .chain(s.init_containers.iter().flatten())
    });
    let container = containers.into_iter().find(|c| c.name == status.name);
    let since = state.running.as_ref().and_then(|r| r.started_at.as_ref());
    let age = since.map(|t| picture.now.duration_since(t.0).as_secs().max(0));
    let age = age.map(|s| format!(" after {s}s")).unwrap_or_default();
    let startup = container.is_some_and(|c| c.startup_probe.is_some());
    if startup && status.started != Some(true) {
        let cause = Cause::new(format!(
            "{name} runs, but its startup probe has not succeeded{age}"
        ));
        return cause
            .detail(told)
            .advise("compare startupProbe with what the program does: kubectl describe pod");
    }
    match container.is_some_and(|c| c.readiness_probe.is_some()) {
        true => Cause::new(format!(
            "{name} runs, but its readiness probe does not succeed{age}"
        ))
        .detail(told)
        .advise(logs(pod, &status.name, false)),
        false => Cause::new(format!("{name} has started and is not reported ready yet")),
    }
}

/// How a container ended, in words.
fn ending(ended: &ContainerStateTerminated) -> String {
    let code = ended.exit_code;
    let signal = ended.signal.filter(|s| *s > 0).unwrap_or(code - SIGNALLED);
    match (ended.reason.as_deref(), code) {
        (Some("OOMKilled"), _) => "killed because it used more memory than its limit".to_owned(),
        (_, 0) => "completed".to_owned(),
        (_, 126) => "exit code 126, the command is not executable".to_owned(),
        (_, 127) => "exit code 127, the command was not found".to_owned(),
        (_, _) if (1..=64).contains(&signal) => format!("exit code {code}, signal {signal}"),
        (Some(reason), _) if reason != "Error" => format!("exit code {code}, {reason}"),
        _ => format!("exit code {code}"),
    }
}

fn logs(pod: &Pod, container: &str, previous: bool) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let previous = if previous { " --previous" } else { "" };
    format!("kubectl logs -n {namespace} {name} -c {container}{previous}")
}
