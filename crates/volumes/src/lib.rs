//! What the binder, the scheduler and the kubelet must agree on about persistent volumes: which volume fits which claim,
//! on which node a volume can be used, and the names by which they leave each other notes.
//!
//! Pure: no I/O, no clock, no randomness. Start with [`matching::find`]; the volumes that the cluster makes itself, as
//! directories of a node, are in [`local`]. Behaviour: `k8s.io/component-helpers/storage/volume`.

pub mod affinity;
pub mod local;
pub mod matching;
pub mod notes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use machinery::quantity::Quantity;

/// An annotation, when it is there.
pub fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    let annotations = metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

/// Whether an annotation is there, whatever it says.
pub fn has_annotation(metadata: &ObjectMeta, key: &str) -> bool {
    annotation(metadata, key).is_some()
}

/// The class that a claim names: the annotation of old wins, and none is the empty one.
pub fn claim_class(claim: &PersistentVolumeClaim) -> &str {
    let spec = claim.spec.as_ref();
    annotation(&claim.metadata, notes::CLASS)
        .or_else(|| spec.and_then(|s| s.storage_class_name.as_deref()))
        .unwrap_or("")
}

/// Whether a claim says anything about its class: the empty one is an answer too.
pub fn claim_has_class(claim: &PersistentVolumeClaim) -> bool {
    let spec = claim.spec.as_ref();
    has_annotation(&claim.metadata, notes::CLASS)
        || spec.is_some_and(|s| s.storage_class_name.is_some())
}

/// The class of a volume.
pub fn volume_class(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref();
    annotation(&volume.metadata, notes::CLASS)
        .or_else(|| spec.and_then(|s| s.storage_class_name.as_deref()))
        .unwrap_or("")
}

/// The storage in a list of resources.
pub fn storage(list: Option<&BTreeMap<String, Text>>) -> Option<Quantity> {
    Quantity::of(list?.get("storage")?).ok()
}

/// How much a claim asks for.
pub fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let resources = claim.spec.as_ref().and_then(|s| s.resources.as_ref());
    storage(resources.and_then(|r| r.requests.as_ref())).unwrap_or_default()
}

/// How much a volume holds.
pub fn capacity(volume: &PersistentVolume) -> Quantity {
    storage(volume.spec.as_ref().and_then(|s| s.capacity.as_ref())).unwrap_or_default()
}

/// The volume that a claim names, or nothing.
pub fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    let spec = claim.spec.as_ref();
    spec.and_then(|s| s.volume_name.as_deref()).unwrap_or("")
}

/// The phase of a volume.
pub fn volume_phase(volume: &PersistentVolume) -> &str {
    let status = volume.status.as_ref();
    status.and_then(|s| s.phase.as_deref()).unwrap_or("")
}

/// The phase of a claim.
pub fn claim_phase(claim: &PersistentVolumeClaim) -> &str {
    let status = claim.status.as_ref();
    status.and_then(|s| s.phase.as_deref()).unwrap_or("")
}

/// The claim behind a volume of a pod, and whether it is made for the pod.
pub fn claim_name(pod: &str, volume: &Volume) -> Option<(String, bool)> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some((source.claim_name.clone(), false));
    }
    let made = volume.ephemeral.is_some();
    made.then(|| (format!("{pod}-{}", volume.name), true))
}

/// The claims that a pod uses, each with whether it is made for the pod.
pub fn claims_of(pod: &Pod) -> Vec<(String, bool)> {
    let name = pod.metadata.name.as_deref().unwrap_or("");
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.filter_map(|v| claim_name(name, v)).collect()
}

/// Whether a claim was made for this pod.
pub fn is_made_for(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    let owners = claim.metadata.owner_references.iter().flatten();
    let mut controllers = owners.filter(|owner| owner.controller == Some(true));
    let owner = controllers.next().map(|owner| owner.uid.as_str());
    owner.is_some() && owner == pod.metadata.uid.as_deref()
}
