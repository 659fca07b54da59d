//! Whether the node takes a pod that was bound to it: its name and selector, its resources, its host ports, its taints.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};

use crate::pod;
use crate::quantity::milli;
use crate::resources::pod_requests;

/// Why a pod is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The reason of the pod's status.
    pub reason: String,
    /// The message, for the event; in the status after `Pod was rejected: `.
    pub message: String,
}

/// Decides on `pod` given the node and the `others` that it runs already.
pub fn admit<'a>(
    pod: &Pod,
    node: &Node,
    others: impl Iterator<Item = &'a Pod> + Clone,
) -> Result<(), Rejection> {
    resources_fit(pod, node, others.clone())?;
    selector_fits(pod, node)?;
    let node_name = pod::spec(pod).node_name.as_deref();
    if node_name != node.metadata.name.as_deref() {
        return Err(predicate(
            "NodeName",
            "node(s) didn't match the requested node name",
        ));
    }
    ports_fit(pod, others)?;
    taints_tolerated(pod, node)
}

fn predicate(name: &str, why: &str) -> Rejection {
    Rejection {
        reason: name.to_owned(),
        message: format!("Predicate {name} failed: {why}"),
    }
}

fn resources_fit<'a>(
    pod: &Pod,
    node: &Node,
    others: impl Iterator<Item = &'a Pod> + Clone,
) -> Result<(), Rejection> {
    let status = node.status.as_ref();
    let Some(allocatable) = status.and_then(|s| s.allocatable.as_ref()) else {
        return Ok(());
    };
    let capacity = |name: &str| allocatable.get(name).and_then(milli).unwrap_or(0);
    let count = others.clone().count();
    let pods = capacity("pods") / 1000;
    if i128::try_from(count).unwrap_or(i128::MAX) + 1 > pods {
        return Err(insufficient(
            "pods",
            1,
            i128::try_from(count).unwrap_or(0),
            pods,
        ));
    }
    let wanted = pod_requests(pod);
    let mut used: BTreeMap<String, i128> = BTreeMap::new();
    for other in others {
        for (name, amount) in pod_requests(other) {
            *used.entry(name).or_default() += amount;
        }
    }
    for name in ordered(&wanted) {
        let amount = wanted[name];
        let used = used.get(name).copied().unwrap_or(0);
        let capacity = capacity(name);
        if amount > 0 && amount > capacity - used {
            let scale = if name == "cpu" { 1 } else { 1000 };
            return Err(insufficient(
                name,
                amount / scale,
                used / scale,
                capacity / scale,
            ));
        }
    }
    Ok(())
}

/// Decides whether the node gives a running pod the resources that its spec asks for now.
///
/// # Errors
/// `Infeasible`: never on this node. `Deferred`: not beside the others.
pub fn resize<'a>(
    pod: &Pod,
    node: &Node,
    others: impl Iterator<Item = &'a Pod> + Clone,
) -> Result<(), Rejection> {
    let status = node.status.as_ref();
    let Some(allocatable) = status.and_then(|s| s.allocatable.as_ref()) else {
        return Ok(());
    };
    let wanted = pod_requests(pod);
    for name in ["cpu", "memory"] {
        let amount = wanted.get(name).copied().unwrap_or(0);
        let capacity = allocatable.get(name).and_then(milli).unwrap_or(0);
        if amount > capacity {
            let scale = if name == "cpu" { 1 } else { 1000 };
            return Err(Rejection {
                reason: "Infeasible".to_owned(),
                message: format!(
                    "Node didn't have enough capacity: {name}, requested: {}, capacity: {}",
                    amount / scale,
                    capacity / scale
                ),
            });
        }
    }
    resources_fit(pod, node, others).map_err(|refused| Rejection {
        reason: "Deferred".to_owned(),
        ..refused
    })
}

/// CPU and memory come first.
fn ordered(wanted: &BTreeMap<String, i128>) -> Vec<&str> {
    let first = ["cpu", "memory", "ephemeral-storage"];
    let rest = wanted.keys().map(String::as_str);
    let rest = rest.filter(|n| !first.contains(n));
    let first = first.into_iter().filter(|n| wanted.contains_key(*n));
    first.chain(rest).collect()
}

fn insufficient(name: &str, requested: i128, used: i128, capacity: i128) -> Rejection {
    Rejection {
        reason: format!("OutOf{name}"),
        message: format!(
            "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
        ),
    }
}

fn selector_fits(pod: &Pod, node: &Node) -> Result<(), Rejection> {
    let labels = node.metadata.labels.as_ref();
    let label = |key: &str| labels.and_then(|l| l.get(key));
    let wanted = pod::spec(pod).node_selector.iter().flatten();
    for (key, value) in wanted {
        if label(key) != Some(value) {
            return Err(predicate(
                "NodeAffinity",
                "node(s) didn't match Pod's node affinity/selector",
            ));
        }
    }
    Ok(())
}

fn ports_fit<'a>(pod: &Pod, others: impl Iterator<Item = &'a Pod>) -> Result<(), Rejection> {
    let wanted = host_ports(pod);
    if wanted.is_empty() {
        return Ok(());
    }
    let taken: Vec<_> = others.flat_map(host_ports).collect();
    let clash = |a: &(i32, &str, &str), b: &(i32, &str, &str)| {
        let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
        a.0 == b.0 && a.1 == b.1 && (a.2 == b.2 || any(a.2) || any(b.2))
    };
    if wanted.iter().any(|w| taken.iter().any(|t| clash(w, t))) {
        return Err(predicate(
            "NodePorts",
            "node(s) didn't have free ports for the requested pod ports",
        ));
    }
    Ok(())
}

/// Port, protocol and address of every port the pod takes on its node.
pub fn host_ports(pod: &Pod) -> Vec<(i32, &str, &str)> {
    let containers = pod::spec(pod).containers.iter();
    let sidecars = pod::init_containers(pod)
        .iter()
        .filter(|c| pod::is_sidecar(c));
    containers
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten())
        .filter_map(|p| {
            let port = p.host_port.filter(|port| *port > 0)?;
            let protocol = p.protocol.as_deref().unwrap_or("TCP");
            Some((port, protocol, p.host_ip.as_deref().unwrap_or_default()))
        })
        .collect()
}

fn taints_tolerated(pod: &Pod, node: &Node) -> Result<(), Rejection> {
    let spec = node.spec.as_ref();
    let taints = spec.and_then(|s| s.taints.as_deref()).unwrap_or_default();
    let tolerations = pod::spec(pod).tolerations.as_deref().unwrap_or_default();
    let refused = taints
        .iter()
        .filter(|t| t.effect == "NoExecute")
        .any(|taint| !tolerations.iter().any(|t| tolerates(t, taint)));
    match refused {
        true => Err(predicate(
            "TaintToleration",
            "node(s) had taints that the pod didn't tolerate",
        )),
        false => Ok(()),
    }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let exists = toleration.operator.as_deref() == Some("Exists");
    (effect.is_empty() || effect == taint.effect)
        && (key == taint.key || (key.is_empty() && exists))
        && (exists
            || toleration.value.as_deref().unwrap_or_default()
                == taint.value.as_deref().unwrap_or_default())
}
