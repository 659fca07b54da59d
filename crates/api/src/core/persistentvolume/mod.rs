//! PersistentVolume: a piece of storage of the cluster, made by an administrator or by a provisioner, that one claim at a
//! time may use.
//!
//! Upstream: `pkg/registry/core/persistentvolume`, `pkg/api/persistentvolume`, `printPersistentVolume`.

mod validation;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{AzureDiskVolumeSource, PersistentVolume as Typed};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};
use serde_json::json;

pub(crate) use validation::inline as validate_inline;
pub use validation::{class_name, validate_access_modes};

use crate::columns;
use crate::core::persistentvolumeclaim::storage;
use crate::core::resources;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::{Items, OrEmpty, fill, fill_with};
use crate::warn;

/// The annotation that named a class before the field did.
pub const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
pub(crate) const CLASS_DEPRECATED: &str =
    "deprecated since v1.8; use \"storageClassName\" attribute instead";
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";
/// All access modes.
pub const ACCESS_MODES: &[&str] = &[
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];
/// All volume modes.
pub const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];

/// The kind `PersistentVolume`.
pub struct PersistentVolume;

impl Kind for PersistentVolume {
    type Object = Typed;
    const NAMES: Names = Names::new(
        "",
        "v1",
        "PersistentVolume",
        "persistentvolumes",
        "persistentvolume",
    )
    .short(&["pv"]);
    const SCOPE: Scope = Scope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Part(Part::Status)];
    const RETURNS_DELETED: bool = true;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "Capacity",
            "capacity is the description of the persistent volume's resources and capacity. More info: \
             https://kubernetes.io/docs/concepts/storage/persistent-volumes#capacity",
        ),
        columns::text(
            "Access Modes",
            "accessModes contains all ways the volume can be mounted. More info: \
             https://kubernetes.io/docs/concepts/storage/persistent-volumes#access-modes",
        ),
        columns::text(
            "Reclaim Policy",
            "persistentVolumeReclaimPolicy defines what happens to a persistent volume when released from its claim. \
             Valid options are Retain (default for manually created PersistentVolumes), Delete (default for \
             dynamically provisioned PersistentVolumes), and Recycle (deprecated). Recycle must be supported by the \
             volume plugin underlying this PersistentVolume. More info: \
             https://kubernetes.io/docs/concepts/storage/persistent-volumes#reclaiming",
        ),
        columns::text(
            "Status",
            "phase indicates if a volume is available, bound to a claim, or released by a claim. More info: \
             https://kubernetes.io/docs/concepts/storage/persistent-volumes#phase",
        ),
        columns::text(
            "Claim",
            "claimRef is part of a bi-directional binding between PersistentVolume and PersistentVolumeClaim. \
             Expected to be non-nil when bound. claim.VolumeName is the authoritative bind between PV and PVC. More \
             info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#binding",
        ),
        columns::text("StorageClass", "StorageClass of the pv"),
        columns::text("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
        columns::text(
            "Reason",
            "reason is a brief CamelCase string that describes any failure and is meant for machine parsing and tidy \
             display in the CLI.",
        ),
        columns::AGE,
        columns::wide(
            "VolumeMode",
            "volumeMode defines if a volume is intended to be used with a formatted filesystem or to remain in raw \
             block state. Value of Filesystem is implied when not included in spec.",
        ),
    ];

    fn default(object: &mut Typed) {
        fill(&mut object.status.get_or_insert_default().phase, "Pending");
        let spec = object.spec.get_or_insert_default();
        fill(&mut spec.persistent_volume_reclaim_policy, "Retain");
        fill_with(&mut spec.volume_mode, "Filesystem".to_owned());
        resources::canonical(spec.capacity.as_mut());
        if let Some(host_path) = &mut spec.host_path {
            fill_with(&mut host_path.type_, String::new());
        }
        if let Some(rbd) = &mut spec.rbd {
            fill(&mut rbd.pool, "rbd");
            fill(&mut rbd.user, "admin");
            fill(&mut rbd.keyring, "/etc/ceph/keyring");
        }
        if let Some(iscsi) = &mut spec.iscsi {
            fill(&mut iscsi.iscsi_interface, "default");
        }
        if let Some(disk) = &mut spec.azure_disk {
            default_azure_disk(disk);
        }
        if let Some(scale_io) = &mut spec.scale_io {
            fill(&mut scale_io.storage_mode, "ThinProvisioned");
            fill(&mut scale_io.fs_type, "xfs");
        }
    }

    fn prepare_create(context: &Context, new: &mut Object) {
        let now = machinery::time::rfc3339(context.now);
        let status = json!({"phase": "Pending", "lastPhaseTransitionTime": now});
        new.0.insert("status".into(), status);
    }

    fn prepare_update(context: &Context, part: Part, new: &mut Object, old: &Object) {
        kind::keep_other_part(part, new, old);
        if part != Part::Status {
            return;
        }
        const TIME: &str = "lastPhaseTransitionTime";
        let phase = |object: &Object| object.str_at(&["status", "phase"]).to_owned();
        let time = |object: &Object| object.at(&["status", TIME]).cloned();
        let (is, was) = (time(new), time(old));
        if phase(new) == phase(old) {
            if is.is_none() {
                kind::set_at(new, &["status"], TIME, was);
            }
        } else if is.is_none() || is == was {
            let now = machinery::time::rfc3339(context.now);
            kind::set_at(new, &["status"], TIME, Some(now.into()));
        }
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        validation::create(new)
    }

    fn validate_update(_context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        match part {
            Part::Status => ErrorList::new(),
            _ => validation::update(new, old),
        }
    }

    fn warnings(new: &Typed) -> Vec<String> {
        warnings(new)
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let spec = object.spec.clone().unwrap_or_default();
        let status = object.status.clone().unwrap_or_default();
        let claim = spec.claim_ref.as_ref().map_or_else(String::new, |claim| {
            format!("{}/{}", claim.namespace.text(), claim.name.text())
        });
        let phase = match tree.deletion_timestamp() {
            Some(_) => "Terminating",
            None => status.phase.text(),
        };
        Row::from(vec![
            tree.name().into(),
            storage(spec.capacity.as_ref()).into(),
            access_modes(spec.access_modes.items()).into(),
            spec.persistent_volume_reclaim_policy.text().into(),
            phase.into(),
            claim.into(),
            class(object).into(),
            spec.volume_attributes_class_name
                .as_deref()
                .unwrap_or("<unset>")
                .into(),
            status.reason.text().into(),
            kind::age(tree, now).into(),
            spec.volume_mode.as_deref().unwrap_or("<unset>").into(),
        ])
    }
}

/// Defaults of an Azure disk, of a pod's volume too.
pub(crate) fn default_azure_disk(disk: &mut AzureDiskVolumeSource) {
    fill_with(&mut disk.caching_mode, "ReadWrite".to_owned());
    fill_with(&mut disk.fs_type, "ext4".to_owned());
    fill_with(&mut disk.read_only, false);
    fill_with(&mut disk.kind, "Shared".to_owned());
}

/// The class of a volume: the old annotation wins, and none is the empty one.
pub fn class(volume: &Typed) -> &str {
    let annotations = volume.metadata.annotations.as_ref();
    match annotations.and_then(|a| a.get(CLASS_ANNOTATION)) {
        Some(class) => class,
        None => volume
            .spec
            .as_ref()
            .map_or("", |s| s.storage_class_name.text()),
    }
}

/// `RWO,ROX`, as columns show access modes.
pub(crate) fn access_modes(modes: &[String]) -> String {
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let there = short
        .iter()
        .filter(|(mode, _)| modes.iter().any(|m| m == mode));
    there.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

fn warnings(volume: &Typed) -> Vec<String> {
    let mut warnings = Vec::new();
    let annotations = volume.metadata.annotations.as_ref();
    for (key, message) in [
        (CLASS_ANNOTATION, CLASS_DEPRECATED),
        (
            MOUNT_OPTIONS,
            "deprecated since v1.31; use \"mountOptions\" attribute instead",
        ),
    ] {
        if annotations.is_some_and(|a| a.contains_key(key)) {
            warnings.push(format!("metadata.annotations[{key}]: {message}"));
        }
    }
    let Some(spec) = &volume.spec else {
        return warnings;
    };
    if spec.persistent_volume_reclaim_policy.text() == "Recycle" {
        warnings.push(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended \
             approach is to use dynamic provisioning."
                .to_owned(),
        );
    }
    let required = spec
        .node_affinity
        .as_ref()
        .and_then(|a| a.required.as_ref());
    let terms = Path::new("spec")
        .child("nodeAffinity")
        .child("required")
        .child("nodeSelectorTerms");
    for (i, term) in required
        .iter()
        .flat_map(|r| &r.node_selector_terms)
        .enumerate()
    {
        warn::node_selector_term(&mut warnings, term, false, &terms.index(i));
    }
    for (there, source, text) in [
        (
            spec.cephfs.is_some(),
            "cephfs",
            "v1.28, non-functional in v1.31+",
        ),
        (
            spec.photon_persistent_disk.is_some(),
            "photonPersistentDisk",
            "v1.11, non-functional in v1.16+",
        ),
        (
            spec.scale_io.is_some(),
            "scaleIO",
            "v1.16, non-functional in v1.22+",
        ),
        (
            spec.storageos.is_some(),
            "storageOS",
            "v1.22, non-functional in v1.25+",
        ),
        (
            spec.glusterfs.is_some(),
            "glusterfs",
            "v1.25, non-functional in v1.26+",
        ),
        (spec.rbd.is_some(), "rbd", "v1.28, non-functional in v1.31+"),
    ] {
        if there {
            warnings.push(format!("spec.{source}: deprecated in {text}"));
        }
    }
    warnings
}

#[cfg(test)]
mod tests;
