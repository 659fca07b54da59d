//! Everything that can be wrong with a pod or with the template of one.
//!
//! Upstream: `ValidatePodSpec` and what it calls in `pkg/apis/core/validation/validation.go`, with the gates of v1.37.

mod container;
mod env;
mod handlers;
mod identity;
mod overlaps;
mod projected;
mod requirements;
mod scheduling;
mod security;
pub(crate) mod update;
mod volumes;
pub(crate) mod warnings;

use k8s_openapi::api::core::v1::{Pod, PodSpec, PodTemplateSpec, Volume};
use machinery::{ErrorList, Path, names};

use crate::check::{self, ErrorListExt};
use crate::core::volumes::{local_descending_path, no_backsteps};
use crate::meta;
use crate::view::{Items, OrEmpty};

pub use projected::KEY_TYPES;
pub(crate) use requirements::overhead;
pub use scheduling::{node_selector, node_selector_term, tolerations};

/// What the checks of one pod specification share.
struct Scope<'a> {
    spec: &'a PodSpec,
    /// The specification is a pod's, not a template's.
    is_pod: bool,
    /// Name of the pod, when it has one: names of generic ephemeral volumes are made from it.
    pod_name: &'a str,
    /// Volumes without faults, which alone can be mounted.
    volumes: Vec<&'a Volume>,
    /// What was there before may stay although it would not be taken anew.
    old: Option<&'a PodSpec>,
}

impl Scope<'_> {
    fn windows(&self) -> bool {
        self.spec.os.as_ref().is_some_and(|os| os.name == "windows")
    }
}

/// Everything wrong with a new pod.
pub fn create(pod: &Pod) -> ErrorList {
    let mut errors = ErrorList::new();
    metadata_and_spec(&mut errors, pod, None);
    let spec = pod.spec.as_ref();
    if spec.is_some_and(|s| !s.ephemeral_containers.items().is_empty()) {
        errors.forbidden(
            &Path::new("spec").child("ephemeralContainers"),
            "cannot be set on create",
        );
    }
    security::annotations_match(&mut errors, pod);
    identity::gates_need_no_node(&mut errors, pod);
    errors
}

fn metadata_and_spec(errors: &mut ErrorList, pod: &Pod, old: Option<&PodSpec>) {
    let path = Path::new("spec");
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    identity::annotations(errors, &Path::new("metadata").child("annotations"), pod);
    let pod_name = pod.metadata.name.text();
    let scope = Scope {
        spec,
        is_pod: true,
        pod_name,
        volumes: Vec::new(),
        old,
    };
    pod_spec(errors, &path, scope);
    if spec.service_account_name.text().is_empty() {
        volumes::no_tokens(errors, &path.child("volumes"), spec.volumes.items());
    }
    if let Some(period) = spec.termination_grace_period_seconds {
        errors.not_negative(&path.child("terminationGracePeriodSeconds"), period);
    }
    let lists = [
        ("containers", &spec.containers[..]),
        ("initContainers", spec.init_containers.items()),
    ];
    for (key, list) in lists {
        for (i, container) in list.iter().enumerate() {
            container::only_for_pods(errors, &path.child(key).index(i), container);
        }
    }
}

/// Everything wrong with the template of a controller; `old` is the specification it replaces.
pub fn template(errors: &mut ErrorList, path: &Path, new: &PodTemplateSpec, old: Option<&PodSpec>) {
    let metadata = new.metadata.clone().unwrap_or_default();
    check::labels(errors, &path.child("labels"), metadata.labels.as_ref());
    meta::annotations(
        errors,
        &path.child("annotations"),
        metadata.annotations.as_ref(),
    );
    let empty = PodSpec::default();
    let spec = new.spec.as_ref().unwrap_or(&empty);
    identity::template_annotations(errors, &path.child("annotations"), &metadata, spec);
    let at = path.child("spec");
    pod_spec(
        errors,
        &at,
        Scope {
            spec,
            is_pod: false,
            pod_name: "",
            volumes: Vec::new(),
            old,
        },
    );
    if !spec.ephemeral_containers.items().is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.forbidden(&at.child("ephemeralContainers"), detail);
    }
}

fn pod_spec(errors: &mut ErrorList, path: &Path, mut scope: Scope<'_>) {
    let spec = scope.spec;
    if spec.termination_grace_period_seconds.is_none() {
        errors.required(&path.child("terminationGracePeriodSeconds"), "");
    }
    scope.volumes = volumes::all(errors, &path.child("volumes"), &scope);
    let scope = &scope;
    identity::resource_claims(errors, &path.child("resourceClaims"), spec);
    container::regular(errors, &path.child("containers"), scope);
    container::init(errors, &path.child("initContainers"), scope);
    container::ephemeral(errors, &path.child("ephemeralContainers"), scope);
    requirements::of_pod(errors, path, scope);
    identity::host_ports_match(errors, &path.child("containers"), scope);
    policies(errors, path, spec);
    check::labels(
        errors,
        &path.child("nodeSelector"),
        spec.node_selector.as_ref(),
    );
    security::pod_context(errors, path, scope);
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&path.child("shareProcessNamespace"), true, detail);
    }
    scheduling::affinity(errors, &path.child("affinity"), spec.affinity.as_ref());
    identity::dns_config(errors, &path.child("dnsConfig"), spec);
    for (i, gate) in spec.readiness_gates.items().iter().enumerate() {
        let at = path.child("readinessGates").index(i).child("conditionType");
        check::label_name(errors, &at, &gate.condition_type);
    }
    scheduling::gates(
        errors,
        &path.child("schedulingGates"),
        spec.scheduling_gates.items(),
    );
    scheduling::spread(errors, &path.child("topologySpreadConstraints"), scope);
    security::host_users(errors, path, spec);
    identity::hostname_override(errors, path, spec);
    identity::references(errors, path, spec);
    scheduling::tolerations(errors, &path.child("tolerations"), spec.tolerations.items());
    identity::host_aliases(
        errors,
        &path.child("hostAliases"),
        spec.host_aliases.items(),
    );
    identity::classes(errors, path, spec);
    security::operating_system(errors, path, spec);
    env::file_references(errors, path, spec);
}

fn policies(errors: &mut ErrorList, path: &Path, spec: &PodSpec) {
    let known: [(&str, &str, &[&str]); 2] = [
        (
            "restartPolicy",
            spec.restart_policy.text(),
            &["Always", "OnFailure", "Never"],
        ),
        (
            "dnsPolicy",
            spec.dns_policy.text(),
            &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        ),
    ];
    for (key, value, supported) in known {
        let at = path.child(key);
        if errors.required_text(&at, value, "") {
            errors.one_of(&at, value, supported);
        }
    }
}

/// A path inside a volume: relative, without `..`, and not in the reserved `..` name space.
fn local_non_reserved_path(errors: &mut ErrorList, path: &Path, target: &str) {
    local_descending_path(errors, path, target);
    if target.starts_with("..") && !target.starts_with("../") {
        errors.invalid(path, target, "must not start with '..'");
    }
}

/// A name of another object, which must be a DNS sub-domain.
fn object_name(errors: &mut ErrorList, path: &Path, name: &str) {
    errors.invalid_each(path, name, names::dns1123_subdomain(name));
}
