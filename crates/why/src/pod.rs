//! Why a pod is pending, not ready, or has failed.

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::answer::{Answer, Cause};
use crate::picture::Picture;
use crate::{containers, events, node, schedule};
use controllers::pods;

/// Explains the pod that is the subject.
pub(crate) fn answer(picture: &Picture) -> Answer {
    let pod: Pod = picture.subject_as();
    let (headline, causes) = judge(picture, &pod);
    Answer::new(headline, causes)
}

/// The same as one cause among others; `None` when the pod is as it should be.
pub(crate) fn cause(picture: &Picture, pod: &Pod) -> Option<Cause> {
    if pods::is_ready(pod) || pods::phase(pod) == "Succeeded" {
        return None;
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let (headline, causes) = judge(picture, pod);
    Some(Cause::new(format!("pod {name}: {headline}")).from(causes))
}

fn judge(picture: &Picture, pod: &Pod) -> (String, Vec<Cause>) {
    let status = pod.status.clone().unwrap_or_default();
    let place = pods::node_name(pod);
    match pods::phase(pod) {
        "Succeeded" => {
            return (
                "it has run to its end, all containers exited with 0".into(),
                Vec::new(),
            );
        }
        "Failed" => {
            let reason = status
                .reason
                .unwrap_or_else(|| "a container ended with an error".into());
            let told = Cause::new(status.message.unwrap_or_default());
            let told = Some(told).filter(|t| !t.what.is_empty());
            let mut causes: Vec<Cause> = told.into_iter().collect();
            causes.extend(containers::causes(picture, pod));
            return (format!("it has failed: {reason}"), causes);
        }
        _ if place.is_empty() => {
            return (
                "it is pending: it has no node".into(),
                schedule::causes(picture, pod),
            );
        }
        _ => {}
    }
    if pods::is_ready(pod) {
        let restarts: i32 = status
            .container_statuses
            .iter()
            .flatten()
            .map(|c| c.restart_count)
            .sum();
        let headline = match restarts {
            0 => "it runs and is ready".to_owned(),
            n => format!("it runs and is ready, after {n} restarts"),
        };
        return (headline, Vec::new());
    }
    let mut causes = silent_node(picture, place);
    causes.extend(containers::causes(picture, pod));
    causes.extend(gates(pod));
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    if causes.is_empty() {
        causes = events::causes(picture, uid);
    }
    if causes.is_empty() && status.container_statuses.is_none() {
        causes.push(Cause::new(format!(
            "the kubelet of {place} has not told anything about it yet"
        )));
    }
    let word = if pods::phase(pod) == "Running" {
        "not ready"
    } else {
        "pending"
    };
    (format!("it is {word} on node {place}"), causes)
}

/// The node under the pod, when that is not there or not ready.
fn silent_node(picture: &Picture, name: &str) -> Vec<Cause> {
    let nodes: Vec<Node> = picture.of();
    match nodes
        .iter()
        .find(|n| n.metadata.name.as_deref() == Some(name))
    {
        None if !picture.unread.is_empty() => Vec::new(),
        None => vec![Cause::new(format!(
            "its node {name} does not exist (any more)"
        ))],
        Some(node) => node::cause(picture, node).into_iter().collect(),
    }
}

fn gates(pod: &Pod) -> Vec<Cause> {
    let gates = pod
        .spec
        .iter()
        .flat_map(|s| s.readiness_gates.iter().flatten());
    let open = gates
        .filter(|g| pods::condition(pod, &g.condition_type).is_none_or(|c| c.status != "True"));
    open.map(|g| {
        Cause::new(format!(
            "its readiness gate {} is not open",
            g.condition_type
        ))
        .advise("the controller that the gate belongs to sets this condition")
    })
    .collect()
}
