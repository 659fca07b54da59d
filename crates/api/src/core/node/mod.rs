//! Node: a machine that runs pods. Its kubelet registers it and writes its status.
//!
//! Upstream: `pkg/registry/core/node`, `ValidateNode*` in `pkg/apis/core/validation`, `printNode`.

mod validation;

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node as Typed, NodeSpec};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};
use serde_json::Value;

pub use validation::validate_taints;

use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::{Items, OrEmpty};
use crate::warn;

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

/// A field of a feature that v1.37 has switched off.
const PREEMPTION: &str = "podPreemptionPolicy";

/// What both columns of addresses say of themselves.
const ADDRESSES: &str = "List of addresses reachable to the node. Queried from cloud \
    provider, if available. More info: \
    https://kubernetes.io/docs/reference/node/node-status/#addresses \
    Note: This field is declared as mergeable, but the merge key \
    is not sufficiently unique, which can cause data corruption \
    when it is merged. Callers should instead use a \
    full-replacement patch. See https://pr.k8s.io/79391 for an \
    example. Consumers should assume that addresses can change \
    during the lifetime of a Node. However, there are some \
    exceptions where this may not be possible, such as Pods that \
    inherit a Node's address in its own status or consumers of \
    the downward API (status.hostIP).";

/// The kind `Node`.
pub struct Node;

impl Kind for Node {
    type Object = Typed;
    const NAMES: Names = Names::new("", "v1", "Node", "nodes", "node").short(&["no"]);
    const SCOPE: Scope = Scope::Cluster;
    const SUBRESOURCES: &'static [Subresource] =
        &[Subresource::Proxy, Subresource::Part(Part::Status)];
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text("Status", "The status of the node"),
        columns::text("Roles", "The roles of the node"),
        columns::AGE,
        columns::text("Version", "Kubelet Version reported by the node."),
        columns::wide("Internal-IP", ADDRESSES),
        columns::wide("External-IP", ADDRESSES),
        columns::wide(
            "OS-Image",
            "OS Image reported by the node from /etc/os-release (e.g. Debian GNU/Linux 7 (wheezy)).",
        ),
        columns::wide(
            "Kernel-Version",
            "Kernel Version reported by the node from 'uname -r' (e.g. 3.16.0-0.bpo.4-amd64).",
        ),
        columns::wide(
            "Container-Runtime",
            "ContainerRuntime Version reported by the node through runtime remote API (e.g. \
             containerd://1.4.2).",
        ),
    ];
    const SELECTABLE: &'static [&'static str] = &["spec.unschedulable"];

    fn default(object: &mut Typed) {
        if let Some(spec) = object.spec.as_mut() {
            pod_cidrs(spec);
        }
        let Some(status) = object.status.as_mut() else {
            return;
        };
        for list in [&mut status.capacity, &mut status.allocatable] {
            crate::core::resources::canonical(list.as_mut());
        }
        if status.allocatable.is_none() {
            status.allocatable.clone_from(&status.capacity);
        }
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        // A kubelet registers its node with the status in place; only dynamic configuration is gone for good.
        kind::set_at(new, &["spec"], "configSource", None);
        kind::set_at(new, &["status"], "config", None);
        kind::set_at(new, &["spec"], PREEMPTION, None);
    }

    fn prepare_update(_context: &Context, part: Part, new: &mut Object, old: &Object) {
        kind::keep_other_part(part, new, old);
        for key in ["configSource", PREEMPTION] {
            if old.at(&["spec", key]).is_none() {
                kind::set_at(new, &["spec"], key, None);
            }
        }
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        validation::create(new)
    }

    fn warnings(new: &Typed) -> Vec<String> {
        let Some(spec) = &new.spec else {
            return Vec::new();
        };
        let mut warnings = Vec::new();
        if spec.config_source.is_some() {
            warnings.push("spec.configSource: the feature is removed".to_owned());
        }
        if !spec.external_id.text().is_empty() {
            warnings.push(
                "spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned(),
            );
        }
        for (i, range) in spec.pod_cidrs.items().iter().enumerate() {
            let path = Path::new("spec").child("podCIDRs").index(i);
            warn::cidr(&mut warnings, &path, range);
        }
        warnings
    }

    fn validate_update(_context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        validation::update(new, old)
    }

    fn selectable_fields(object: &Object) -> Vec<(&'static str, String)> {
        let unschedulable = object
            .at(&["spec", "unschedulable"])
            .and_then(Value::as_bool);
        vec![(
            "spec.unschedulable",
            unschedulable.unwrap_or(false).to_string(),
        )]
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let info = object.status.as_ref().and_then(|s| s.node_info.as_ref());
        let known = |text: &str| if text.is_empty() { "<unknown>" } else { text }.to_owned();
        let mut kernel = known(info.map_or("", |i| &i.kernel_version));
        if let Some(architecture) = info.map(|i| &i.architecture).filter(|a| !a.is_empty()) {
            kernel = format!("{kernel} ({architecture})");
        }
        Row::from(vec![
            tree.name().into(),
            status(object).into(),
            roles(tree).into(),
            kind::age(tree, now).into(),
            info.map_or("", |i| &i.kubelet_version).into(),
            address(object, "InternalIP").into(),
            address(object, "ExternalIP").into(),
            known(info.map_or("", |i| &i.os_image)).into(),
            kernel.into(),
            known(info.map_or("", |i| &i.container_runtime_version)).into(),
        ])
    }
}

/// Keeps `podCIDR` and `podCIDRs` together; the old field wins.
fn pod_cidrs(spec: &mut NodeSpec) {
    let first = spec.pod_cidrs.items().first().cloned();
    match (spec.pod_cidr.text(), first) {
        ("", first) => spec.pod_cidr = first.or(spec.pod_cidr.take()),
        (own, first) if first.as_deref() != Some(own) => {
            spec.pod_cidrs = Some(vec![own.to_owned()]);
        }
        _ => {}
    }
}

fn status(node: &Typed) -> String {
    let conditions = node
        .status
        .as_ref()
        .map_or(&[][..], |s| s.conditions.items());
    let ready = conditions.iter().rfind(|c| c.type_ == "Ready");
    let mut status = match ready.map(|c| c.status.as_str()) {
        None => "Unknown",
        Some("True") => "Ready",
        Some(_) => "NotReady",
    }
    .to_owned();
    if node
        .spec
        .as_ref()
        .is_some_and(|s| s.unschedulable == Some(true))
    {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn roles(tree: &Object) -> String {
    let roles: BTreeSet<&str> = tree
        .labels()
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None => (key == ROLE_LABEL).then_some(value),
        })
        .filter(|role| !role.is_empty())
        .collect();
    if roles.is_empty() {
        return "<none>".to_owned();
    }
    roles.into_iter().collect::<Vec<_>>().join(",")
}

fn address(node: &Typed, wanted: &str) -> String {
    let addresses = node
        .status
        .as_ref()
        .map_or(&[][..], |s| s.addresses.items());
    let found = addresses.iter().find(|a| a.type_ == wanted);
    found.map_or("<none>", |a| &a.address).to_owned()
}

/// Whether the node's provider ID is set.
pub(crate) fn provider_id(node: &Typed) -> &str {
    node.spec.as_ref().map_or("", |s| s.provider_id.text())
}

#[cfg(test)]
mod tests;
