//! What is allowed in a pod and yet probably not what its writer wants.
//!
//! Upstream: `pkg/api/pod/warnings.go`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ContainerPort, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use machinery::Path;
use machinery::quantity::Quantity;

use super::overlaps;
use crate::core::persistentvolumeclaim;
use crate::core::pod::app_armor;
use crate::view::{Items, OrEmpty};
use crate::visit::{self, AnyContainer};
use crate::warn;

/// Annotations that do nothing any more.
const OLD_ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
const SECCOMP_OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// Who is warned, and about what.
struct About<'a> {
    spec: &'a PodSpec,
    path: Path,
    annotations: Option<&'a BTreeMap<String, String>>,
    annotations_path: Path,
    is_template: bool,
}

/// The warnings about a pod.
pub(crate) fn pod(spec: Option<&PodSpec>, metadata: &ObjectMeta) -> Vec<String> {
    let Some(spec) = spec else { return Vec::new() };
    About {
        spec,
        path: Path::new("spec"),
        annotations: metadata.annotations.as_ref(),
        annotations_path: Path::new("metadata").child("annotations"),
        is_template: false,
    }
    .warnings()
}

/// The warnings about the template at `path`.
pub(crate) fn template(
    spec: Option<&PodSpec>,
    metadata: Option<&ObjectMeta>,
    path: &Path,
) -> Vec<String> {
    let Some(spec) = spec else { return Vec::new() };
    About {
        spec,
        path: path.child("spec"),
        annotations: metadata.and_then(|metadata| metadata.annotations.as_ref()),
        annotations_path: path.child("metadata").child("annotations"),
        is_template: true,
    }
    .warnings()
}

impl About<'_> {
    fn annotation(&self, key: &str) -> Option<&String> {
        self.annotations?.get(key)
    }

    fn warnings(&self) -> Vec<String> {
        let (spec, path) = (self.spec, &self.path);
        let mut warnings = Vec::new();
        nodes(&mut warnings, path, spec);
        for (key, text) in OLD_ANNOTATIONS {
            if self.annotation(key).is_some() {
                let at = self.annotations_path.key(key);
                warnings.push(format!("{at}: {text}"));
            }
        }
        volumes(&mut warnings, path, spec);
        for volume in spec.volumes.items() {
            overlaps::volume(&mut warnings, volume);
        }
        twice(&mut warnings, path, spec);
        let overhead = path.child("overhead");
        for name in ["memory", "ephemeral-storage"] {
            fraction(&mut warnings, &overhead, spec.overhead.as_ref(), name);
        }
        let context = spec.security_context.as_ref();
        let profile = context.and_then(|context| context.seccomp_profile.as_ref());
        if profile.is_none() && self.annotation(SECCOMP_OF_POD).is_some() {
            self.no_seccomp(&mut warnings, SECCOMP_OF_POD);
        }
        for (path, container) in visit::containers_with_path(spec, path) {
            self.profiles(&mut warnings, container);
            resources(&mut warnings, &path, container);
            variables(&mut warnings, &path, container);
        }
        ports(&mut warnings, path, spec);
        if spec.termination_grace_period_seconds.is_some_and(|s| s < 0) {
            warnings.push(format!(
                "{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
            ));
        }
        selectors(&mut warnings, path, spec);
        let servers = spec.dns_config.as_ref().map(|dns| dns.nameservers.items());
        for (i, server) in servers.into_iter().flatten().enumerate() {
            let at = path.child("dnsConfig").child("nameservers").index(i);
            warn::ip(&mut warnings, &at, server);
        }
        for (i, alias) in spec.host_aliases.items().iter().enumerate() {
            let at = path.child("hostAliases").index(i).child("ip");
            warn::ip(&mut warnings, &at, &alias.ip);
        }
        warnings
    }

    fn no_seccomp(&self, warnings: &mut Vec<String>, key: &str) {
        let at = self.annotations_path.key(key);
        warnings.push(format!(
            "{at}: non-functional in v1.27+; use the \"seccompProfile\" field instead"
        ));
    }

    /// Profiles that are named by annotation instead of by field.
    fn profiles(&self, warnings: &mut Vec<String>, container: AnyContainer<'_>) {
        let context = container.security_context();
        let key = format!("{SECCOMP_OF_CONTAINER}{}", container.name());
        let profile = context.and_then(|context| context.seccomp_profile.as_ref());
        if profile.is_none() && self.annotation(&key).is_some() {
            self.no_seccomp(warnings, &key);
        }
        let profile = context.and_then(|context| context.app_armor_profile.as_ref());
        if !self.is_template || profile.is_some() {
            return; // Annotations of pods become fields, which is warned of there.
        }
        let key = format!("{}{}", app_armor::PREFIX, container.name());
        let Some(annotation) = self.annotation(&key) else {
            return;
        };
        let of_pod = self.spec.security_context.as_ref();
        let of_pod = of_pod.and_then(|context| context.app_armor_profile.as_ref());
        let of_pod = of_pod.and_then(|profile| serde_json::to_value(profile).ok());
        if of_pod.is_none() || of_pod != app_armor::profile(annotation) {
            let at = self.annotations_path.key(&key);
            warnings.push(format!(
                "{at}: deprecated since v1.30; use the \"appArmorProfile\" field instead"
            ));
        }
    }
}

const NO_POD: &str = "a null labelSelector results in matching no pod";

/// Labels of nodes with a successor, and spreading without a selector.
fn nodes(warnings: &mut Vec<String>, path: &Path, spec: &PodSpec) {
    for key in spec.node_selector.iter().flatten().map(|(key, _)| key) {
        if let Some(text) = warn::node_label(key) {
            let path = path.child("nodeSelector").key(key);
            warnings.push(format!("{path}: {text}"));
        }
    }
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref());
    if let Some(affinity) = affinity {
        let path = path.child("affinity").child("nodeAffinity");
        let required = &affinity.required_during_scheduling_ignored_during_execution;
        let terms = path
            .child("requiredDuringSchedulingIgnoredDuringExecution")
            .child("nodeSelectorTerms");
        let required = required.iter().flat_map(|r| &r.node_selector_terms);
        for (i, term) in required.enumerate() {
            warn::node_selector_term(warnings, term, false, &terms.index(i));
        }
        let preferred = &affinity.preferred_during_scheduling_ignored_during_execution;
        let terms = path.child("preferredDuringSchedulingIgnoredDuringExecution");
        for (i, term) in preferred.items().iter().enumerate() {
            let at = terms.index(i).child("preference");
            warn::node_selector_term(warnings, &term.preference, true, &at);
        }
    }
    let constraints = spec.topology_spread_constraints.items().iter();
    for (i, constraint) in constraints.enumerate() {
        let at = path.child("topologySpreadConstraints").index(i);
        let key = &constraint.topology_key;
        if let Some(text) = warn::node_label(key) {
            warnings.push(format!("{}: {key} is {text}", at.child("topologyKey")));
        }
        if constraint.label_selector.is_none() {
            warnings.push(format!("{}: {NO_POD}", at.child("labelSelector")));
        }
    }
}

/// What a list holds twice.
fn twice(warnings: &mut Vec<String>, path: &Path, spec: &PodSpec) {
    let mut seen = BTreeSet::new();
    for (i, alias) in spec.host_aliases.items().iter().enumerate() {
        if !seen.insert(&alias.ip) {
            let path = path.child("hostAliases").index(i).child("ip");
            warnings.push(format!("{path}: duplicate ip \"{}\"", alias.ip));
        }
    }
    let path = path.child("imagePullSecrets");
    let secrets = spec.image_pull_secrets.items();
    let mut seen = BTreeSet::new();
    for (i, secret) in secrets.iter().enumerate() {
        if !seen.insert(&secret.name) {
            let path = path.index(i).child("name");
            warnings.push(format!("{path}: duplicate name \"{}\"", secret.name));
        }
    }
    for (i, _) in secrets
        .iter()
        .enumerate()
        .filter(|(_, s)| s.name.is_empty())
    {
        let path = path.index(i).child("name");
        warnings.push(format!("{path}: invalid empty name \"\""));
    }
}

fn volumes(warnings: &mut Vec<String>, path: &Path, spec: &PodSpec) {
    for (i, volume) in spec.volumes.items().iter().enumerate() {
        let path = path.child("volumes").index(i);
        for (there, key, text) in [
            (
                volume.photon_persistent_disk.is_some(),
                "photonPersistentDisk",
                "v1.11, non-functional in v1.16+",
            ),
            (
                volume.git_repo.is_some(),
                "gitRepo",
                "v1.11, and disabled by default in v1.33+",
            ),
            (
                volume.scale_io.is_some(),
                "scaleIO",
                "v1.16, non-functional in v1.22+",
            ),
            (
                volume.flocker.is_some(),
                "flocker",
                "v1.22, non-functional in v1.25+",
            ),
            (
                volume.storageos.is_some(),
                "storageOS",
                "v1.22, non-functional in v1.25+",
            ),
            (
                volume.quobyte.is_some(),
                "quobyte",
                "v1.22, non-functional in v1.25+",
            ),
            (
                volume.glusterfs.is_some(),
                "glusterfs",
                "v1.25, non-functional in v1.26+",
            ),
            (
                volume.cephfs.is_some(),
                "cephfs",
                "v1.28, non-functional in v1.31+",
            ),
            (
                volume.rbd.is_some(),
                "rbd",
                "v1.28, non-functional in v1.31+",
            ),
        ] {
            if there {
                warnings.push(format!("{path}.{key}: deprecated in {text}"));
            }
        }
        let claim = volume.ephemeral.as_ref();
        let claim = claim.and_then(|e| e.volume_claim_template.as_ref());
        if let Some(claim) = claim {
            let template = path.child("ephemeral").child("volumeClaimTemplate");
            let at = template.child("spec");
            persistentvolumeclaim::spec_warnings(warnings, Some(&claim.spec), &at);
        }
    }
}

/// Variables that hide an earlier one of their name.
fn variables(warnings: &mut Vec<String>, path: &Path, container: AnyContainer<'_>) {
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
}

fn resources(warnings: &mut Vec<String>, path: &Path, container: AnyContainer<'_>) {
    let Some(resources) = container.resources() else {
        return;
    };
    let at = path.child("resources");
    for name in ["memory", "ephemeral-storage"] {
        for (key, list) in [
            ("limits", &resources.limits),
            ("requests", &resources.requests),
        ] {
            fraction(warnings, &at.child(key), list.as_ref(), name);
        }
    }
}

/// A fraction of a byte: nearly always a typing error for a larger unit.
pub(crate) fn fraction(
    warnings: &mut Vec<String>,
    path: &Path,
    list: Option<&BTreeMap<String, Amount>>,
    name: &str,
) {
    let Some(text) = list.and_then(|list| list.get(name)) else {
        return;
    };
    let is_fraction = Quantity::of(text)
        .is_ok_and(|q| q.milli_value() != i64::MAX && q.milli_value() % 1000 != 0);
    if is_fraction {
        let at = path.key(name);
        let text = &text.0;
        warnings.push(format!(
            "{at}: fractional byte value \"{text}\" is invalid, must be an integer"
        ));
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
