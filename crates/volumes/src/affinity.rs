//! Node selectors: whether a node is among those that a volume can be used on.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PersistentVolume;
use machinery::placement;

/// What a node selector looks at.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The node's name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

/// Whether the volume can be used on the node.
pub fn allows(volume: &PersistentVolume, place: Place<'_>) -> bool {
    let affinity = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required.as_ref());
    required.is_none_or(|required| placement::matches(required, place.name, place.labels))
}
