//! Which volume a claim gets.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use machinery::labels::Selector;

use crate::affinity::{self, Place};
use crate::{capacity, claim_class, requested, volume_class, volume_phase};

/// For whom a volume is looked for.
#[derive(Clone, Copy, Debug)]
pub enum For<'a> {
    /// The binder: any volume will do, but for a claim that waits for a pod only one that was reserved for it.
    Binder {
        /// The claim waits for a pod.
        delayed: bool,
    },
    /// The scheduler: the volume must be usable on this node, and not be promised to another claim of the pod.
    Node(Place<'a>, &'a BTreeSet<String>),
}

/// Whether the volume is reserved for, or bound to, this claim.
pub fn is_bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    let Some(reference) = reference else {
        return false;
    };
    let uid = reference.uid.as_deref().unwrap_or("");
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && (uid.is_empty() || claim.metadata.uid.as_deref() == Some(uid))
}

/// Whether claim and volume want to be used differently: as a file system or as a device.
pub fn modes_differ(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let asked = claim.spec.as_ref().and_then(|s| s.volume_mode.as_deref());
    let is = volume.spec.as_ref().and_then(|s| s.volume_mode.as_deref());
    asked.unwrap_or("Filesystem") != is.unwrap_or("Filesystem")
}

fn access_modes(volume: &PersistentVolume) -> &[String] {
    let spec = volume.spec.as_ref();
    spec.and_then(|s| s.access_modes.as_deref())
        .unwrap_or_default()
}

/// Whether the volume can be used in all the ways the claim asks for.
pub fn has_access_modes(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let asked = claim.spec.as_ref().and_then(|s| s.access_modes.as_deref());
    let there = access_modes(volume);
    asked
        .unwrap_or_default()
        .iter()
        .all(|mode| there.contains(mode))
}

fn attributes_differ(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let asked = claim.spec.as_ref();
    let asked = asked.and_then(|s| s.volume_attributes_class_name.as_deref());
    let is = volume.spec.as_ref();
    let is = is.and_then(|s| s.volume_attributes_class_name.as_deref());
    asked.unwrap_or("") != is.unwrap_or("")
}

/// Why a volume that the claim names cannot be bound to it.
pub fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    let name = volume.metadata.name.as_deref().unwrap_or("");
    if volume.metadata.deletion_timestamp.is_some() {
        return Some(format!("the volume is marked for deletion \"{name}\""));
    }
    let why = if capacity(volume).value() < requested(claim).value() {
        "requested PV is too small"
    } else if volume_class(volume) != claim_class(claim) {
        "storageClassName does not match"
    } else if attributes_differ(claim, volume) {
        "volumeAttributesClassName does not match"
    } else if modes_differ(claim, volume) {
        "incompatible volumeMode"
    } else if !has_access_modes(claim, volume) {
        "incompatible accessMode"
    } else {
        return None;
    };
    Some(why.to_owned())
}

/// The volume for a claim: one that is reserved for it, otherwise the smallest that fits; of several, one with as few
/// other access modes as possible.
pub fn find<'a>(
    claim: &PersistentVolumeClaim,
    volumes: impl IntoIterator<Item = &'a PersistentVolume>,
    whom: For<'_>,
) -> Option<&'a PersistentVolume> {
    let selector = claim.spec.as_ref().and_then(|s| s.selector.as_ref());
    let selector = match selector.map(Selector::from_label_selector) {
        None => None,
        Some(Ok(selector)) => Some(selector),
        Some(Err(_)) => return None,
    };
    let mut best: Option<&PersistentVolume> = None;
    for volume in volumes {
        if !is_candidate(claim, volume, whom) {
            continue;
        }
        let fits_node = match whom {
            For::Binder { .. } => true,
            For::Node(place, _) => affinity::allows(volume, place),
        };
        if is_bound_to(volume, claim) {
            return fits_node.then_some(volume);
        }
        let free = volume_phase(volume) == "Available"
            && !matches!(whom, For::Binder { delayed: true })
            && volume_class(volume) == claim_class(claim);
        let selected = selector
            .as_ref()
            .is_none_or(|s| s.matches_map(volume.metadata.labels.as_ref()));
        if !(free && selected && fits_node) {
            continue;
        }
        let rank = |v: &PersistentVolume| (access_modes(v).len(), capacity(v));
        if best.is_none_or(|best| rank(volume) < rank(best)) {
            best = Some(volume);
        }
    }
    best
}

/// Whether a volume could be the claim's, its place and its being taken aside.
fn is_candidate(claim: &PersistentVolumeClaim, volume: &PersistentVolume, whom: For<'_>) -> bool {
    let promised = match whom {
        For::Binder { .. } => false,
        For::Node(_, promised) => {
            let name = volume.metadata.name.as_deref().unwrap_or("");
            promised.contains(name)
        }
    };
    let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    !promised
        && (reference.is_none() || is_bound_to(volume, claim))
        && volume.metadata.deletion_timestamp.is_none()
        && has_access_modes(claim, volume)
        && capacity(volume) >= requested(claim)
        && !modes_differ(claim, volume)
        && !attributes_differ(claim, volume)
}
