//! What a persistent volume must look like, and what may change in it.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeSpec, VolumeNodeAffinity};
use machinery::{ErrorList, Path, names};
use serde_json::{Map, Value};

use super::{ACCESS_MODES, MOUNT_OPTIONS, VOLUME_MODES};
use crate::check::{self, ErrorListExt, IMMUTABLE, same};
use crate::core::pod::validation::node_selector;
use crate::core::{resources, volumes};
use crate::diff::diff;
use crate::view::{Items, OrEmpty};

const ONE_TYPE: &str = "may not specify more than 1 volume type";
/// Every source in the order in which they are looked at: the field, and how messages about a second one spell it.
const SOURCES: &[(&str, &str)] = &[
    ("hostPath", "hostPath"),
    ("gcePersistentDisk", "gcePersistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("nfs", "nfs"),
    ("rbd", "rbd"),
    ("quobyte", "quobyte"),
    ("cephfs", "cephFS"),
    ("iscsi", "iscsi"),
    ("cinder", "cinder"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("scaleIO", "scaleIO"),
    ("local", "local"),
    ("storageos", "storageos"),
    ("csi", "csi"),
];
/// Sources that take mount options by annotation.
const MOUNTED_WITH_OPTIONS: &[&str] = &[
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
];
const INLINE: &str = "in the context of inline volumes";

pub(super) fn create(volume: &PersistentVolume) -> ErrorList {
    let mut errors = ErrorList::new();
    let empty = PersistentVolumeSpec::default();
    let own = volume.spec.as_ref().unwrap_or(&empty);
    let name = volume.metadata.name.text();
    spec(&mut errors, &Path::new("spec"), own, name, false);
    mount_options(&mut errors, volume, own);
    errors
}

/// The specification of a volume that an attachment carries in itself.
pub(crate) fn inline(errors: &mut ErrorList, path: &Path, own: &PersistentVolumeSpec) {
    if own.claim_ref.is_some() {
        errors.forbidden(
            &path.child("claimRef"),
            format!("may not be specified {INLINE}"),
        );
    }
    if own.capacity.iter().flatten().next().is_some() {
        errors.forbidden(
            &path.child("capacity"),
            format!("may not be specified {INLINE}"),
        );
    }
    if own.csi.is_none() {
        errors.required(&path.child("csi"), format!("has to be specified {INLINE}"));
    }
    spec(errors, path, own, "", true);
}

/// A name of a class.
pub fn class_name(errors: &mut ErrorList, path: &Path, name: &str) {
    errors.invalid_each(path, name, names::dns1123_subdomain(name));
}

/// Access modes: known ones, and `ReadWriteOncePod` alone.
pub fn validate_access_modes(errors: &mut ErrorList, path: &Path, modes: &[String]) {
    for mode in modes {
        errors.one_of(path, mode, ACCESS_MODES);
    }
    let once_pod = |mode: &String| mode == "ReadWriteOncePod";
    let other = |mode: &String| !once_pod(mode) && ACCESS_MODES.contains(&mode.as_str());
    if modes.iter().any(once_pod) && modes.iter().any(other) {
        errors.forbidden(path, "may not use ReadWriteOncePod with other access modes");
    }
}

fn spec(
    errors: &mut ErrorList,
    path: &Path,
    spec: &PersistentVolumeSpec,
    name: &str,
    inline: bool,
) {
    let at = path.child("accessModes");
    if spec.access_modes.items().is_empty() {
        errors.required(&at, "");
    }
    validate_access_modes(errors, &at, spec.access_modes.items());
    if !inline {
        capacity(errors, &path.child("capacity"), spec);
    }
    reclaim_policy(
        errors,
        &path.child("persistentVolumeReclaimPolicy"),
        spec,
        inline,
    );
    if let Some(affinity) = &spec.node_affinity {
        let at = path.child("nodeAffinity");
        if inline {
            errors.forbidden(&at, format!("may not be specified {INLINE}"));
        } else {
            node_affinity(errors, &at, affinity);
        }
    }
    sources(errors, path, spec, name);
    if spec.host_path.as_ref().is_some_and(|h| is_root(&h.path))
        && spec.persistent_volume_reclaim_policy.text() == "Recycle"
    {
        let at = path.child("persistentVolumeReclaimPolicy");
        errors.forbidden(&at, "may not be 'recycle' for a hostPath mount of '/'");
    }
    let class = spec.storage_class_name.text();
    if !class.is_empty() {
        let at = path.child("storageClassName");
        match inline {
            true => errors.forbidden(&at, format!("may not be specified {INLINE}")),
            false => class_name(errors, &at, class),
        }
    }
    if let Some(mode) = &spec.volume_mode {
        let at = path.child("volumeMode");
        if !inline {
            errors.one_of(&at, mode, VOLUME_MODES);
        } else if mode != "Filesystem" {
            let detail = format!("may not specify volumeMode other than Filesystem {INLINE}");
            errors.forbidden(&at, detail);
        }
    }
    attributes_class(errors, path, spec);
}

fn attributes_class(errors: &mut ErrorList, path: &Path, spec: &PersistentVolumeSpec) {
    let Some(class) = &spec.volume_attributes_class_name else {
        return;
    };
    let at = path.child("volumeAttributesClassName");
    if errors.required_text(&at, class, "an empty string is disallowed") {
        class_name(errors, &at, class);
    }
    if spec.csi.is_none() {
        let detail = "has to be specified when using volumeAttributesClassName";
        errors.required(&path.child("csi"), detail);
    }
}

fn capacity(errors: &mut ErrorList, path: &Path, spec: &PersistentVolumeSpec) {
    let empty = std::collections::BTreeMap::new();
    let capacity = spec.capacity.as_ref().unwrap_or(&empty);
    if capacity.is_empty() {
        errors.required(path, "");
    }
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        let shown = match capacity.is_empty() {
            true => Value::Null,
            false => check::json(capacity),
        };
        errors.not_supported(path, shown, &["storage"]);
    }
    for (name, amount) in capacity {
        let at = path.key(name);
        let Some(quantity) = resources::parse(errors, &at, amount) else {
            continue;
        };
        if quantity.value() < 0 {
            errors.invalid(&at, quantity.value(), "must be a valid resource quantity");
        }
        if quantity.signum() <= 0 {
            errors.invalid(&at, amount.0.as_str(), "must be greater than zero");
        }
    }
}

fn reclaim_policy(errors: &mut ErrorList, path: &Path, spec: &PersistentVolumeSpec, inline: bool) {
    let policy = spec.persistent_volume_reclaim_policy.text();
    if policy.is_empty() {
        return;
    }
    if !inline {
        errors.one_of(path, policy, &["Delete", "Recycle", "Retain"]);
    } else if policy != "Retain" {
        errors.forbidden(path, format!("may only be Retain {INLINE}"));
    }
}

fn node_affinity(errors: &mut ErrorList, path: &Path, affinity: &VolumeNodeAffinity) {
    let at = path.child("required");
    match &affinity.required {
        Some(required) => node_selector(errors, &at, required),
        None => errors.required(&at, "must specify required node constraints"),
    }
}

/// The sources of a specification, as a tree.
fn sources_of(spec: &PersistentVolumeSpec) -> Map<String, Value> {
    let Value::Object(tree) = check::json(spec) else {
        return Map::new();
    };
    let known = |key: &String| SOURCES.iter().any(|(source, _)| source == key);
    tree.into_iter().filter(|(key, _)| known(key)).collect()
}

fn sources(errors: &mut ErrorList, path: &Path, spec: &PersistentVolumeSpec, name: &str) {
    let there = sources_of(spec);
    let mut found = false;
    for (key, spelled) in SOURCES {
        let Some(source) = there.get(*key) else {
            continue;
        };
        if found && *key != "flexVolume" {
            errors.forbidden(&path.child(spelled), ONE_TYPE);
            continue;
        }
        found = true;
        let text = |field: &str| source.get(field).and_then(Value::as_str).unwrap_or("");
        match *key {
            "hostPath" => {
                volumes::host_path(errors, &path.child(key), text("path"), text("type"));
            }
            "local" => {
                let at = path.child(key).child("path");
                if errors.required_text(&at, text("path"), "") {
                    volumes::no_backsteps(errors, &at, text("path"));
                }
                if spec.node_affinity.is_none() {
                    let detail = "Local volume requires node affinity";
                    errors.required(&path.child("nodeAffinity"), detail);
                }
            }
            _ => {
                let owner = volumes::Owner::PersistentVolume(name);
                volumes::source(errors, path, spelled, source, owner);
            }
        }
    }
    if !found {
        errors.required(path, "must specify a volume type");
    }
}

/// Whether a path, cleaned, is the root.
fn is_root(path: &str) -> bool {
    path.starts_with('/') && path.split('/').all(|part| matches!(part, "" | "."))
}

fn mount_options(errors: &mut ErrorList, volume: &PersistentVolume, spec: &PersistentVolumeSpec) {
    let annotations = volume.metadata.annotations.as_ref();
    if !annotations.is_some_and(|a| a.contains_key(MOUNT_OPTIONS)) {
        return;
    }
    let there = sources_of(spec);
    if !MOUNTED_WITH_OPTIONS
        .iter()
        .any(|key| there.contains_key(*key))
    {
        let path = Path::new("metadata")
            .child("annotations")
            .child(MOUNT_OPTIONS);
        errors.forbidden(&path, "may not specify mount options for this volume type");
    }
}

pub(super) fn update(new: &PersistentVolume, old: &PersistentVolume) -> ErrorList {
    let mut errors = create(new);
    let (is, was) = (
        new.spec.clone().unwrap_or_default(),
        old.spec.clone().unwrap_or_default(),
    );
    let mut munged = is.clone();
    if let (Some(csi), Some(before)) = (&mut munged.csi, &was.csi)
        && before.controller_expand_secret_ref.is_none()
    {
        csi.controller_expand_secret_ref = None;
    }
    let (after, before) = (sources_of(&munged), sources_of(&was));
    if !same(&after, &before) {
        let difference = {
            let shown = |sources| {
                let section = "io.k8s.api.core.v1.PersistentVolumeSource";
                let definition = "io.k8s.api.core.v1.PersistentVolumeSpec";
                crate::go::of_section(&Value::Object(sources), section, definition)
            };
            diff(&shown(before), &shown(after))
        };
        let detail =
            format!("spec.persistentvolumesource is immutable after creation\n{difference}");
        errors.forbidden(&Path::new("spec").child("persistentvolumesource"), detail);
    }
    errors.immutable(&Path::new("volumeMode"), &is.volume_mode, &was.volume_mode);
    if let Some(before) = &was.node_affinity {
        let renamed = |affinity: &VolumeNodeAffinity| Some(with_new_labels(affinity));
        let after = is.node_affinity.as_ref();
        let same_but_for_labels =
            same(&is.node_affinity, &was.node_affinity) || after.cloned() == renamed(before);
        if !same_but_for_labels {
            let detail = format!("{IMMUTABLE}, except for updating from beta label to GA");
            let shown = check::prune(check::json(&is.node_affinity));
            errors.invalid(&Path::new("nodeAffinity"), shown, detail);
        }
    }
    if was.volume_attributes_class_name.is_some() && is.volume_attributes_class_name.is_none() {
        let path = Path::new("spec").child("volumeAttributesClassName");
        errors.forbidden(&path, "update from non-nil value to nil is forbidden");
    }
    errors
}

/// Labels of nodes with a successor that means the same.
const OLD_LABELS: &[(&str, &str)] = &[
    (
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/region",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "topology.kubernetes.io/zone",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
    ),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
];

/// The affinity with the labels of old replaced by today's.
fn with_new_labels(affinity: &VolumeNodeAffinity) -> VolumeNodeAffinity {
    let mut affinity = affinity.clone();
    let terms = affinity.required.iter_mut();
    let terms = terms.flat_map(|required| &mut required.node_selector_terms);
    for requirement in terms.flat_map(|term| term.match_expressions.iter_mut().flatten()) {
        let new = OLD_LABELS.iter().find(|(old, _)| *old == requirement.key);
        if let Some((_, new)) = new {
            requirement.key = (*new).to_owned();
        }
    }
    affinity
}
