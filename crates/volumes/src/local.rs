//! Volumes that the cluster makes itself: directories of a node.
//!
//! The provisioner (`controllers::localprovisioner`) makes and deletes the objects; the kubelet of the node makes the
//! directory when a pod first uses it, and removes it, and the finalizer, when the object is to go. The directory is
//! always found by the volume's name below the kubelet's own root, never by the path in the object.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume, VolumeNodeAffinity,
};

use crate::{annotation, notes};

/// The provisioner's name, as classes name it.
pub const PROVISIONER: &str = "oxikube.io/local";
/// The class that a new cluster has.
pub const CLASS: &str = "standard";
/// Keeps the object until the node has removed the data.
pub const FINALIZER: &str = "oxikube.io/local-volume";
/// The label that says on which node the data is, for watches.
pub const NODE_LABEL: &str = "oxikube.io/node";
/// The folder of all such directories below the kubelet's root.
pub const FOLDER: &str = "local-volumes";
/// Where the kubelet's root is, as far as objects tell.
pub const KUBELET_ROOT: &str = "/var/lib/kubelet";
/// The label that stock schedulers and kubelets compare volumes with; it is the node's name on every node of ours.
pub const HOST_NAME: &str = "kubernetes.io/hostname";
const NAME_MAX: usize = 253;

/// The path that the object tells.
pub fn path(volume: &str) -> String {
    format!("{KUBELET_ROOT}/{FOLDER}/{volume}")
}

/// Whether a name is one directory's name: lower-case letters, digits, dashes and dots inside, and nothing that leads
/// elsewhere.
pub fn is_directory_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    bytes.len() <= NAME_MAX
        && bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
        && bytes.iter().all(|b| inner(*b))
}

/// The affinity of a volume that is on one node.
pub fn affinity_to(node: &str) -> VolumeNodeAffinity {
    VolumeNodeAffinity {
        required: Some(NodeSelector {
            node_selector_terms: vec![NodeSelectorTerm {
                match_expressions: Some(vec![NodeSelectorRequirement {
                    key: HOST_NAME.to_owned(),
                    operator: "In".to_owned(),
                    values: Some(vec![node.to_owned()]),
                }]),
                ..NodeSelectorTerm::default()
            }],
        }),
    }
}

/// The node that a volume of ours is on; `None` for every other volume. The affinity is what counts: it cannot change.
pub fn node_of(volume: &PersistentVolume) -> Option<&str> {
    if annotation(&volume.metadata, notes::PROVISIONED_BY) != Some(PROVISIONER) {
        return None;
    }
    let spec = volume.spec.as_ref()?;
    spec.local.as_ref()?;
    let required = spec.node_affinity.as_ref()?.required.as_ref()?;
    let [term] = required.node_selector_terms.as_slice() else {
        return None;
    };
    let [label] = term.match_expressions.as_deref()? else {
        return None;
    };
    let [node] = label.values.as_deref()? else {
        return None;
    };
    let exact = label.key == HOST_NAME
        && label.operator == "In"
        && term.match_fields.iter().flatten().next().is_none();
    exact.then_some(node.as_str())
}

/// Whether the node's part in the removal of a volume is next: nobody else holds it any more.
pub fn is_to_be_removed(volume: &PersistentVolume) -> bool {
    let held_by_us_alone = volume
        .metadata
        .finalizers
        .as_deref()
        .is_some_and(|all| all == [FINALIZER]);
    volume.metadata.deletion_timestamp.is_some() && held_by_us_alone
}

/// Whether the data goes with the volume; otherwise only the object does.
pub fn data_goes_too(volume: &PersistentVolume) -> bool {
    let spec = volume.spec.as_ref();
    spec.and_then(|s| s.persistent_volume_reclaim_policy.as_deref()) == Some("Delete")
}

/// The labels of a volume on this node.
pub fn labels(node: &str) -> BTreeMap<String, String> {
    // Node names may be longer than label values; such a node looks at all volumes.
    let fits = node.len() <= machinery::names::LABEL_MAX;
    let label = (NODE_LABEL.to_owned(), node.to_owned());
    fits.then_some(label).into_iter().collect()
}
