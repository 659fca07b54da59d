//! A write to `status`.

use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, Pod, PodExtendedResourceClaimStatus, PodSpec, PodStatus,
};
use machinery::{ErrorList, Path, names};
use serde_json::Value;

use super::{annotations, specs};
use crate::check::{self, ErrorListExt};
use crate::core::pod::validation::object_name;
use crate::view::{Items, OrEmpty};

const NOT_BACK: &str = "may not be transitioned to non-terminated state";

/// A write to `status`.
pub(crate) fn status(new: &Pod, old: &Pod) -> ErrorList {
    let (empty, none) = (PodSpec::default(), PodStatus::default());
    let (spec, before) = specs(new, old, &empty);
    let (now, was) = (
        new.status.as_ref().unwrap_or(&none),
        old.status.as_ref().unwrap_or(&none),
    );
    let path = Path::new("status");
    let mut errors = ErrorList::new();
    annotations(&mut errors, new, old);
    conditions(&mut errors, &path.child("conditions"), now);
    if spec.node_name.text() != before.node_name.text() {
        errors.forbidden(&path.child("nodeName"), "may not be changed directly");
    }
    nomination(
        &mut errors,
        &path.child("nominatedNodeName"),
        now,
        was,
        before,
    );
    if let Some(generation) = now.observed_generation.filter(|g| *g < 0) {
        let detail = "must be a non-negative integer";
        errors.invalid(&path.child("observedGeneration"), generation, detail);
    }
    errors.immutable(
        &path.child("qosClass"),
        &now.qos_class.text(),
        &was.qos_class.text(),
    );
    transitions(&mut errors, &path, now, was, before);
    all_addresses(&mut errors, &path, now, was);
    if let Some(claim) = &now.extended_resource_claim_status {
        extended_claim(
            &mut errors,
            &path.child("extendedResourceClaimStatus"),
            claim,
            spec,
        );
    }
    errors
}

/// The claim that stands for extended resources, and who asks for them.
fn extended_claim(
    errors: &mut ErrorList,
    path: &Path,
    claim: &PodExtendedResourceClaimStatus,
    spec: &PodSpec,
) {
    let list = path.child("requestMappings");
    if claim.request_mappings.is_empty() {
        errors.required(&list, "at least one request mapping is required");
    }
    let containers = spec.init_containers.items().iter().chain(&spec.containers);
    let containers: Vec<_> = containers.collect();
    let mut seen = std::collections::BTreeSet::new();
    for (i, mapping) in claim.request_mappings.iter().enumerate() {
        let at = list.index(i);
        let of = (
            &*mapping.container_name,
            &*mapping.resource_name,
            &*mapping.request_name,
        );
        let mut own = containers.iter().filter(|c| c.name == of.0);
        let asked = own.next().map(|container| {
            let requests = container
                .resources
                .as_ref()
                .and_then(|r| r.requests.as_ref());
            requests.is_some_and(|requests| requests.contains_key(of.1))
        });
        match asked {
            Some(true) => {}
            Some(false) => {
                let why = "must match the extended resource name of an entry in \
                    spec.initContainers.resources.requests or spec.containers.resources.requests";
                errors.invalid(&at.child("resourceName"), of.1, why);
            }
            None => {
                let why = "must match the name of an entry in spec.initContainers.name or \
                    spec.containers.name";
                errors.invalid(&at.child("containerName"), of.0, why);
            }
        }
        errors.invalid_each(&path.child("requestName"), of.2, names::dns1123_label(of.2));
        if !seen.insert(of) {
            errors.duplicate(&at.child("containerName"), of.0);
            errors.duplicate(&at.child("resourceName"), of.1);
            errors.duplicate(&at.child("requestName"), of.2);
        }
    }
    let at = path.child("resourceClaimName");
    if claim.resource_claim_name.is_empty() {
        errors.required(&at, "");
    } else {
        let name = &*claim.resource_claim_name;
        errors.invalid_each(&at, name, names::dns1123_subdomain(name));
    }
}

fn all_addresses(errors: &mut ErrorList, path: &Path, now: &PodStatus, was: &PodStatus) {
    let ips: Vec<&str> = now
        .pod_ips
        .items()
        .iter()
        .map(|ip| ip.ip.as_str())
        .collect();
    let known: Vec<&str> = was
        .pod_ips
        .items()
        .iter()
        .map(|ip| ip.ip.as_str())
        .collect();
    addresses(errors, &path.child("podIPs"), &ips, &known);
    pod_ip(errors, &path.child("podIPs"), now, &ips);
    let ips: Vec<&str> = now
        .host_ips
        .items()
        .iter()
        .map(|ip| ip.ip.as_str())
        .collect();
    let known: Vec<&str> = was
        .host_ips
        .items()
        .iter()
        .map(|ip| ip.ip.as_str())
        .collect();
    if ips
        .first()
        .is_some_and(|first| now.host_ip.text() != *first)
    {
        let at = path.child("hostIPs").index(0).child("ip");
        errors.invalid(&at, ips[0], "must be equal to `hostIP`");
    }
    addresses(errors, &path.child("hostIPs"), &ips, &known);
}

fn conditions(errors: &mut ErrorList, path: &Path, now: &PodStatus) {
    for (i, condition) in now.conditions.items().iter().enumerate() {
        let at = path.index(i);
        if condition.observed_generation.is_some_and(|g| g < 0) {
            let detail = "must be a non-negative integer";
            errors.invalid(
                &at.child("observedGeneration"),
                condition.observed_generation,
                detail,
            );
        }
        if !matches!(
            condition.type_.as_str(),
            "PodScheduled" | "Ready" | "Initialized"
        ) {
            check::label_name(errors, &at.child("Type"), &condition.type_);
        }
    }
}

fn nomination(
    errors: &mut ErrorList,
    path: &Path,
    now: &PodStatus,
    was: &PodStatus,
    spec: &PodSpec,
) {
    let name = now.nominated_node_name.text();
    if name.is_empty() || name == was.nominated_node_name.text() {
        return;
    }
    object_name(errors, path, name);
    if !spec.node_name.text().is_empty() {
        errors.forbidden(
            path,
            "may not be set on pods that are already bound to a node",
        );
    }
}

fn transitions(
    errors: &mut ErrorList,
    path: &Path,
    now: &PodStatus,
    was: &PodStatus,
    spec: &PodSpec,
) {
    let all_restart = spec
        .containers
        .iter()
        .chain(spec.init_containers.items())
        .any(|c| {
            c.restart_policy_rules
                .items()
                .iter()
                .any(|r| r.action == "RestartAllContainers")
        });
    let groups = [
        (
            "containerStatuses",
            &now.container_statuses,
            &was.container_statuses,
        ),
        (
            "initContainerStatuses",
            &now.init_container_statuses,
            &was.init_container_statuses,
        ),
        (
            "ephemeralContainerStatuses",
            &now.ephemeral_container_statuses,
            &was.ephemeral_container_statuses,
        ),
    ];
    for (key, now, was) in groups {
        let ephemeral = key.starts_with("ephemeral");
        if all_restart && !ephemeral {
            continue;
        }
        let containers = match key {
            "containerStatuses" => &spec.containers[..],
            _ => spec.init_containers.items(),
        };
        for (i, was) in was.items().iter().enumerate() {
            let Some(exit_code) = exit_code(was) else {
                continue;
            };
            let is = now.items().iter().find(|s| s.name == was.name);
            if is.is_none_or(|s| self::exit_code(s).is_some()) {
                continue;
            }
            let container = containers.iter().find(|c| c.name == was.name);
            let may = !ephemeral && container.is_some_and(|c| should_restart(c, spec, exit_code));
            if !may {
                errors.forbidden(&path.child(key).index(i).child("state"), NOT_BACK);
            }
        }
    }
}

fn exit_code(status: &ContainerStatus) -> Option<i32> {
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}

/// Whether a container that ended with this code runs again: its rules, its policy, the pod's policy, in this order.
fn should_restart(container: &Container, spec: &PodSpec, exit_code: i32) -> bool {
    for rule in container.restart_policy_rules.items() {
        let Some(codes) = &rule.exit_codes else {
            continue;
        };
        let listed = codes.values.items().contains(&exit_code);
        if listed == (codes.operator == "In") {
            return true;
        }
    }
    let policy = match container.restart_policy.text() {
        "" => spec.restart_policy.text(),
        own => own,
    };
    match policy {
        "Always" => true,
        "OnFailure" => exit_code != 0,
        _ => false,
    }
}

fn addresses(errors: &mut ErrorList, path: &Path, ips: &[&str], known: &[&str]) {
    for (i, ip) in ips.iter().enumerate() {
        errors.invalid_each(
            &path.index(i),
            ip,
            names::legacy_ip(ip, !known.contains(ip)),
        );
    }
    let sixes = ips.iter().filter(|ip| ip.contains(':')).count();
    if ips.len() > 2 || (ips.len() == 2 && sixes != 1) {
        let shown: Vec<Value> = ips.iter().map(|ip| serde_json::json!({"ip": ip})).collect();
        let detail = "may specify no more than one IP for each IP family";
        errors.invalid(path, shown, detail);
    }
}

fn pod_ip(errors: &mut ErrorList, path: &Path, status: &PodStatus, ips: &[&str]) {
    let ip = status.pod_ip.text();
    match ips.first() {
        first if first.is_some() == ip.is_empty() => {
            let detail = "podIP and podIPs must either both be set or both be unset";
            errors.invalid(path, check::json(&status.pod_ips), detail);
        }
        Some(first) if *first != ip => {
            errors.invalid(
                &path.index(0).child("ip"),
                *first,
                "must be equal to `podIP`",
            );
        }
        _ => {}
    }
}
