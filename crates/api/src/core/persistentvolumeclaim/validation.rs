//! What a claim must look like, and what may change in it.

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, TypedLocalObjectReference,
    TypedObjectReference,
};
use machinery::quantity::Quantity;
use machinery::{ErrorList, Path, names};

use crate::check::{self, ErrorListExt};
use crate::core::persistentvolume::{
    CLASS_ANNOTATION, VOLUME_MODES, class_name, validate_access_modes,
};
use crate::core::resources;
use crate::diff::diff;
use crate::view::{Items, OrEmpty, quantity};

const RESIZE_STATES: &[&str] = &[
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];
const IMMUTABLE_SPEC: &str = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

pub(super) fn create(claim: &PersistentVolumeClaim) -> ErrorList {
    let mut errors = ErrorList::new();
    let empty = PersistentVolumeClaimSpec::default();
    let own = claim.spec.as_ref().unwrap_or(&empty);
    spec(&mut errors, &Path::new("spec"), own);
    errors
}

/// The specification of a claim, also of one in a template.
pub fn spec(errors: &mut ErrorList, path: &Path, spec: &PersistentVolumeClaimSpec) {
    let at = path.child("accessModes");
    let modes = spec.access_modes.items();
    if modes.is_empty() {
        errors.required(&at, "at least 1 access mode is required");
    }
    check::label_selector(errors, &path.child("selector"), spec.selector.as_ref());
    validate_access_modes(errors, &at, modes);
    let at = path.child("resources").key("storage");
    let requests = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    match requests.and_then(|r| r.get("storage")) {
        None => errors.required(&at, ""),
        Some(text) => {
            if resources::parse(errors, &at, text).is_some_and(|q| q.signum() <= 0) {
                errors.invalid(&at, text.0.as_str(), "must be greater than zero");
            }
        }
    }
    if let Some(name) = spec.storage_class_name.as_deref().filter(|n| !n.is_empty()) {
        class_name(errors, &path.child("storageClassName"), name);
    }
    if let Some(mode) = &spec.volume_mode {
        errors.one_of(&path.child("volumeMode"), mode, VOLUME_MODES);
    }
    data_sources(errors, path, spec);
    let attributes = spec.volume_attributes_class_name.text();
    if !attributes.is_empty() {
        class_name(errors, &path.child("volumeAttributesClassName"), attributes);
    }
}

fn data_sources(errors: &mut ErrorList, path: &Path, spec: &PersistentVolumeClaimSpec) {
    let (source, reference) = (spec.data_source.as_ref(), spec.data_source_ref.as_ref());
    if let Some(TypedLocalObjectReference {
        api_group,
        kind,
        name,
    }) = source
    {
        data_source(
            errors,
            &path.child("dataSource"),
            api_group.text(),
            kind,
            name,
        );
    }
    let mut namespace = "";
    if let Some(TypedObjectReference {
        api_group,
        kind,
        name,
        namespace: of,
    }) = reference
    {
        let at = path.child("dataSourceRef");
        data_source(errors, &at, api_group.text(), kind, name);
        namespace = of.text();
        if !namespace.is_empty() {
            let messages = names::dns1123_label(namespace);
            errors.invalid_each(&at.child("namespace"), namespace, messages);
        }
    }
    let (Some(source), Some(reference)) = (source, reference) else {
        return;
    };
    let shown = path.child("dataSource").to_string();
    let equal = source.api_group == reference.api_group
        && source.kind == reference.kind
        && source.name == reference.name;
    if !namespace.is_empty() {
        let detail = "may not be specified when dataSourceRef.namespace is specified";
        errors.invalid(path, shown, detail);
    } else if !equal {
        errors.invalid(path, shown, "must match dataSourceRef");
    }
}

fn data_source(errors: &mut ErrorList, path: &Path, group: &str, kind: &str, name: &str) {
    errors.required_text(&path.child("name"), name, "");
    errors.required_text(&path.child("kind"), kind, "");
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.invalid(path, kind, detail);
    }
    if !group.is_empty() {
        errors.invalid_each(
            &path.child("apiGroup"),
            group,
            names::dns1123_subdomain(group),
        );
    }
}

pub(super) fn update(new: &PersistentVolumeClaim, old: &PersistentVolumeClaim) -> ErrorList {
    let mut errors = create(new);
    let (is, was) = (
        new.spec.clone().unwrap_or_default(),
        old.spec.clone().unwrap_or_default(),
    );
    let (mut munged, mut before) = (is.clone(), was.clone());
    if before.volume_name.text().is_empty() {
        // The binder sets it, once.
        before.volume_name.clone_from(&munged.volume_name);
    }
    storage_class(&mut errors, new, old, &mut munged);
    let bound = old
        .status
        .as_ref()
        .is_some_and(|s| s.phase.text() == "Bound");
    if bound {
        let size = requested(&before).cloned();
        let requests = munged.resources.as_mut().and_then(|r| r.requests.as_mut());
        if let (Some(requests), Some(size)) = (requests, size) {
            requests.insert("storage".into(), size);
        }
        munged
            .volume_attributes_class_name
            .clone_from(&before.volume_attributes_class_name);
    }
    if check::json(&munged) != check::json(&before) {
        let difference = {
            let shown = |spec: &PersistentVolumeClaimSpec| {
                crate::go::of_definition(
                    &check::json(spec),
                    "io.k8s.api.core.v1.PersistentVolumeClaimSpec",
                )
            };
            diff(&shown(&before), &shown(&munged))
        };
        let detail = format!("{IMMUTABLE_SPEC}\n{difference}");
        errors.forbidden(&Path::new("spec"), detail);
    }
    sizes(&mut errors, &is, &was, old);
    errors.immutable(&Path::new("volumeMode"), &is.volume_mode, &was.volume_mode);
    attributes_class(&mut errors, &is, &was, old);
    errors
}

fn requested(
    spec: &PersistentVolumeClaimSpec,
) -> Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> {
    let requests = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    requests.and_then(|r| r.get("storage"))
}

/// A class may be set where there was none, and the annotation of old moved into the field.
fn storage_class(
    errors: &mut ErrorList,
    new: &PersistentVolumeClaim,
    old: &PersistentVolumeClaim,
    munged: &mut PersistentVolumeClaimSpec,
) {
    let annotation = |claim: &PersistentVolumeClaim| {
        let all = claim.metadata.annotations.as_ref();
        all.and_then(|a| a.get(CLASS_ANNOTATION)).cloned()
    };
    let had_none = old
        .spec
        .as_ref()
        .is_none_or(|s| s.storage_class_name.is_none());
    let (is, was) = (annotation(new), annotation(old));
    let moved = had_none
        && was.is_some()
        && munged.storage_class_name == was
        && (is.is_none() || is == was);
    if moved {
        munged.storage_class_name = None;
        return;
    }
    if is.text() != was.text() {
        let path = Path::new("metadata")
            .child("annotations")
            .child(CLASS_ANNOTATION);
        errors.invalid(&path, is.text(), check::IMMUTABLE);
    }
    let fits = was.is_none() || munged.storage_class_name == was;
    if had_none && munged.storage_class_name.is_some() && fits {
        munged.storage_class_name = None;
    }
}

/// A claim grows; it shrinks only down to above what it already has, to take back an expansion that failed.
fn sizes(
    errors: &mut ErrorList,
    is: &PersistentVolumeClaimSpec,
    was: &PersistentVolumeClaimSpec,
    old: &PersistentVolumeClaim,
) {
    let size = |spec| requested(spec).and_then(quantity).unwrap_or_default();
    let capacity = old.status.as_ref().and_then(|s| s.capacity.as_ref());
    let capacity = capacity.and_then(|c| c.get("storage")).and_then(quantity);
    if size(is) < size(was) && size(is) <= capacity.unwrap_or_else(Quantity::zero) {
        let path = Path::new("spec").child("resources").child("requests");
        let detail = "field can not be less than status.capacity";
        errors.forbidden(&path.child("storage"), detail);
    }
}

fn attributes_class(
    errors: &mut ErrorList,
    is: &PersistentVolumeClaimSpec,
    was: &PersistentVolumeClaimSpec,
    old: &PersistentVolumeClaim,
) {
    let current = old
        .status
        .as_ref()
        .and_then(|s| s.current_volume_attributes_class_name.as_ref());
    if is.volume_attributes_class_name == was.volume_attributes_class_name || current.is_none() {
        return;
    }
    let word = match is.volume_attributes_class_name.as_deref() {
        None => "nil",
        Some("") => "empty string",
        Some(_) => return,
    };
    let detail = format!(
        "update to {word} is forbidden when status.currentVolumeAttributesClassName is not nil"
    );
    let path = Path::new("spec").child("volumeAttributesClassName");
    errors.forbidden(&path, detail);
}

pub(super) fn status(new: &PersistentVolumeClaim) -> ErrorList {
    let mut errors = ErrorList::new();
    let modes = new
        .spec
        .as_ref()
        .map_or(&[][..], |s| s.access_modes.items());
    if modes.is_empty() {
        errors.required(&Path::new("Spec").child("accessModes"), "");
    }
    let Some(status) = &new.status else {
        return errors;
    };
    let path = Path::new("status");
    for (name, amount) in status.capacity.iter().flatten() {
        resources::basic(&mut errors, &path.child("capacity").key(name), amount);
    }
    let at = path.child("allocatedResourceStatuses");
    for (name, state) in status.allocated_resource_statuses.iter().flatten() {
        resource_key(&mut errors, &at, name);
        if !RESIZE_STATES.contains(&state.as_str()) {
            let mut known = RESIZE_STATES.to_vec();
            known.sort_unstable();
            errors.not_supported(&at, name.as_str(), &known);
        }
    }
    let at = path.child("allocatedResources");
    for (name, amount) in status.allocated_resources.iter().flatten() {
        if resource_key(&mut errors, &at, name) {
            resources::basic(&mut errors, &at.key(name), amount);
        }
    }
    errors
}

/// Of the names without a domain only `storage` can be allocated to a claim.
fn resource_key(errors: &mut ErrorList, path: &Path, name: &str) -> bool {
    let before = errors.0.len();
    errors.invalid_each(path, name, names::qualified_name(name));
    if errors.0.len() == before && resources::is_native(name) {
        errors.one_of(path, name, &["storage"]);
    }
    errors.0.len() == before
}
