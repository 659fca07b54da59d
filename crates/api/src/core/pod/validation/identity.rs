//! Names and addresses in a pod: references, host names, DNS, claims, annotations.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{HostAlias, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use machinery::{ErrorList, Path, names};

use super::{Scope, object_name, security};
use crate::check::{self, ErrorListExt};
use crate::view::{Items, OrEmpty, Yes};

/// The annotation of a pod that only mirrors one of the kubelet's own.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_LIST_MAX: usize = 2048;

/// Annotations that mean something, in a pod.
pub(super) fn annotations(errors: &mut ErrorList, path: &Path, pod: &Pod) {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    template_annotations(errors, path, &pod.metadata, spec);
}

/// Annotations that mean something, in a pod or a template.
pub(super) fn template_annotations(
    errors: &mut ErrorList,
    path: &Path,
    metadata: &ObjectMeta,
    spec: &PodSpec,
) {
    for (key, value) in metadata.annotations.iter().flatten() {
        if key == MIRROR && spec.node_name.text().is_empty() {
            let detail = "must set spec.nodeName if mirror pod annotation is set";
            errors.invalid(&path.key(MIRROR), value.as_str(), detail);
        }
        // Leading zeros and a plus sign are not how the number is written.
        let canonical = value.parse::<i32>().is_ok_and(|n| n.to_string() == *value);
        if key == DELETION_COST && !canonical {
            let detail = "must be a 32bit integer";
            errors.invalid(&path.key(DELETION_COST), value.as_str(), detail);
        }
        security::seccomp_annotation(errors, path, key, value);
        security::app_armor_annotation(errors, path, (key, value), spec);
    }
}

/// A pod with scheduling gates has no node yet.
pub(super) fn gates_need_no_node(errors: &mut ErrorList, pod: &Pod) {
    let Some(spec) = &pod.spec else { return };
    if !spec.node_name.text().is_empty() && !spec.scheduling_gates.items().is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.forbidden(&Path::new("spec").child("nodeName"), detail);
    }
}

pub(super) fn resource_claims(errors: &mut ErrorList, path: &Path, spec: &PodSpec) {
    let mut seen = BTreeSet::new();
    for (i, claim) in spec.resource_claims.items().iter().enumerate() {
        let at = path.index(i);
        if errors.required_text(&at.child("name"), &claim.name, "") {
            if seen.insert(&claim.name) {
                let messages = names::dns1123_label(&claim.name);
                errors.invalid_each(&at.child("name"), &claim.name, messages);
            } else {
                errors.duplicate(&at.child("name"), claim.name.as_str());
            }
        }
        match (
            &claim.resource_claim_name,
            &claim.resource_claim_template_name,
        ) {
            (Some(_), Some(_)) => {
                let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.invalid(&at, check::json(claim), detail);
            }
            (None, None) => {
                let detail =
                    "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.invalid(&at, check::json(claim), detail);
            }
            (Some(name), None) => object_name(errors, &at.child("resourceClaimName"), name),
            (None, Some(name)) => {
                object_name(errors, &at.child("resourceClaimTemplateName"), name);
            }
        }
    }
}

/// On the host's network a port is the host's: both numbers are the same.
pub(super) fn host_ports_match(errors: &mut ErrorList, path: &Path, scope: &Scope<'_>) {
    if !scope.spec.host_network.yes() {
        return;
    }
    for (i, container) in scope.spec.containers.iter().enumerate() {
        for (j, port) in container.ports.items().iter().enumerate() {
            let host = port.host_port.unwrap_or(0);
            if (scope.is_pod || host != 0) && host != port.container_port {
                let at = path.index(i).child("ports").index(j).child("hostPort");
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.invalid(&at, host, detail);
            }
        }
    }
}

pub(super) fn dns_config(errors: &mut ErrorList, path: &Path, spec: &PodSpec) {
    let none = spec.dns_policy.text() == "None";
    let Some(config) = &spec.dns_config else {
        if none {
            errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        return;
    };
    let servers = config.nameservers.items();
    let at = path.child("nameservers");
    if none && servers.is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        return errors.required(&at, detail);
    }
    if servers.len() > NAMESERVERS_MAX {
        let detail = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.invalid(&at, servers.to_vec(), detail);
    }
    for (i, server) in servers.iter().enumerate() {
        errors.invalid_each(&at.index(i), server, names::legacy_ip(server, true));
    }
    let searches = config.searches.items();
    let at = path.child("searches");
    if searches.len() > SEARCHES_MAX {
        let detail = format!("must not have more than {SEARCHES_MAX} search paths");
        errors.invalid(&at, searches.to_vec(), detail);
    }
    if searches.join(" ").len() > SEARCH_LIST_MAX {
        let detail = format!(
            "must not have more than {SEARCH_LIST_MAX} characters (including spaces) in the search list"
        );
        errors.invalid(&at, searches.to_vec(), detail);
    }
    for (i, search) in searches.iter().enumerate().filter(|(_, s)| *s != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        let messages = names::dns1123_subdomain_with_underscore(search);
        errors.invalid_each(&at.index(i), search, messages);
    }
    for (i, option) in config.options.items().iter().enumerate() {
        let at = path.child("options").index(i);
        errors.required_text(&at, option.name.text(), "must not be empty");
    }
}

pub(super) fn hostname_override(errors: &mut ErrorList, path: &Path, spec: &PodSpec) {
    let Some(name) = &spec.hostname_override else {
        return;
    };
    let path = path.child("hostnameOverride");
    if spec.set_hostname_as_fqdn.yes() {
        errors.forbidden(&path, "may not be specified when setHostnameAsFQDN is true");
    }
    if spec.host_network.yes() {
        errors.forbidden(&path, "may not be specified when hostNetwork is true");
    }
    if name.len() > 64 {
        errors.too_long(&path, 64);
    }
    object_name(errors, &path, name);
}

pub(super) fn references(errors: &mut ErrorList, path: &Path, spec: &PodSpec) {
    let account = spec.service_account_name.text();
    if !account.is_empty() {
        object_name(errors, &path.child("serviceAccountName"), account);
    }
    if spec.service_account.text() != account {
        let detail = format!("must be the same as serviceAccountName: {account:?}");
        let shown = spec.service_account.text();
        errors.invalid(&path.child("deprecatedServiceAccount"), shown, detail);
    }
    let node = spec.node_name.text();
    if !node.is_empty() {
        object_name(errors, &path.child("nodeName"), node);
    }
    if let Some(seconds) = spec.active_deadline_seconds {
        let max = i64::from(i32::MAX);
        for message in names::in_range(seconds, 1, max) {
            errors.invalid(&path.child("activeDeadlineSeconds"), seconds, message);
        }
    }
    for (key, name) in [
        ("hostname", spec.hostname.text()),
        ("subdomain", spec.subdomain.text()),
    ] {
        if !name.is_empty() {
            errors.invalid_each(&path.child(key), name, names::dns1123_label(name));
        }
    }
}

pub(super) fn host_aliases(errors: &mut ErrorList, path: &Path, aliases: &[HostAlias]) {
    for (i, alias) in aliases.iter().enumerate() {
        let at = path.index(i);
        errors.invalid_each(
            &at.child("ip"),
            &alias.ip,
            names::legacy_ip(&alias.ip, true),
        );
        for (j, name) in alias.hostnames.items().iter().enumerate() {
            object_name(errors, &at.child("hostnames").index(j), name);
        }
    }
}

/// Priority class, runtime class, preemption policy and overhead.
pub(super) fn classes(errors: &mut ErrorList, path: &Path, spec: &PodSpec) {
    let class = spec.priority_class_name.text();
    if !class.is_empty() {
        object_name(errors, &path.child("priorityClassName"), class);
    }
    if let Some(class) = &spec.runtime_class_name {
        object_name(errors, &path.child("runtimeClassName"), class);
    }
    if let Some(policy) = &spec.preemption_policy {
        let at = path.child("preemptionPolicy");
        if errors.required_text(&at, policy, "") {
            errors.one_of(&at, policy, &["PreemptLowerPriority", "Never"]);
        }
    }
    if let Some(overhead) = &spec.overhead {
        super::overhead(errors, &path.child("overhead"), overhead);
    }
    if let Some(group) = &spec.scheduling_group {
        let at = path.child("schedulingGroup").child("podGroupName");
        match &group.pod_group_name {
            Some(name) => object_name(errors, &at, name),
            None => {
                let detail = "must specify one of: `podGroupName`";
                errors.invalid(&at, serde_json::Value::Null, detail);
            }
        }
    }
}
