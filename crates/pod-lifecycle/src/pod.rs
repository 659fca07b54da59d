//! Short ways to the parts of a pod that every decision needs.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The name of the pod, empty if the object has none.
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The namespace of the pod.
pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

/// The UID of the pod.
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// `name_namespace(uid)`, the way messages name a pod.
pub fn describe(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

/// The spec of the pod; a pod without one has the empty spec.
pub fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&EMPTY)
}

/// True once somebody asked for the pod to be deleted.
pub fn is_deleting(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// True when the pod uses the network of the node.
pub fn is_host_network(pod: &Pod) -> bool {
    spec(pod).host_network.unwrap_or(false)
}

/// True when the API says that the pod will never run again.
pub fn is_terminal(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The restart policy, `Always` if unset.
pub fn restart_policy(pod: &Pod) -> &str {
    spec(pod).restart_policy.as_deref().unwrap_or("Always")
}

/// An init container that keeps running beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The init containers in order.
pub fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

/// The ephemeral containers in order.
pub fn ephemeral_containers(pod: &Pod) -> &[EphemeralContainer] {
    spec(pod)
        .ephemeral_containers
        .as_deref()
        .unwrap_or_default()
}

/// Init and ordinary containers, in this order.
pub fn lasting_containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    init_containers(pod).iter().chain(&spec(pod).containers)
}

/// The container of that name: ordinary, init or (made into a plain one) ephemeral.
pub fn find_container(pod: &Pod, name: &str) -> Option<Container> {
    lasting_containers(pod)
        .find(|c| c.name == name)
        .cloned()
        .or_else(|| {
            let ephemeral = ephemeral_containers(pod).iter().find(|c| c.name == name)?;
            Some(plain(ephemeral))
        })
}

/// An ephemeral container as the plain container that runs.
pub fn plain(e: &EphemeralContainer) -> Container {
    let e = e.clone();
    Container {
        args: e.args,
        command: e.command,
        env: e.env,
        env_from: e.env_from,
        image: e.image,
        image_pull_policy: e.image_pull_policy,
        lifecycle: e.lifecycle,
        liveness_probe: e.liveness_probe,
        name: e.name,
        ports: e.ports,
        readiness_probe: e.readiness_probe,
        resize_policy: e.resize_policy,
        resources: e.resources,
        restart_policy: e.restart_policy,
        restart_policy_rules: e.restart_policy_rules,
        security_context: e.security_context,
        startup_probe: e.startup_probe,
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path,
        termination_message_policy: e.termination_message_policy,
        tty: e.tty,
        volume_devices: e.volume_devices,
        volume_mounts: e.volume_mounts,
        working_dir: e.working_dir,
    }
}

/// Seconds that the containers get to stop: what the deletion asks for, else what the spec says.
pub fn termination_grace_seconds(pod: &Pod) -> i64 {
    pod.metadata
        .deletion_grace_period_seconds
        .or(spec(pod).termination_grace_period_seconds)
        .unwrap_or(2)
}

/// A point in time as the API writes it: whole seconds.
pub fn api_time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// The later point in time, `seconds` after `at`.
pub fn after(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(jiff::SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

/// Seconds from `from` until `until`, begun ones counted; zero if that is in the past.
pub fn seconds_between(from: Timestamp, until: Timestamp) -> i64 {
    let between = until.duration_since(from);
    let begun = i64::from(between.subsec_nanos() > 0);
    (between.as_secs() + begun).max(0)
}

/// The hash that tells whether a running container still is the one the spec asks for: name and image only.
pub fn container_hash(container: &Container) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let image = container.image.as_deref().unwrap_or_default();
    for byte in container.name.bytes().chain([0]).chain(image.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{hash:x}")
}
