//! PersistentVolumeClaim: storage that somebody asks for, bound to one persistent volume for as long as it lives.
//!
//! The binder (`controllers::persistentvolume`) writes `spec.volumeName` once and the status; the size of a bound claim may
//! grow.
//! Upstream: `pkg/registry/core/persistentvolumeclaim`, `pkg/api/persistentvolumeclaim`, `printPersistentVolumeClaim`.

mod validation;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim as Typed, PersistentVolumeClaimSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};
use serde_json::{Value, json};

pub use validation::spec;

use crate::columns;
use crate::core::persistentvolume::{CLASS_ANNOTATION, CLASS_DEPRECATED, access_modes};
use crate::core::{pod, resources};
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::{Items, OrEmpty, fill, fill_with};

/// The kind `PersistentVolumeClaim`.
pub struct PersistentVolumeClaim;

impl Kind for PersistentVolumeClaim {
    type Object = Typed;
    const NAMES: Names = Names::new(
        "",
        "v1",
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        "persistentvolumeclaim",
    )
    .short(&["pvc"]);
    const SCOPE: Scope = Scope::Namespaced;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Part(Part::Status)];
    const RETURNS_DELETED: bool = true;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "Status",
            "phase represents the current phase of PersistentVolumeClaim.",
        ),
        columns::text(
            "Volume",
            "volumeName is the binding reference to the PersistentVolume backing this claim.",
        ),
        columns::text(
            "Capacity",
            "capacity represents the actual resources of the underlying volume.",
        ),
        columns::text(
            "Access Modes",
            "accessModes contains the actual access modes the volume backing the PVC has. More info: \
             https://kubernetes.io/docs/concepts/storage/persistent-volumes#access-modes-1",
        ),
        columns::text("StorageClass", "StorageClass of the pvc"),
        columns::text("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
        columns::AGE,
        columns::wide(
            "VolumeMode",
            "volumeMode defines what type of volume is required by the claim. Value of Filesystem is implied when \
             not included in claim spec.",
        ),
    ];

    fn default(object: &mut Typed) {
        default_spec(object.spec.get_or_insert_default());
        let status = object.status.get_or_insert_default();
        fill(&mut status.phase, "Pending");
        resources::canonical(status.capacity.as_mut());
        resources::canonical(status.allocated_resources.as_mut());
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        new.0.insert("status".into(), json!({"phase": "Pending"}));
        data_sources(new, None);
    }

    fn prepare_update(_context: &Context, part: Part, new: &mut Object, old: &Object) {
        kind::keep_other_part(part, new, old);
        match part {
            Part::Status => {
                if old.at(&["status", "healthStatus"]).is_none() {
                    kind::set_at(new, &["status"], "healthStatus", None);
                }
            }
            _ => data_sources(new, Some(old)),
        }
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        validation::create(new)
    }

    fn validate_update(_context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        match part {
            Part::Status => validation::status(new),
            _ => validation::update(new, old),
        }
    }

    fn warnings(new: &Typed) -> Vec<String> {
        let mut warnings = Vec::new();
        let annotations = new.metadata.annotations.as_ref();
        if annotations.is_some_and(|a| a.contains_key(CLASS_ANNOTATION)) {
            let path = Path::new("metadata").child("annotations");
            warnings.push(format!(
                "{}: {CLASS_DEPRECATED}",
                path.key(CLASS_ANNOTATION)
            ));
        }
        spec_warnings(&mut warnings, new.spec.as_ref(), &Path::new("spec"));
        warnings
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let spec = object.spec.clone().unwrap_or_default();
        let status = object.status.clone().unwrap_or_default();
        let phase = match tree.deletion_timestamp() {
            Some(_) => "Terminating",
            None => status.phase.text(),
        };
        let (mut capacity, mut modes) = (String::new(), String::new());
        if !spec.volume_name.text().is_empty() {
            modes = access_modes(status.access_modes.items());
            capacity = storage(status.capacity.as_ref());
        }
        Row::from(vec![
            tree.name().into(),
            phase.into(),
            spec.volume_name.text().into(),
            capacity.into(),
            modes.into(),
            class(object).into(),
            spec.volume_attributes_class_name
                .as_deref()
                .unwrap_or("<unset>")
                .into(),
            kind::age(tree, now).into(),
            spec.volume_mode.as_deref().unwrap_or("<unset>").into(),
        ])
    }
}

/// Defaults of a claim's specification, also of one in a template.
pub fn default_spec(spec: &mut PersistentVolumeClaimSpec) {
    fill_with(&mut spec.volume_mode, "Filesystem".to_owned());
    if let Some(wanted) = &mut spec.resources {
        resources::canonical(wanted.limits.as_mut());
        resources::canonical(wanted.requests.as_mut());
    }
}

/// The class that a claim names: the old annotation wins, and none is the empty one.
pub fn class(claim: &Typed) -> &str {
    let annotations = claim.metadata.annotations.as_ref();
    match annotations.and_then(|a| a.get(CLASS_ANNOTATION)) {
        Some(class) => class,
        None => claim
            .spec
            .as_ref()
            .map_or("", |s| s.storage_class_name.text()),
    }
}

/// The amount of storage in a list of resources, as columns show it.
pub(crate) fn storage(list: Option<&BTreeMap<String, Text>>) -> String {
    let amount = list.and_then(|list| list.get("storage"));
    amount.map_or_else(|| "0".to_owned(), |amount| amount.0.clone())
}

/// Keeps `dataSource` and `dataSourceRef` together. What is neither a claim nor a snapshot may only be named by the newer
/// field, and names in other namespaces not at all.
fn data_sources(new: &mut Object, old: Option<&Object>) {
    let there =
        |object: &Object, key: &str| object.at(&["spec", key]).is_some_and(|v| !v.is_null());
    let before = |key: &str| old.is_some_and(|old| there(old, key));
    let elsewhere = !new
        .str_at(&["spec", "dataSourceRef", "namespace"])
        .is_empty();
    if elsewhere && !before("dataSourceRef") {
        kind::set_at(new, &["spec"], "dataSourceRef", None);
    }
    if !before("dataSource")
        && !before("dataSourceRef")
        && !there(new, "dataSourceRef")
        && !claim_or_snapshot(new)
    {
        kind::set_at(new, &["spec"], "dataSource", None);
    }
    match (there(new, "dataSource"), there(new, "dataSourceRef")) {
        (true, false) => {
            let source = new.at(&["spec", "dataSource"]).cloned();
            kind::set_at(new, &["spec"], "dataSourceRef", source);
        }
        (false, true)
            if new
                .str_at(&["spec", "dataSourceRef", "namespace"])
                .is_empty() =>
        {
            let mut source = new.at(&["spec", "dataSourceRef"]).cloned();
            if let Some(Value::Object(source)) = &mut source {
                source.remove("namespace");
            }
            kind::set_at(new, &["spec"], "dataSource", source);
        }
        _ => {}
    }
}

fn claim_or_snapshot(claim: &Object) -> bool {
    let group = claim.str_at(&["spec", "dataSource", "apiGroup"]);
    let kind = claim.str_at(&["spec", "dataSource", "kind"]);
    matches!(
        (group, kind),
        ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
    )
}

/// Warnings about what a claim asks for: fractions of bytes.
pub(crate) fn spec_warnings(
    warnings: &mut Vec<String>,
    spec: Option<&PersistentVolumeClaimSpec>,
    path: &Path,
) {
    let wanted = spec.and_then(|s| s.resources.as_ref());
    let path = path.child("resources");
    for (key, list) in [
        ("requests", wanted.and_then(|r| r.requests.as_ref())),
        ("limits", wanted.and_then(|r| r.limits.as_ref())),
    ] {
        pod::validation::warnings::fraction(warnings, &path.child(key), list, "storage");
    }
}

#[cfg(test)]
mod tests;
