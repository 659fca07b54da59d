//! What a pod says when it says nothing. [`pod_spec`] holds for pods and templates alike, [`pod`] for pods alone.
//!
//! Upstream: `SetDefaults_Pod*` and `SetDefaults_Container` in `pkg/apis/core/v1/defaults.go`, `zz_generated.defaults.go`.

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, EphemeralContainer, GRPCAction, HTTPGetAction, Lifecycle,
    Pod, PodIP, PodSpec, PodStatus, PodTemplateSpec, Probe, ResourceRequirements, Volume,
    VolumeProjection,
};

use crate::core::resources;
use crate::view::{OrEmpty, fill, fill_with};

/// Defaults of a pod.
pub fn pod(pod: &mut Pod) {
    let spec = pod.spec.get_or_insert_default();
    if spec.termination_grace_period_seconds.is_some_and(|s| s < 0) {
        spec.termination_grace_period_seconds = Some(1);
    }
    pod_spec(spec);
    for container in spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten())
    {
        if let Some(requirements) = &mut container.resources {
            requests_from_limits(requirements);
        }
        if spec.host_network == Some(true) {
            for port in container.ports.iter_mut().flatten() {
                if port.host_port.unwrap_or(0) == 0 {
                    port.host_port = Some(port.container_port);
                }
            }
        }
    }
    fill_with(&mut spec.enable_service_links, true);
    if let Some(status) = pod.status.as_mut() {
        pod_ips(status);
    }
}

/// Keeps `podIP` and `podIPs` together; the single field wins.
fn pod_ips(status: &mut PodStatus) {
    let first = status
        .pod_ips
        .iter()
        .flatten()
        .next()
        .map(|ip| ip.ip.clone());
    match (status.pod_ip.text(), first) {
        ("", Some(first)) => status.pod_ip = Some(first),
        ("", None) => {}
        (ip, first) if first.as_deref() != Some(ip) => {
            status.pod_ips = Some(vec![PodIP { ip: ip.to_owned() }]);
        }
        _ => {}
    }
}

fn requests_from_limits(requirements: &mut ResourceRequirements) {
    let Some(limits) = &requirements.limits else {
        return;
    };
    let requests = requirements.requests.get_or_insert_default();
    for (name, amount) in limits {
        requests
            .entry(name.clone())
            .or_insert_with(|| amount.clone());
    }
}

/// Defaults of the template of a controller.
pub fn template(template: &mut PodTemplateSpec) {
    pod_spec(template.spec.get_or_insert_default());
}

/// Defaults that pods and templates share.
pub fn pod_spec(spec: &mut PodSpec) {
    if spec.service_account_name.text().is_empty() {
        spec.service_account_name.clone_from(&spec.service_account);
    }
    // The old name of the field is kept in step with the new one.
    spec.service_account.clone_from(&spec.service_account_name);
    fill(&mut spec.dns_policy, "ClusterFirst");
    fill(&mut spec.restart_policy, "Always");
    fill_with(&mut spec.security_context, Default::default());
    fill_with(&mut spec.termination_grace_period_seconds, 30);
    fill(&mut spec.scheduler_name, "default-scheduler");
    resources::canonical(spec.overhead.as_mut());
    requirements(spec.resources.as_mut());
    for volume in spec.volumes.iter_mut().flatten() {
        self::volume(volume);
    }
    for container in spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten())
    {
        self::container(container);
    }
    for container in spec.ephemeral_containers.iter_mut().flatten() {
        ephemeral(container);
    }
}

fn requirements(requirements: Option<&mut ResourceRequirements>) {
    let Some(requirements) = requirements else {
        return;
    };
    resources::canonical(requirements.limits.as_mut());
    resources::canonical(requirements.requests.as_mut());
}

/// `Always` for the tag `latest` (or none), `IfNotPresent` otherwise, and for what is no name of an image.
pub fn pull_policy(image: &str) -> &'static str {
    let name = image.split('@').next().unwrap_or("");
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    let (repository, tag) = match name[start..].split_once(':') {
        Some((last, tag)) => (&name[..start + last.len()], Some(tag)),
        None => (name, None),
    };
    let digested = name.len() < image.len();
    let latest = tag.map_or(!digested, |tag| tag == "latest");
    if latest && is_repository(repository) {
        "Always"
    } else {
        "IfNotPresent"
    }
}

/// Lowercase path components after an optional registry.
fn is_repository(name: &str) -> bool {
    let registry = |first: &str| {
        first.contains(['.', ':'])
            || first == "localhost"
            || first.contains(|c: char| c.is_ascii_uppercase())
    };
    let path = match name.split_once('/') {
        Some((first, rest)) if registry(first) => rest,
        _ => name,
    };
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let component = |text: &str| {
        text.starts_with(word)
            && text.ends_with(word)
            && text.split(word).all(|separator| {
                matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
            })
    };
    path.split('/').all(component)
}

/// The two container types have the same fields but no common type.
macro_rules! common {
    ($container:expr) => {
        let c = $container;
        let policy = pull_policy(c.image.text());
        fill(&mut c.image_pull_policy, policy);
        fill(&mut c.termination_message_path, "/dev/termination-log");
        fill(&mut c.termination_message_policy, "File");
        c.ports.iter_mut().flatten().for_each(port);
        c.env.iter_mut().flatten().for_each(env);
        // As upstream: a container always says what it needs, be it nothing.
        requirements(Some(c.resources.get_or_insert_default()));
        let probes = [
            &mut c.liveness_probe,
            &mut c.readiness_probe,
            &mut c.startup_probe,
        ];
        probes.into_iter().flatten().for_each(probe);
        c.lifecycle.iter_mut().for_each(lifecycle);
    };
}

fn container(container: &mut Container) {
    common!(container);
}

fn ephemeral(container: &mut EphemeralContainer) {
    common!(container);
}

fn port(port: &mut ContainerPort) {
    fill(&mut port.protocol, "TCP");
}

fn env(env: &mut EnvVar) {
    let Some(from) = &mut env.value_from else {
        return;
    };
    if let Some(field) = &mut from.field_ref {
        fill(&mut field.api_version, "v1");
    }
    if let Some(field) = &mut from.resource_field_ref {
        // A divisor always shows, as the zero quantity when it was not given.
        resources::canonical_text(field.divisor.get_or_insert_with(zero));
    }
    if let Some(file) = &mut from.file_key_ref {
        fill_with(&mut file.optional, false);
    }
}

fn zero() -> k8s_openapi::apimachinery::pkg::api::resource::Quantity {
    k8s_openapi::apimachinery::pkg::api::resource::Quantity("0".into())
}

fn probe(probe: &mut Probe) {
    let numbers = [
        (&mut probe.timeout_seconds, 1),
        (&mut probe.period_seconds, 10),
        (&mut probe.success_threshold, 1),
        (&mut probe.failure_threshold, 3),
    ];
    for (slot, default) in numbers {
        if slot.unwrap_or(0) == 0 {
            *slot = Some(default);
        }
    }
    probe.http_get.iter_mut().for_each(http_get);
    probe.grpc.iter_mut().for_each(grpc);
}

fn grpc(action: &mut GRPCAction) {
    fill_with(&mut action.service, String::new());
}

fn http_get(action: &mut HTTPGetAction) {
    fill(&mut action.path, "/");
    fill(&mut action.scheme, "HTTP");
}

fn lifecycle(lifecycle: &mut Lifecycle) {
    for handler in [&mut lifecycle.post_start, &mut lifecycle.pre_stop]
        .into_iter()
        .flatten()
    {
        handler.http_get.iter_mut().for_each(http_get);
    }
}

/// A volume without any source is an `emptyDir`; modes and types are filled in.
fn volume(volume: &mut Volume) {
    if crate::visit::volume_sources(volume).is_empty() {
        volume.empty_dir = Some(Default::default());
    }
    if let Some(limit) = volume
        .empty_dir
        .as_mut()
        .and_then(|e| e.size_limit.as_mut())
    {
        resources::canonical_text(limit);
    }
    if let Some(path) = &mut volume.host_path {
        fill_with(&mut path.type_, String::new());
    }
    if let Some(secret) = &mut volume.secret {
        fill_with(&mut secret.default_mode, 0o644);
    }
    if let Some(config_map) = &mut volume.config_map {
        fill_with(&mut config_map.default_mode, 0o644);
    }
    if let Some(downward) = &mut volume.downward_api {
        fill_with(&mut downward.default_mode, 0o644);
        downward.items.iter_mut().flatten().for_each(downward_item);
    }
    if let Some(projected) = &mut volume.projected {
        fill_with(&mut projected.default_mode, 0o644);
        projected.sources.iter_mut().flatten().for_each(projection);
    }
    if let Some(image) = &mut volume.image {
        let policy = pull_policy(image.reference.text());
        fill(&mut image.pull_policy, policy);
    }
    remote_volume(volume);
    let claim = volume
        .ephemeral
        .as_mut()
        .and_then(|e| e.volume_claim_template.as_mut());
    if let Some(claim) = claim {
        crate::core::persistentvolumeclaim::default_spec(&mut claim.spec);
    }
}

/// Sources that a driver of some storage system serves.
fn remote_volume(volume: &mut Volume) {
    if let Some(iscsi) = &mut volume.iscsi {
        fill(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(rbd) = &mut volume.rbd {
        fill(&mut rbd.pool, "rbd");
        fill(&mut rbd.user, "admin");
        fill(&mut rbd.keyring, "/etc/ceph/keyring");
    }
    if let Some(disk) = &mut volume.azure_disk {
        crate::core::persistentvolume::default_azure_disk(disk);
    }
    if let Some(scale_io) = &mut volume.scale_io {
        fill(&mut scale_io.storage_mode, "ThinProvisioned");
        fill(&mut scale_io.fs_type, "xfs");
    }
}

fn downward_item(item: &mut k8s_openapi::api::core::v1::DownwardAPIVolumeFile) {
    if let Some(field) = &mut item.field_ref {
        fill(&mut field.api_version, "v1");
    }
    if let Some(field) = &mut item.resource_field_ref {
        resources::canonical_text(field.divisor.get_or_insert_with(zero));
    }
}

fn projection(projection: &mut VolumeProjection) {
    if let Some(downward) = &mut projection.downward_api {
        downward.items.iter_mut().flatten().for_each(downward_item);
    }
    if let Some(token) = &mut projection.service_account_token {
        fill_with(&mut token.expiration_seconds, 3600);
    }
}
