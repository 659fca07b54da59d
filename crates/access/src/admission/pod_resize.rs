//! PodResizeValidator: a pod is not resized beyond what its node has for pods.
//!
//! Behaviour: `plugin/pkg/admission/podresize`.

use api::quota;
use k8s_openapi::api::core::v1::{Node, PodSpec};
use machinery::quantity::Quantity;
use machinery::{ApiError, Object};
use serde_json::Value;

use super::{Operation, Request};
use crate::Lookup;

const OS_LABEL: &str = "kubernetes.io/os";

/// A change of a pod that stands on a node.
pub(super) fn node_of<'a>(request: &Request, pod: &'a Object) -> Option<(&'a str, &'a Object)> {
    let node = pod.str_at(&["spec", "nodeName"]);
    let old = request.old?;
    let changes = request.operation == Operation::Update && request.is_for("", "pods");
    let spec = |pod: &Object| pod.at(&["spec"]).cloned();
    (changes && !node.is_empty() && spec(old) != spec(pod)).then_some((node, pod))
}

pub(super) fn validate(
    request: &Request,
    pod: &Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    if request.subresource != "resize" {
        return Ok(());
    }
    let Some((name, _)) = node_of(request, pod) else {
        return Ok(());
    };
    let Some(node) = lookup.get("", "nodes", "", name) else {
        return Err(request.forbidden(pod, format!("node {name:?} not found")));
    };
    if let Some(system) = node.label(OS_LABEL).filter(|system| *system != "linux") {
        let why =
            format!("pod resize is only supported on linux nodes, node {name:?} is {system:?}");
        return Err(request
            .forbidden(pod, why)
            .caused_by("UnsupportedPlatform", ""));
    }
    let (Ok(node), Some(spec)) = (node.view::<Node>(), spec_of(pod)) else {
        return Ok(());
    };
    match shortage(&spec, &node) {
        Some(why) => Err(request.forbidden(pod, why).caused_by("NodeCapacity", "")),
        None => Ok(()),
    }
}

fn spec_of(pod: &Object) -> Option<PodSpec> {
    let spec: Value = pod.at(&["spec"])?.clone();
    serde_json::from_value(spec).ok()
}

/// What the node never has for the pod, even if it were alone there.
fn shortage(spec: &PodSpec, node: &Node) -> Option<String> {
    let allocatable = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
    let allocatable = quota::amounts(allocatable);
    let wanted = quota::whole_requests_of_pod(spec);
    let find = |name: &str| {
        let of = |amounts: &quota::Amounts| -> Quantity {
            amounts.get(name).cloned().unwrap_or_default()
        };
        (of(&wanted), of(&allocatable))
    };
    let mut short = Vec::new();
    let (wanted, there) = find("cpu");
    if wanted > there {
        let (wanted, there) = (wanted.milli_value(), there.milli_value());
        short.push(format!("cpu, requested: {wanted}, allocatable: {there}"));
    }
    let (wanted, there) = find("memory");
    if wanted > there {
        let (wanted, there) = (wanted.value(), there.value());
        short.push(format!("memory, requested: {wanted}, allocatable: {there}"));
    }
    (!short.is_empty()).then(|| {
        let short = short.join("; ");
        format!("node didn't have enough allocatable resources: {short}")
    })
}
