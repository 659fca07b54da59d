//! Claims get the default class, storage in use is held by finalizers, and only what can grow may be asked to.
//!
//! Behaviour: `plugin/pkg/admission/storage/{storageclass/setdefault,storageobjectinuseprotection,persistentvolume/resize}`.

use std::sync::Arc;

use machinery::quantity::Quantity;
use machinery::{ApiError, Object};
use serde_json::Value;

use super::{Operation, Request};
use crate::Lookup;

const GROUP: &str = "storage.k8s.io";
/// The annotation that named a class before the field did.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const DEFAULT_ANNOTATIONS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
const NOT_BOUND: &str = "Only bound persistent volume claims can be expanded";
const NOT_RESIZABLE: &str = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";

/// The plug-in `DefaultStorageClass`.
pub(super) fn default_class(
    request: &Request,
    claim: &mut Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    let concerns = request.is_for("", "persistentvolumeclaims") && request.subresource.is_empty();
    if !concerns || request.operation != Operation::Create || class_of(claim).is_some() {
        return Ok(());
    }
    if let Some(class) = newest_default(lookup) {
        let name = class.name().to_owned();
        claim
            .object_at_mut(&["spec"])
            .insert("storageClassName".into(), name.into());
    }
    Ok(())
}

/// What a claim says about its class; the empty one is an answer too.
fn class_of(claim: &Object) -> Option<String> {
    let mut annotations = claim.annotations();
    let annotation = annotations.find(|(key, _)| *key == CLASS_ANNOTATION);
    let field = || claim.at(&["spec", "storageClassName"])?.as_str();
    annotation
        .map(|(_, value)| value)
        .or_else(field)
        .map(str::to_owned)
}

/// Of several defaults the newest counts, of the same age the first by name.
fn newest_default(lookup: &dyn Lookup) -> Option<Arc<Object>> {
    let is_default = |class: &Arc<Object>| {
        let mut annotations = class.annotations();
        annotations.any(|(key, value)| DEFAULT_ANNOTATIONS.contains(&key) && value == "true")
    };
    let rank = |class: &Arc<Object>| {
        let created = class.meta_str("creationTimestamp").to_owned();
        (std::cmp::Reverse(created), class.name().to_owned())
    };
    let classes = lookup.list(GROUP, "storageclasses", "").into_iter();
    classes.filter(is_default).min_by_key(rank)
}

/// The plug-in `StorageObjectInUseProtection`.
pub(super) fn protect(
    request: &Request,
    object: &mut Object,
    _lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    if request.operation != Operation::Create || !request.subresource.is_empty() {
        return Ok(());
    }
    let finalizer = match (request.group, request.resource) {
        ("", "persistentvolumes") => "kubernetes.io/pv-protection",
        ("", "persistentvolumeclaims") => "kubernetes.io/pvc-protection",
        (GROUP, "volumeattributesclasses") => "kubernetes.io/vac-protection",
        _ => return Ok(()),
    };
    if object.finalizers().any(|held| held == finalizer) {
        return Ok(());
    }
    let metadata = object.metadata_mut();
    let list = metadata.entry("finalizers").or_insert(Value::Null);
    if !list.is_array() {
        *list = Value::Array(Vec::new());
    }
    if let Value::Array(list) = list {
        list.push(finalizer.into());
    }
    Ok(())
}

/// The plug-in `PersistentVolumeClaimResize`.
pub(super) fn resize(
    request: &Request,
    claim: &Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    let concerns = request.is_for("", "persistentvolumeclaims") && request.subresource.is_empty();
    let (true, Operation::Update, Some(old)) = (concerns, request.operation, request.old) else {
        return Ok(());
    };
    if size_of(claim) <= size_of(old) {
        return Ok(());
    }
    if old.str_at(&["status", "phase"]) != "Bound" {
        return Err(request.forbidden(claim, NOT_BOUND));
    }
    let class = class_of(claim).filter(|class| !class.is_empty());
    let same = class.is_some() && class == class_of(old);
    let class = class.filter(|_| same);
    let class = class.and_then(|name| lookup.get(GROUP, "storageclasses", "", &name));
    let allows = class.is_some_and(|class| {
        let allows = class.at(&["allowVolumeExpansion"]).and_then(Value::as_bool);
        allows.unwrap_or(false)
    });
    match allows {
        true => Ok(()),
        false => Err(request.forbidden(claim, NOT_RESIZABLE)),
    }
}

fn size_of(claim: &Object) -> Quantity {
    let text = claim.str_at(&["spec", "resources", "requests", "storage"]);
    Quantity::parse(text).unwrap_or_default()
}
