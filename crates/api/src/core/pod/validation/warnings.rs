//! What is allowed in a pod and yet probably not what its writer wants.
//!
//! Upstream: `pkg/api/pod/warnings.go`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ContainerPort, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use machinery::Path;
use machinery::quantity::Quantity;

use super::overlaps;
use crate::view::{Items, OrEmpty};
use crate::visit;

/// Labels with a successor, as node selectors still name them.
pub(crate) const OLD_LABELS: &[(&str, &str)] = &[
    (
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/region",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "topology.kubernetes.io/zone",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
    ),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
];

/// The warnings about a pod's specification.
pub(crate) fn pod_spec(spec: Option<&PodSpec>) -> Vec<String> {
    pod_spec_at(spec, &Path::new("spec"))
}

/// The warnings about the specification at `path`: a pod's or a template's.
pub(crate) fn pod_spec_at(spec: Option<&PodSpec>, path: &Path) -> Vec<String> {
    let Some(spec) = spec else { return Vec::new() };
    let mut warnings = Vec::new();
    for key in spec.node_selector.iter().flatten().map(|(key, _)| key) {
        if let Some((_, new)) = OLD_LABELS.iter().find(|(old, _)| old == key) {
            let path = path.child("nodeSelector").key(key);
            warnings.push(format!(
                "{path}: deprecated since v1.14; use \"{new}\" instead"
            ));
        }
    }
    for (i, alias) in spec.host_aliases.items().iter().enumerate() {
        if spec.host_aliases.items()[..i]
            .iter()
            .any(|a| a.ip == alias.ip)
        {
            let path = path.child("hostAliases").index(i).child("ip");
            warnings.push(format!("{path}: duplicate ip \"{}\"", alias.ip));
        }
    }
    let mut seen = BTreeSet::new();
    for (i, secret) in spec.image_pull_secrets.items().iter().enumerate() {
        let path = path.child("imagePullSecrets").index(i);
        if !seen.insert(&secret.name) {
            warnings.push(format!("{path}.name: duplicate name \"{}\"", secret.name));
        }
        if secret.name.is_empty() {
            warnings.push(format!("{path}.name: invalid empty name \"\""));
        }
    }
    volumes(&mut warnings, path, spec);
    selectors(&mut warnings, path, spec);
    containers(&mut warnings, path, spec);
    ports(&mut warnings, path, spec);
    if spec.termination_grace_period_seconds.is_some_and(|s| s < 0) {
        warnings.push(format!(
            "{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    warnings
}

fn volumes(warnings: &mut Vec<String>, path: &Path, spec: &PodSpec) {
    for (i, volume) in spec.volumes.items().iter().enumerate() {
        let path = path.child("volumes").index(i);
        let mut warn = |key: &str, text: &str| warnings.push(format!("{path}.{key}: {text}"));
        if volume.git_repo.is_some() {
            warn(
                "gitRepo",
                "deprecated in v1.11, and disabled by default in v1.33+",
            );
        }
        if volume.glusterfs.is_some() {
            warn("glusterfs", "deprecated in v1.25, non-functional in v1.26+");
        }
        if volume.scale_io.is_some() {
            warn("scaleIO", "deprecated in v1.16, non-functional in v1.22+");
        }
        if volume.flocker.is_some() {
            warn("flocker", "deprecated in v1.22, non-functional in v1.25+");
        }
        if volume.storageos.is_some() {
            warn("storageOS", "deprecated in v1.22, non-functional in v1.25+");
        }
        if volume.quobyte.is_some() {
            warn("quobyte", "deprecated in v1.22, non-functional in v1.25+");
        }
        if volume.cephfs.is_some() {
            warn("cephfs", "deprecated in v1.28, non-functional in v1.31+");
        }
        if volume.rbd.is_some() {
            warn("rbd", "deprecated in v1.28, non-functional in v1.31+");
        }
        overlaps::volume(warnings, volume);
        let claim = volume.ephemeral.as_ref();
        let claim = claim.and_then(|e| e.volume_claim_template.as_ref());
        if let Some(resources) = claim.and_then(|c| c.spec.resources.as_ref()) {
            let template = path.child("ephemeral").child("volumeClaimTemplate");
            let at = template.child("spec").child("resources");
            for (key, list) in [
                ("limits", &resources.limits),
                ("requests", &resources.requests),
            ] {
                fractions(warnings, &at.child(key), list.as_ref(), &["storage"]);
            }
        }
    }
}

fn containers(warnings: &mut Vec<String>, path: &Path, spec: &PodSpec) {
    for (path, container) in visit::containers_with_path(spec, path) {
        let env = container.env();
        for (i, variable) in env.iter().enumerate() {
            if env[..i].iter().all(|v| v.name != variable.name) {
                continue;
            }
            // A later value that builds on the earlier one is meant so.
            let reference = format!("$({})", variable.name);
            let value = variable.value.text();
            let builds = value.contains(&reference) && value != reference;
            if variable.value_from.is_some() || !builds {
                let at = path.child("env").index(i);
                let name = &variable.name;
                warnings.push(format!(
                    "{at}: hides previous definition of \"{name}\", which may be dropped when using apply"
                ));
            }
        }
        if let Some(resources) = container.resources() {
            let at = path.child("resources");
            for (key, list) in [
                ("limits", &resources.limits),
                ("requests", &resources.requests),
            ] {
                let counted = ["memory", "ephemeral-storage"];
                fractions(warnings, &at.child(key), list.as_ref(), &counted);
            }
        }
    }
}

/// Fractions of bytes: nearly always a typing error for a larger unit.
fn fractions(
    warnings: &mut Vec<String>,
    path: &Path,
    list: Option<&BTreeMap<String, Amount>>,
    names: &[&str],
) {
    for (name, text) in list.into_iter().flatten() {
        let fraction = Quantity::of(text)
            .is_ok_and(|q| q.milli_value() != i64::MAX && q.milli_value() % 1000 != 0);
        if names.contains(&name.as_str()) && fraction {
            let at = path.key(name);
            let text = &text.0;
            warnings.push(format!(
                "{at}: fractional byte value \"{text}\" is invalid, must be an integer"
            ));
        }
    }
}

/// Ports of all containers are ports of one network: the same one twice serves nobody.
fn ports(warnings: &mut Vec<String>, path: &Path, spec: &PodSpec) {
    let all: Vec<(Path, &ContainerPort)> = visit::containers_with_path(spec, path)
        .flat_map(|(path, container)| {
            let ports = container.ports().iter().enumerate();
            ports
                .map(move |(i, port)| (path.child("ports").index(i), port))
                .collect::<Vec<_>>()
        })
        .collect();
    let host = |port: &ContainerPort| port.host_port.unwrap_or(0);
    for (i, (at, port)) in all.iter().enumerate() {
        if !port.host_ip.text().is_empty() && host(port) == 0 {
            warnings.push(format!(
                "{at}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{}}}",
                port.name.text(),
                port.container_port,
                port.protocol.text(),
                port.host_ip.text(),
            ));
        }
        for (other_at, other) in &all[..i] {
            if other.container_port != port.container_port || other.protocol != port.protocol {
                continue;
            }
            let (ip, other_ip) = (port.host_ip.text(), other.host_ip.text());
            let word = if ip == other_ip && host(port) == host(other) {
                "duplicate"
            } else if host(port) == 0 || host(other) == 0 {
                "overlapping"
            } else if host(port) == host(other) && ip.is_empty() != other_ip.is_empty() {
                "dangerously ambiguous"
            } else {
                continue;
            };
            warnings.push(format!("{at}: {word} port definition with {other_at}"));
        }
    }
    for (i, (at, port)) in all.iter().enumerate() {
        let name = port.name.text();
        let first = all[..i]
            .iter()
            .find(|(_, other)| !name.is_empty() && other.name.text() == name);
        if let Some((first, _)) = first {
            warnings.push(format!(
                "{at}: duplicate port name \"{name}\" with {first}, services and probes that select ports by name will \
                 use {first}"
            ));
        }
    }
}

/// A selector that is not there matches no pod, which is rarely meant.
fn selectors(warnings: &mut Vec<String>, path: &Path, spec: &PodSpec) {
    const NO_POD: &str = "a null labelSelector results in matching no pod";
    for (i, constraint) in spec.topology_spread_constraints.items().iter().enumerate() {
        if constraint.label_selector.is_none() {
            let at = path
                .child("topologySpreadConstraints")
                .index(i)
                .child("labelSelector");
            warnings.push(format!("{at}: {NO_POD}"));
        }
    }
    let Some(affinity) = &spec.affinity else {
        return;
    };
    let near = affinity.pod_affinity.as_ref().map(|a| {
        let required = a
            .required_during_scheduling_ignored_during_execution
            .items();
        (
            "podAffinity",
            required,
            a.preferred_during_scheduling_ignored_during_execution
                .items(),
        )
    });
    let far = affinity.pod_anti_affinity.as_ref().map(|a| {
        let required = a
            .required_during_scheduling_ignored_during_execution
            .items();
        (
            "podAntiAffinity",
            required,
            a.preferred_during_scheduling_ignored_during_execution
                .items(),
        )
    });
    for (key, required, preferred) in near.into_iter().chain(far) {
        let path = path.child("affinity").child(key);
        for (i, _) in required
            .iter()
            .enumerate()
            .filter(|(_, t)| t.label_selector.is_none())
        {
            let at = path
                .child("requiredDuringSchedulingIgnoredDuringExecution")
                .index(i);
            warnings.push(format!("{}: {NO_POD}", at.child("labelSelector")));
        }
        for (i, term) in preferred.iter().enumerate() {
            if term.pod_affinity_term.label_selector.is_none() {
                let at = path
                    .child("preferredDuringSchedulingIgnoredDuringExecution")
                    .index(i);
                let at = at.child("podAffinityTerm").child("labelSelector");
                warnings.push(format!("{at}: {NO_POD}"));
            }
        }
    }
}
