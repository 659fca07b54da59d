//! Containers of all three types: what they share, and what each may not have.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ContainerResizePolicy, ContainerRestartRule, VolumeMount,
};
use machinery::{ErrorList, Path, names};
use serde_json::Value;

use super::{Scope, env, handlers, local_descending_path, requirements, security};
use crate::check::{self, ErrorListExt};
use crate::view::{Items, OrEmpty, Yes};

const ONLY_SIDECARS: &str = "may not be set for init containers without restartPolicy=Always";
const NOT_EPHEMERAL: &str = "cannot be set for an Ephemeral Container";
const RULES_NEED_POLICY: &str = "must specify restartPolicy when restart rules are used";

pub(super) fn regular(errors: &mut ErrorList, path: &Path, scope: &Scope<'_>) {
    let containers = &scope.spec.containers;
    if containers.is_empty() {
        return errors.required(path, "");
    }
    let mut seen = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        let at = path.index(i);
        common(errors, &at, container, scope);
        if !seen.insert(&container.name) {
            errors.duplicate(&at.child("name"), container.name.as_str());
        }
        handlers::of(errors, &at, container, scope);
        restart_policy(errors, &at, container);
    }
    host_port_conflicts(errors, path, containers);
}

pub(super) fn init(errors: &mut ErrorList, path: &Path, scope: &Scope<'_>) {
    let mut seen: BTreeSet<&String> = scope.spec.containers.iter().map(|c| &c.name).collect();
    for (i, container) in scope.spec.init_containers.items().iter().enumerate() {
        let at = path.index(i);
        common(errors, &at, container, scope);
        restart_policy(errors, &at, container);
        if !seen.insert(&container.name) && !container.name.is_empty() {
            errors.duplicate(&at.child("name"), container.name.as_str());
        }
        host_port_conflicts(errors, path, std::slice::from_ref(container));
        if container.restart_policy.text() == "Always" {
            handlers::of(errors, &at, container, scope);
            continue;
        }
        let unwanted = [
            ("lifecycle", container.lifecycle.is_some()),
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
        ];
        for (key, _) in unwanted.into_iter().filter(|(_, set)| *set) {
            errors.forbidden(&at.child(key), ONLY_SIDECARS);
        }
        for (j, policy) in container.resize_policy.items().iter().enumerate() {
            if policy.restart_policy == "RestartContainer" {
                let at = at.child("resizePolicy").index(j).child("restartPolicy");
                let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                errors.invalid(&at, "RestartContainer", detail);
            }
        }
    }
}

pub(super) fn ephemeral(errors: &mut ErrorList, path: &Path, scope: &Scope<'_>) {
    let spec = scope.spec;
    let others = spec
        .containers
        .iter()
        .chain(spec.init_containers.items())
        .map(|c| &c.name);
    let others: BTreeSet<&String> = others.collect();
    let mut seen = others.clone();
    for (i, container) in spec.ephemeral_containers.items().iter().enumerate() {
        let at = path.index(i);
        let common_part = crate::visit::as_container(container);
        common(errors, &at, &common_part, scope);
        only_for_pods(errors, &at, &common_part);
        if !seen.insert(&container.name) {
            errors.duplicate(&at.child("name"), container.name.as_str());
        }
        let target = container.target_container_name.text();
        if !target.is_empty() && !others.contains(&target.to_owned()) {
            errors.not_found(&at.child("targetContainerName"), target);
        }
        let unwanted = [
            ("ports", !container.ports.items().is_empty()),
            (
                "resources",
                container
                    .resources
                    .as_ref()
                    .is_some_and(|r| *r != Default::default()),
            ),
            ("resizePolicy", !container.resize_policy.items().is_empty()),
            ("restartPolicy", container.restart_policy.is_some()),
            (
                "restartPolicyRules",
                !container.restart_policy_rules.items().is_empty(),
            ),
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
            ("lifecycle", container.lifecycle.is_some()),
        ];
        for (key, _) in unwanted.into_iter().filter(|(_, set)| *set) {
            errors.forbidden(&at.child(key), NOT_EPHEMERAL);
        }
        for (j, mount) in container.volume_mounts.items().iter().enumerate() {
            let at = at.child("volumeMounts").index(j);
            if !mount.sub_path.text().is_empty() {
                errors.forbidden(&at.child("subPath"), NOT_EPHEMERAL);
            }
            if !mount.sub_path_expr.text().is_empty() {
                errors.forbidden(&at.child("subPathExpr"), NOT_EPHEMERAL);
            }
        }
    }
}

fn common(errors: &mut ErrorList, path: &Path, container: &Container, scope: &Scope<'_>) {
    let name = container.name.as_str();
    if errors.required_text(&path.child("name"), name, "") {
        errors.invalid_each(&path.child("name"), name, names::dns1123_label(name));
    }
    errors.required_text(&path.child("image"), container.image.text(), "");
    let policy = container.termination_message_policy.text();
    let at = path.child("terminationMessagePolicy");
    if errors.required_text(&at, policy, "") {
        errors.one_of(&at, policy, &["File", "FallbackToLogsOnError"]);
    }
    ports(errors, &path.child("ports"), container.ports.items());
    env::variables(errors, &path.child("env"), container.env.items());
    env::from(errors, &path.child("envFrom"), container.env_from.items());
    mounts(errors, &path.child("volumeMounts"), container, scope);
    devices(errors, &path.child("volumeDevices"), container, scope);
    let at = path.child("imagePullPolicy");
    let policy = container.image_pull_policy.text();
    if errors.required_text(&at, policy, "") {
        errors.one_of(&at, policy, &["Always", "IfNotPresent", "Never"]);
    }
    let empty = Default::default();
    let resources = container.resources.as_ref().unwrap_or(&empty);
    requirements::of_container(errors, &path.child("resources"), resources, scope.spec);
    let at = path.child("resizePolicy");
    resize_policy(errors, &at, container.resize_policy.items(), scope);
    security::container_context(errors, &path.child("securityContext"), container, scope);
}

fn ports(errors: &mut ErrorList, path: &Path, ports: &[ContainerPort]) {
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        let name = port.name.text();
        if !name.is_empty() {
            let messages = names::port_name(name);
            if messages.is_empty() && !seen.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
            errors.invalid_each(&path.child("name"), name, messages);
        }
        if port.container_port == 0 {
            errors.required(&path.child("containerPort"), "");
        } else {
            check::port(errors, &path.child("containerPort"), port.container_port);
        }
        if let Some(host) = port.host_port.filter(|p| *p != 0) {
            check::port(errors, &path.child("hostPort"), host);
        }
        let protocol = port.protocol.text();
        if errors.required_text(&path.child("protocol"), protocol, "") {
            errors.one_of(&path.child("protocol"), protocol, &["SCTP", "TCP", "UDP"]);
        }
    }
}

fn host_port_conflicts(errors: &mut ErrorList, path: &Path, containers: &[Container]) {
    let mut seen = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in container.ports.items().iter().enumerate() {
            let Some(host) = port.host_port.filter(|p| *p != 0) else {
                continue;
            };
            let key = format!("{}/{}/{host}", port.protocol.text(), port.host_ip.text());
            if !seen.insert(key.clone()) {
                errors.duplicate(
                    &path.index(i).child("ports").index(j).child("hostPort"),
                    key,
                );
            }
        }
    }
}

fn mounts(errors: &mut ErrorList, path: &Path, container: &Container, scope: &Scope<'_>) {
    let devices = container.volume_devices.items();
    let mut points = BTreeSet::new();
    for (i, mount) in container.volume_mounts.items().iter().enumerate() {
        let at = path.index(i);
        let (name, point) = (mount.name.as_str(), mount.mount_path.as_str());
        errors.required_text(&at.child("name"), name, "");
        if !scope.volumes.iter().any(|v| v.name == name) {
            errors.not_found(&at.child("name"), name);
        }
        errors.required_text(&at.child("mountPath"), point, "");
        if !points.insert(point) {
            errors.invalid(&at.child("mountPath"), point, "must be unique");
        }
        if devices.iter().any(|d| d.name == name) {
            errors.invalid(
                &at.child("name"),
                name,
                "must not already exist in volumeDevices",
            );
        }
        if devices.iter().any(|d| d.device_path == point) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.invalid(&at.child("mountPath"), point, detail);
        }
        sub_paths(errors, path, &at, mount);
        // The paths of these three lack the index upstream too.
        propagation(errors, &path.child("mountPropagation"), mount, container);
        recursive_read_only(errors, &path.child("recursiveReadOnly"), mount);
        bind_options(errors, &at.child("bindMountOptions"), mount, scope);
    }
}

fn bind_options(errors: &mut ErrorList, path: &Path, mount: &VolumeMount, scope: &Scope<'_>) {
    let options = mount.bind_mount_options.items();
    for (i, option) in options.iter().enumerate() {
        errors.one_of(&path.index(i), option, &["nodev", "noexec", "nosuid"]);
        if options[..i].contains(option) {
            errors.duplicate(&path.index(i), option.as_str());
        }
    }
    let image = |v: &&k8s_openapi::api::core::v1::Volume| v.name == mount.name && v.image.is_some();
    if !options.is_empty() && scope.volumes.iter().any(image) {
        let detail = "bindMountOptions may not be used with image volumes";
        errors.invalid(path, options.to_vec(), detail);
    }
}

fn sub_paths(errors: &mut ErrorList, path: &Path, at: &Path, mount: &VolumeMount) {
    let (sub, expression) = (mount.sub_path.text(), mount.sub_path_expr.text());
    if !sub.is_empty() {
        local_descending_path(errors, &path.child("subPath"), sub);
    }
    if !expression.is_empty() {
        if !sub.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.invalid(&at.child("subPathExpr"), expression, detail);
        }
        local_descending_path(errors, &path.child("subPathExpr"), expression);
    }
}

fn propagation(errors: &mut ErrorList, path: &Path, mount: &VolumeMount, container: &Container) {
    let Some(mode) = &mount.mount_propagation else {
        return;
    };
    let privileged = container
        .security_context
        .as_ref()
        .is_some_and(|s| s.privileged.yes());
    errors.one_of(path, mode, &["Bidirectional", "HostToContainer", "None"]);
    if mode == "Bidirectional" && !privileged {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        errors.forbidden(path, detail);
    }
}

fn recursive_read_only(errors: &mut ErrorList, path: &Path, mount: &VolumeMount) {
    let Some(mode) = &mount.recursive_read_only else {
        return;
    };
    match mode.as_str() {
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.read_only.yes() {
                let detail = "may only be specified when readOnly is true";
                errors.forbidden(path, detail);
            }
            if !matches!(mount.mount_propagation.text(), "" | "None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.forbidden(path, detail);
            }
        }
        other => errors.not_supported(path, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}

fn devices(errors: &mut ErrorList, path: &Path, container: &Container, scope: &Scope<'_>) {
    let mounts = container.volume_mounts.items();
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for (i, device) in container.volume_devices.items().iter().enumerate() {
        let at = path.index(i);
        let (name, point) = (device.name.as_str(), device.device_path.as_str());
        errors.required_text(&at.child("name"), name, "");
        if !name.is_empty() && !names.insert(name) {
            errors.invalid(&at.child("name"), name, "must be unique");
        }
        let volume = scope.volumes.iter().find(|v| v.name == name);
        match volume {
            Some(v) if v.persistent_volume_claim.is_none() && v.ephemeral.is_none() => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&at.child("name"), name, detail);
            }
            Some(_) => {}
            None => errors.not_found(&at.child("name"), name),
        }
        errors.required_text(&at.child("devicePath"), point, "");
        if !paths.insert(point) {
            errors.invalid(&at.child("devicePath"), point, "must be unique");
        }
        if point.split('/').any(|part| part == "..") {
            errors.invalid(
                &at.child("devicePath"),
                point,
                "can not contain backsteps ('..')",
            );
        }
        if mounts.iter().any(|m| m.name == name) {
            errors.invalid(
                &at.child("name"),
                name,
                "must not already exist in volumeMounts",
            );
        }
        if mounts.iter().any(|m| m.mount_path == point) {
            let detail = "must not already exist as a path in volumeMounts";
            errors.invalid(&at.child("devicePath"), point, detail);
        }
    }
}

fn resize_policy(
    errors: &mut ErrorList,
    path: &Path,
    policies: &[ContainerResizePolicy],
    scope: &Scope<'_>,
) {
    let mut seen = BTreeSet::new();
    for (i, policy) in policies.iter().enumerate() {
        if !seen.insert(&policy.resource_name) {
            errors.duplicate(&path.index(i), policy.resource_name.as_str());
        }
        if errors.required_text(path, &policy.resource_name, "") {
            errors.one_of(path, &policy.resource_name, &["cpu", "memory"]);
        }
        let restart = policy.restart_policy.as_str();
        let is_empty = policy.resource_name.is_empty() && restart.is_empty();
        // The same is said once.
        if !is_empty && errors.required_text(path, restart, "") {
            errors.one_of(path, restart, &["NotRequired", "RestartContainer"]);
        }
        if scope.spec.restart_policy.text() == "Never" && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.invalid(path, restart, detail);
        }
    }
}

/// A container's own restart policy and its rules by exit code.
fn restart_policy(errors: &mut ErrorList, path: &Path, container: &Container) {
    let rules = container.restart_policy_rules.items();
    let at = path.child("restartPolicy");
    match &container.restart_policy {
        None if rules.is_empty() => return,
        None => errors.required(&at, RULES_NEED_POLICY),
        Some(policy) => errors.one_of(&at, policy, &["Always", "Never", "OnFailure"]),
    }
    let at = path.child("restartPolicyRules");
    if rules.len() > 20 {
        errors.too_many(&at, rules.len(), 20);
    }
    for (i, rule) in rules.iter().enumerate() {
        restart_rule(errors, &at.index(i), rule);
    }
}

fn restart_rule(errors: &mut ErrorList, path: &Path, rule: &ContainerRestartRule) {
    errors.one_of(
        &path.child("action"),
        &rule.action,
        &["Restart", "RestartAllContainers"],
    );
    let at = path.child("exitCodes");
    let Some(codes) = &rule.exit_codes else {
        return errors.required(&at, "must be specified");
    };
    errors.one_of(&at.child("operator"), &codes.operator, &["In", "NotIn"]);
    let count = codes.values.items().len();
    if count > 255 {
        errors.too_many(&at.child("values"), count, 255);
    }
}

/// What is asked of the containers of pods and not of those of templates.
pub(super) fn only_for_pods(errors: &mut ErrorList, path: &Path, container: &Container) {
    let image = container.image.text();
    if image.trim().len() != image.len() {
        let detail = "must not have leading or trailing whitespace";
        errors.invalid(&path.child("image"), Value::from(image), detail);
    }
}
