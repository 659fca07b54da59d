//! The CRI configuration of sandboxes and containers, made of everything else in this crate.

use std::collections::{BTreeMap, HashMap};

use cri::v1::{
    ContainerConfig, ContainerMetadata, DnsConfig, ImageSpec, Int64Value, KeyValue,
    LinuxContainerConfig, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, Mount,
    PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol, SecurityProfile,
    security_profile::ProfileType,
};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::security::{self, ImageUser};
use crate::{dns, env, pod, qos, resources};

/// Labels and annotations by which sandboxes and containers are found again.
pub mod label {
    /// Name of the pod.
    pub const POD_NAME: &str = "io.kubernetes.pod.name";
    /// Namespace of the pod.
    pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    /// UID of the pod.
    pub const POD_UID: &str = "io.kubernetes.pod.uid";
    /// Name of the container in the pod.
    pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
    /// [`crate::pod::container_hash`].
    pub const HASH: &str = "io.kubernetes.container.hash";
    /// The restart count.
    pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
    /// Where the container leaves its last words.
    pub const TERMINATION_PATH: &str = "io.kubernetes.container.terminationMessagePath";
    /// Whether its log may stand for them.
    pub const TERMINATION_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
    /// The grace period of the pod.
    pub const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
    /// The file on the node that is mounted at the termination message path.
    pub const TERMINATION_FILE: &str = "io.oxikube.container.terminationFile";
}

/// Facts of the node that go into configurations.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where pod logs lie: `/var/log/pods`.
    pub log_root: String,
    /// Where seccomp profiles lie.
    pub seccomp_root: String,
    /// Addresses of the cluster DNS.
    pub cluster_dns: Vec<String>,
    /// The cluster's domain.
    pub cluster_domain: String,
    /// The node's own resolver configuration.
    pub host_dns: DnsConfig,
    /// Memory of the node.
    pub memory_bytes: i128,
}

/// Where the logs of a pod lie.
pub fn log_directory(node: &Node, pod: &Pod) -> String {
    format!(
        "{}/{}_{}_{}",
        node.log_root,
        pod::namespace(pod),
        pod::name(pod),
        pod::uid(pod)
    )
}

/// Where in [`log_directory`] the log of a container lies.
pub fn log_path(container: &str, attempt: u32) -> String {
    format!("{container}/{attempt}.log")
}

fn pod_labels(pod: &Pod) -> HashMap<String, String> {
    HashMap::from([
        (label::POD_NAME.to_owned(), pod::name(pod).to_owned()),
        (
            label::POD_NAMESPACE.to_owned(),
            pod::namespace(pod).to_owned(),
        ),
        (label::POD_UID.to_owned(), pod::uid(pod).to_owned()),
    ])
}

/// The configuration of a sandbox.
pub fn sandbox(pod: &Pod, attempt: u32, node: &Node) -> PodSandboxConfig {
    let own = pod.metadata.labels.iter().flatten();
    let mut labels: HashMap<_, _> = own.map(|(k, v)| (k.clone(), v.clone())).collect();
    labels.extend(pod_labels(pod));
    let annotations = pod.metadata.annotations.iter().flatten();
    let (host, domain) = dns::host_and_domain(pod, &node.cluster_domain);
    let qualified = pod::spec(pod).set_hostname_as_fqdn == Some(true) && !domain.is_empty();
    let hostname = match (pod::is_host_network(pod), qualified) {
        (true, _) => String::new(),
        (false, true) => format!("{host}.{domain}"),
        (false, false) => host,
    };
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: pod::name(pod).to_owned(),
            uid: pod::uid(pod).to_owned(),
            namespace: pod::namespace(pod).to_owned(),
            attempt,
        }),
        hostname,
        log_directory: log_directory(node, pod),
        dns_config: Some(dns::resolver(
            pod,
            &node.cluster_dns,
            &node.cluster_domain,
            &node.host_dns,
        )),
        port_mappings: port_mappings(pod),
        labels,
        annotations: annotations.map(|(k, v)| (k.clone(), v.clone())).collect(),
        linux: Some(linux_sandbox(pod)),
        windows: None,
    }
}

fn linux_sandbox(pod: &Pod) -> LinuxPodSandboxConfig {
    let shared = pod::spec(pod).security_context.as_ref();
    let int = |value: Option<i64>| value.map(|value| Int64Value { value });
    let privileged = pod::lasting_containers(pod)
        .any(|c| c.security_context.as_ref().and_then(|s| s.privileged) == Some(true));
    let sysctls = shared
        .and_then(|s| s.sysctls.as_ref())
        .into_iter()
        .flatten();
    LinuxPodSandboxConfig {
        cgroup_parent: qos::cgroup_parent(pod),
        security_context: Some(LinuxSandboxSecurityContext {
            namespace_options: Some(security::namespaces(pod, None)),
            selinux_options: shared
                .and_then(|s| s.se_linux_options.as_ref())
                .map(security::selinux),
            run_as_user: int(shared.and_then(|s| s.run_as_user)),
            run_as_group: int(shared.and_then(|s| s.run_as_group)),
            supplemental_groups: security::groups(shared),
            supplemental_groups_policy: security::groups_policy(shared).into(),
            privileged,
            seccomp: Some(SecurityProfile {
                profile_type: ProfileType::RuntimeDefault.into(),
                localhost_ref: String::new(),
            }),
            ..Default::default()
        }),
        sysctls: sysctls
            .map(|s| (s.name.replace('/', "."), s.value.clone()))
            .collect(),
        overhead: None,
        resources: Some(resources::of_pod(pod)),
    }
}

fn port_mappings(pod: &Pod) -> Vec<PortMapping> {
    let sidecars = pod::init_containers(pod)
        .iter()
        .filter(|c| pod::is_sidecar(c));
    let ports = pod::spec(pod).containers.iter().chain(sidecars);
    let ports = ports.flat_map(|c| c.ports.iter().flatten());
    ports
        .map(|p| PortMapping {
            protocol: match p.protocol.as_deref() {
                Some("UDP") => Protocol::Udp.into(),
                Some("SCTP") => Protocol::Sctp.into(),
                _ => Protocol::Tcp.into(),
            },
            container_port: p.container_port,
            host_port: p.host_port.unwrap_or(0),
            host_ip: p.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

/// What the configuration of one container needs besides its pod.
#[derive(Clone, Debug)]
pub struct ContainerInputs<'a> {
    /// Its restart count.
    pub attempt: u32,
    /// The image as it is on this node.
    pub image_ref: &'a str,
    /// The user its image wants.
    pub image_user: &'a ImageUser,
    /// Its environment.
    pub variables: Vec<KeyValue>,
    /// Its mounts.
    pub mounts: Vec<Mount>,
    /// The container whose process namespace it enters.
    pub target_id: Option<&'a str>,
    /// The file on the node that takes its last words.
    pub termination_file: Option<&'a str>,
}

/// The configuration of a container, or why it cannot be made (`CreateContainerConfigError`).
pub fn container(
    pod: &Pod,
    container: &Container,
    node: &Node,
    inputs: ContainerInputs<'_>,
) -> Result<ContainerConfig, String> {
    security::check_non_root(pod, container, inputs.image_user)?;
    let security_context = security::of_container(
        pod,
        container,
        inputs.image_user,
        inputs.target_id,
        &node.seccomp_root,
    )?;
    let mut labels = pod_labels(pod);
    labels.insert(label::CONTAINER_NAME.to_owned(), container.name.clone());
    let image = ImageSpec {
        image: inputs.image_ref.to_owned(),
        user_specified_image: container.image.clone().unwrap_or_default(),
        ..Default::default()
    };
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: container.name.clone(),
            attempt: inputs.attempt,
        }),
        image: Some(image),
        command: env::expand_all(container.command.as_ref(), &inputs.variables),
        args: env::expand_all(container.args.as_ref(), &inputs.variables),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        labels,
        annotations: annotations(pod, container, &inputs),
        log_path: log_path(&container.name, inputs.attempt),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(LinuxContainerConfig {
            resources: Some(resources::of_container(pod, container, node.memory_bytes)),
            security_context: Some(security_context),
        }),
        envs: inputs.variables,
        mounts: inputs.mounts,
        ..Default::default()
    })
}

fn annotations(
    pod: &Pod,
    container: &Container,
    inputs: &ContainerInputs<'_>,
) -> HashMap<String, String> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let mut map = BTreeMap::from([
        (label::HASH, pod::container_hash(container)),
        (label::RESTART_COUNT, inputs.attempt.to_string()),
        (
            label::TERMINATION_PATH,
            text(&container.termination_message_path),
        ),
        (
            label::TERMINATION_POLICY,
            text(&container.termination_message_policy),
        ),
    ]);
    if let Some(seconds) = pod::spec(pod).termination_grace_period_seconds {
        map.insert(label::GRACE, seconds.to_string());
    }
    if let Some(file) = inputs.termination_file {
        map.insert(label::TERMINATION_FILE, file.to_owned());
    }
    map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}
