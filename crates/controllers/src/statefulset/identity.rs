//! What makes a pod the one with its ordinal: name, labels, host name, volumes.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};

use crate::history::REVISION_HASH;
use crate::podcontrol;

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The name of the set that a pod's name begins with, and its ordinal.
pub(super) fn parent_and_ordinal(name: &str) -> Option<(&str, i32)> {
    let (parent, digits) = name.rsplit_once('-')?;
    let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let ordinal = digits.parse().ok().filter(|_| all_digits)?;
    Some((parent, ordinal))
}

/// The ordinal of a pod.
pub(super) fn ordinal(pod: &Pod) -> Option<i32> {
    parent_and_ordinal(pod.metadata.name.as_deref()?).map(|(_, ordinal)| ordinal)
}

/// Whether the pod's name is one of the set's.
pub(super) fn is_member(set: &StatefulSet, pod: &Pod) -> bool {
    let parent = pod.metadata.name.as_deref().and_then(parent_and_ordinal);
    parent.map(|(parent, _)| parent) == set.metadata.name.as_deref()
}

/// The name of the pod with an ordinal.
pub(super) fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    let name = set.metadata.name.as_deref().unwrap_or_default();
    format!("{name}-{ordinal}")
}

/// The templates of the claims.
pub(super) fn claim_templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec
        .volume_claim_templates
        .as_deref()
        .unwrap_or_default()
}

/// The name of the claim of a template for an ordinal.
pub(super) fn claim_name(
    set: &StatefulSet,
    template: &PersistentVolumeClaim,
    ordinal: i32,
) -> String {
    let volume = template.metadata.name.as_deref().unwrap_or_default();
    format!("{volume}-{}", pod_name(set, ordinal))
}

/// The revision that a pod was made from.
pub(super) fn revision(pod: &Pod) -> &str {
    let labels = pod.metadata.labels.as_ref();
    labels
        .and_then(|l| l.get(REVISION_HASH))
        .map_or("", String::as_str)
}

/// A new pod with an ordinal.
pub(super) fn new_pod(
    set: &StatefulSet,
    template: &PodTemplateSpec,
    revision: &str,
    ordinal: i32,
) -> Pod {
    let mut pod = podcontrol::pod_of(set, template);
    let name = pod_name(set, ordinal);
    let labels = pod.metadata.labels.get_or_insert_default();
    for (key, value) in identity(&name, ordinal) {
        labels.insert(key.to_owned(), value);
    }
    labels.insert(REVISION_HASH.to_owned(), revision.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name.clone());
    spec.subdomain.clone_from(&set.spec.service_name);
    let templates = claim_templates(set);
    if !templates.is_empty() {
        let claimed = |volume: &Volume| {
            let mut names = templates.iter().map(|t| t.metadata.name.as_deref());
            names.any(|name| name == Some(volume.name.as_str()))
        };
        let others = spec.volumes.take().unwrap_or_default().into_iter();
        let own = templates.iter().map(|template| Volume {
            name: template.metadata.name.clone().unwrap_or_default(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(set, template, ordinal),
                read_only: None,
            }),
            ..Volume::default()
        });
        spec.volumes = Some(own.chain(others.filter(|v| !claimed(v))).collect());
    }
    pod.metadata.name = Some(name);
    pod
}

/// The labels that tell the identity.
pub(super) fn identity(name: &str, ordinal: i32) -> [(&'static str, String); 2] {
    [
        (POD_NAME, name.to_owned()),
        (POD_INDEX, ordinal.to_string()),
    ]
}

/// Whether a pod of the set carries its identity.
pub(super) fn identity_matches(pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|l| l.get(POD_NAME)) == pod.metadata.name.as_ref()
}
