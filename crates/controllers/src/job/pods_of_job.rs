//! Facts about the pods of a Job: which have failed, which are counted, which index they have.

use control::{Action, Patch, Target};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::TRACKING;
use crate::pods;

/// Holds the index of a pod, as annotation and as label.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// Whether the pod is still to be counted.
pub(super) fn has_finalizer(pod: &Pod) -> bool {
    let finalizers = pod.metadata.finalizers.as_deref().unwrap_or_default();
    finalizers.iter().any(|f| f == TRACKING)
}

/// Takes the finalizer away.
pub(super) fn untrack(pod: &Pod) -> Option<Action> {
    let patch = json!({"metadata": {
        "uid": pod.metadata.uid,
        "$deleteFromPrimitiveList/finalizers": [TRACKING],
    }});
    has_finalizer(pod).then(|| Action::Patch {
        target: Target::of(pod),
        patch: Patch::Strategic(patch),
        subresource: None,
        report: None,
    })
}

/// Whether new pods come only for those that have failed, not for those on their way out.
pub(super) fn replaces_only_failed(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed")
}

/// Whether the pod counts as failed. One on its way out may never get to tell.
pub(super) fn is_failed(pod: &Pod, spec: &JobSpec) -> bool {
    match pods::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => pods::is_deleting(pod) && !replaces_only_failed(spec),
    }
}

/// Whether it has done its work.
pub(super) fn has_succeeded(pod: &Pod) -> bool {
    pods::phase(pod) == "Succeeded"
}

/// Whether pods have indexes.
pub(super) fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// The index of a pod, whether the Job still has it or not.
pub(super) fn index(pod: &Pod) -> Option<i32> {
    let annotations = pod.metadata.annotations.as_ref()?;
    let index: i32 = annotations.get(INDEX)?.parse().ok()?;
    (index >= 0).then_some(index)
}

/// The index of a pod, if the Job has it.
pub(super) fn valid_index(pod: &Pod, spec: &JobSpec) -> Option<i32> {
    index(pod).filter(|index| *index < spec.completions.unwrap_or(0))
}

/// The specification; the API always gives one.
pub(super) fn spec_of(job: &Job) -> JobSpec {
    job.spec.clone().unwrap_or_default()
}
