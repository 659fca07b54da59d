//! What the runtime knows about a pod, in the words of the decision.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use cri::v1::{
    ContainerFilter, ContainerState, ContainerStatus, ContainerStatusRequest,
    ListContainersRequest, ListPodSandboxRequest, NamespaceMode, PodSandboxFilter, PodSandboxState,
    PodSandboxStatus, PodSandboxStatusRequest,
};
use cri::{Error, RuntimeService};
use jiff::Timestamp;
use pod_lifecycle::config::label;
use pod_lifecycle::resize::Limits;
use pod_lifecycle::view::{Container, Sandbox, State, User};

/// The longest termination message.
const MAX_MESSAGE: u64 = 4096;
/// The longest end of a log that stands for a termination message, in bytes and in lines.
const MAX_LOG_MESSAGE: (u64, usize) = (2048, 80);

/// Sandboxes and containers of a pod, newest first. `logs` is where its logs lie. `known` is the answer of last time: what has ended does not change.
pub(crate) async fn observe(
    runtime: &dyn RuntimeService,
    uid: &str,
    logs: &str,
    known: &[Container],
) -> Result<(Vec<Sandbox>, Vec<Container>), Error> {
    let labels = HashMap::from([(label::POD_UID.to_owned(), uid.to_owned())]);
    let filter = PodSandboxFilter {
        label_selector: labels.clone(),
        ..Default::default()
    };
    let request = ListPodSandboxRequest {
        filter: Some(filter),
    };
    let mut sandboxes = Vec::new();
    for item in runtime.list_pod_sandbox(request).await?.items {
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: item.id,
            verbose: false,
        };
        match runtime.pod_sandbox_status(request).await {
            Ok(answer) => sandboxes.extend(answer.status.map(sandbox)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    let filter = ContainerFilter {
        label_selector: labels,
        ..Default::default()
    };
    let request = ListContainersRequest {
        filter: Some(filter),
    };
    let mut containers = Vec::new();
    for item in runtime.list_containers(request).await?.containers {
        let ended = known
            .iter()
            .find(|k| k.id == item.id && k.state == State::Exited && k.started_at.is_some());
        if let Some(ended) = ended {
            containers.push(ended.clone());
            continue;
        }
        let request = ContainerStatusRequest {
            container_id: item.id,
            verbose: false,
        };
        match runtime.container_status(request).await {
            Ok(answer) => {
                let found = answer
                    .status
                    .map(|s| container(s, item.pod_sandbox_id, logs));
                containers.extend(found);
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    sandboxes.sort_by_key(|s| std::cmp::Reverse((s.created_at, s.attempt)));
    containers.sort_by_key(|c| std::cmp::Reverse((c.created_at, c.restart_count)));
    Ok((sandboxes, containers))
}

fn sandbox(status: PodSandboxStatus) -> Sandbox {
    let options = status
        .linux
        .and_then(|l| l.namespaces)
        .and_then(|n| n.options);
    let network = status.network.unwrap_or_default();
    let first = Some(network.ip).filter(|ip| !ip.is_empty());
    let more = network.additional_ips.into_iter().map(|ip| ip.ip);
    Sandbox {
        id: status.id,
        attempt: status.metadata.map_or(0, |m| m.attempt),
        ready: status.state == PodSandboxState::SandboxReady as i32,
        host_network: options.is_some_and(|o| o.network == NamespaceMode::Node as i32),
        ips: first.into_iter().chain(more).collect(),
        created_at: time(status.created_at).unwrap_or(Timestamp::UNIX_EPOCH),
    }
}

fn container(status: ContainerStatus, sandbox_id: String, logs: &str) -> Container {
    let state = match ContainerState::try_from(status.state) {
        Ok(ContainerState::ContainerCreated) => State::Created,
        Ok(ContainerState::ContainerRunning) => State::Running,
        Ok(ContainerState::ContainerExited) => State::Exited,
        _ => State::Unknown,
    };
    let attempt = status.metadata.as_ref().map_or(0, |m| m.attempt);
    let counted = status.annotations.get(label::RESTART_COUNT);
    let counted = counted.and_then(|c| c.parse().ok());
    let message = match state {
        State::Exited => termination_message(&status, logs),
        _ => String::new(),
    };
    let reason = match (status.reason.as_str(), state, status.exit_code) {
        ("", State::Exited, 0) => "Completed".to_owned(),
        ("", State::Exited, _) => "Error".to_owned(),
        (reason, ..) => reason.to_owned(),
    };
    let user = status.user.and_then(|u| u.linux);
    let resources = status.resources.and_then(|r| r.linux);
    // A runtime that tells no shares tells nothing.
    let resources = resources.filter(|r| r.cpu_shares > 0);
    Container {
        limits: resources.as_ref().map(Limits::of),
        id: status.id,
        name: status.metadata.map(|m| m.name).unwrap_or_default(),
        sandbox_id,
        restart_count: counted.unwrap_or(attempt),
        state,
        created_at: time(status.created_at).unwrap_or(Timestamp::UNIX_EPOCH),
        started_at: time(status.started_at),
        finished_at: time(status.finished_at),
        exit_code: status.exit_code,
        reason,
        message,
        image: status
            .image
            .map(|i| match i.user_specified_image.is_empty() {
                true => i.image,
                false => i.user_specified_image,
            })
            .unwrap_or_default(),
        image_ref: status.image_ref,
        hash: status.annotations.get(label::HASH).cloned(),
        user: user.map(|u| User {
            uid: u.uid,
            gid: u.gid,
            groups: u.supplemental_groups,
        }),
    }
}

fn time(nanoseconds: i64) -> Option<Timestamp> {
    (nanoseconds != 0)
        .then(|| Timestamp::from_nanosecond(i128::from(nanoseconds)).ok())
        .flatten()
}

/// The last words of a container: what it wrote to its file, else, if it failed and asked for that, the end of its log.
fn termination_message(status: &ContainerStatus, logs: &str) -> String {
    let file = status.annotations.get(label::TERMINATION_FILE);
    let written = file.and_then(|f| read_start(Path::new(f), MAX_MESSAGE));
    let written = written.unwrap_or_default();
    if !written.is_empty() {
        return written;
    }
    let policy = status.annotations.get(label::TERMINATION_POLICY);
    let from_log = policy.is_some_and(|p| p == "FallbackToLogsOnError");
    if from_log && status.exit_code != 0 && !status.log_path.is_empty() {
        let (bytes, lines) = MAX_LOG_MESSAGE;
        // Some runtimes tell the path that they were given, some the whole one: joined, both are right.
        return crate::logs::tail_text(&Path::new(logs).join(&status.log_path), bytes, lines);
    }
    status.message.clone()
}

/// The start of a small file that somebody else may have written anything into.
fn read_start(path: &Path, limit: u64) -> Option<String> {
    let file = std::fs::File::open(path).ok()?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
