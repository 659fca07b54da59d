//! Why no node takes a pod: the scheduler's own decision, asked again.

use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolumeClaim, Pod};
use scheduling::{PodInfo, Snapshot, UNNAMED_SCHEDULER, schedule};

use crate::answer::Cause;
use crate::picture::Picture;
use crate::{claim, events};

/// Why a pod has no node yet.
pub(crate) fn causes(picture: &Picture, pod: &Pod) -> Vec<Cause> {
    let info = PodInfo::new(pod);
    if !info.gates.is_empty() {
        let gates = info.gates.join(", ");
        let cause = Cause::new(format!("scheduling gates hold it back: {gates}"));
        return vec![cause.advise("whoever set a gate takes it out of spec.schedulingGates")];
    }
    let claims = unbound_claims(picture, pod);
    if !claims.is_empty() {
        return claims;
    }
    let snapshot = snapshot(picture);
    let told = events::causes(picture, &info.uid);
    if info.scheduler != UNNAMED_SCHEDULER {
        let what = format!("it waits for the scheduler {}", info.scheduler);
        let cause = Cause::new(what).advise("make sure that a scheduler of this name runs");
        return [cause].into_iter().chain(told).collect();
    }
    match schedule(&snapshot, &info, 0) {
        Err(refused) => {
            let mut causes = vec![Cause::new(refused.to_string())];
            causes.extend(refused.reasons.keys().map(|r| explain(picture, pod, r)));
            causes
        }
        Ok(node) => {
            let cause = Cause::new(format!("node {node} would take it now"));
            let advice =
                "if this stays so the scheduler does not run: look at its lease and its log";
            [cause.advise(advice)].into_iter().chain(told).collect()
        }
    }
}

fn snapshot(picture: &Picture) -> Snapshot {
    let mut snapshot = Snapshot::new();
    for node in picture.of::<Node>() {
        snapshot.set_node(&node);
    }
    for namespace in picture.of::<Namespace>() {
        let name = namespace.metadata.name.unwrap_or_default();
        let labels = namespace.metadata.labels.unwrap_or_default();
        snapshot.set_namespace(&name, Some(labels));
    }
    for pod in picture.of::<Pod>() {
        snapshot.set_pod(PodInfo::new(&pod));
    }
    snapshot
}

/// The claims that the pod needs and that are not bound, explained.
fn unbound_claims(picture: &Picture, pod: &Pod) -> Vec<Cause> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let claims: Vec<PersistentVolumeClaim> = picture.of();
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let own = pod.metadata.name.as_deref().unwrap_or_default();
    let names = volumes.filter_map(|v| match (&v.persistent_volume_claim, &v.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{own}-{}", v.name)),
        (None, None) => None,
    });
    names
        .filter_map(|name| {
            let is_it = |c: &&PersistentVolumeClaim| {
                c.metadata.name.as_ref() == Some(&name)
                    && c.metadata.namespace.as_deref() == Some(namespace)
            };
            match claims.iter().find(is_it) {
                None => Some(
                    Cause::new(format!("it uses the claim {name}, which does not exist"))
                        .advise("create the PersistentVolumeClaim, or correct the name"),
                ),
                // One that waits for its consumer is the scheduler's own to bind.
                Some(claim) if claim::is_bound(claim) || claim::waits_for_pod(picture, claim) => {
                    None
                }
                Some(claim) => Some(
                    Cause::new(format!("its claim {name} is not bound"))
                        .from(claim::causes(picture, claim)),
                ),
            }
        })
        .collect()
}

/// What a reason means for this pod on these nodes.
fn explain(picture: &Picture, pod: &Pod, reason: &str) -> Cause {
    let cause = Cause::new(reason.to_owned());
    if let Some(resource) = reason.strip_prefix("Insufficient ") {
        return shortage(picture, pod, resource);
    }
    if reason.contains("untolerated taint") {
        return cause.advise(
            "add a toleration to the pod, or take the taint off: kubectl taint nodes NODE KEY-",
        );
    }
    let advice = match reason {
        "node(s) were unschedulable" => "the nodes are cordoned: kubectl uncordon NODE",
        "Too many pods" => "delete pods, or add a node: oxikube node add",
        "node(s) didn't have free ports for the requested pod ports" => {
            "another pod has the host port: choose another, or do without hostPort"
        }
        "node(s) didn't match Pod's node affinity/selector" => return selector(picture, pod),
        _ => return cause,
    };
    cause.advise(advice)
}

fn shortage(picture: &Picture, pod: &Pod, resource: &str) -> Cause {
    let snapshot = snapshot(picture);
    let wants = PodInfo::new(pod).requests.get(resource);
    let free =
        |node: &scheduling::NodeInfo| node.allocatable.get(resource) - node.requested.get(resource);
    let best = snapshot.nodes().max_by_key(|node| free(node));
    let Some(best) = best else {
        return Cause::new("there is no node");
    };
    let unit = |amount: i64| amount_of(resource, amount);
    let what = format!(
        "it asks for {} {resource}; the most that is free is {}, on {} (of {})",
        unit(wants),
        unit(free(best)),
        best.name,
        unit(best.allocatable.get(resource)),
    );
    match wants > best.allocatable.get(resource) {
        true => Cause::new(what).advise("no node is that big: lower resources.requests"),
        false => Cause::new(what)
            .advise("lower resources.requests, delete pods, or add a node: oxikube node add"),
    }
}

fn amount_of(resource: &str, amount: i64) -> String {
    match resource {
        "cpu" => format!("{amount}m"),
        "memory" | "ephemeral-storage" => format!("{}Mi", amount / (1 << 20)),
        _ => amount.to_string(),
    }
}

/// Which label is missing where.
fn selector(picture: &Picture, pod: &Pod) -> Cause {
    let cause = Cause::new("no node has the labels that it wants");
    let wanted = pod.spec.as_ref().and_then(|s| s.node_selector.clone());
    let Some(wanted) = wanted.filter(|w| !w.is_empty()) else {
        return cause
            .advise("compare spec.affinity.nodeAffinity with: kubectl get nodes --show-labels");
    };
    let nodes: Vec<Node> = picture.of();
    let missing = wanted.iter().filter(|(key, value)| {
        !nodes.iter().any(|n| {
            let labels = n.metadata.labels.as_ref();
            labels.and_then(|l| l.get(*key)) == Some(value)
        })
    });
    let missing: Vec<String> = missing
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    match missing.as_slice() {
        [] => cause.advise(
            "no single node has all of them: compare with: kubectl get nodes --show-labels",
        ),
        _ => cause
            .detail(format!("no node has {}", missing.join(", ")))
            .advise(format!("kubectl label node NODE {}", missing.join(" "))),
    }
}
