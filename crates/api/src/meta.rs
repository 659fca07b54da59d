//! Rules about metadata that hold for every kind.
//!
//! The road calls [`validate_object_meta`] for a new object and [`validate_object_meta_update`] for a changed one, after
//! the name was generated and before the kind's own rules.
//! Behaviour and wording: `k8s.io/apimachinery/pkg/api/validation/objectmeta.go`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    ManagedFieldsEntry, ObjectMeta, OwnerReference,
};
use machinery::{ErrorList, Object, Path, names};
use serde::Deserialize;
use serde_json::Value;

use crate::check::{self, ErrorListExt};
use crate::kind::{AnyKind, Scope};
use crate::view::{Items, OrEmpty};

/// All keys and values of the annotations together may not be longer than this.
pub const ANNOTATIONS_MAX: usize = 256 * 1024;
const FIELD_MANAGER_MAX: usize = 128;
const SUBRESOURCE_MAX: usize = 256;

fn metadata_of(object: &Object) -> Result<ObjectMeta, ErrorList> {
    let value = object.0.get("metadata").unwrap_or(&Value::Null);
    let parsed = Option::<ObjectMeta>::deserialize(value);
    parsed.map(Option::unwrap_or_default).map_err(|why| {
        let mut errors = ErrorList::new();
        errors.invalid(&Path::new("metadata"), value.clone(), why.to_string());
        errors
    })
}

/// Everything wrong with the metadata of a new object of this kind.
pub fn validate_object_meta(kind: &dyn AnyKind, object: &Object) -> ErrorList {
    match metadata_of(object) {
        Ok(metadata) => {
            let name = |name: &str, prefix| kind.validate_name(name, prefix);
            let path = Path::new("metadata");
            let namespaced = kind.scope() == Scope::Namespaced;
            let mut errors = new_metadata(&metadata, namespaced, &name, &path);
            if is_strict(object) {
                known_finalizers(&mut errors, &path, &metadata);
            }
            crate::go::show(&mut errors, || kind.schema());
            errors
        }
        Err(errors) => errors,
    }
}

/// Everything wrong with new metadata: of an object, or of a template at `path`.
pub fn new_metadata(
    metadata: &ObjectMeta,
    namespaced: bool,
    validate_name: &dyn Fn(&str, bool) -> Vec<String>,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    let (name, generate_name) = (metadata.name.text(), metadata.generate_name.text());
    if !generate_name.is_empty() {
        let messages = validate_name(generate_name, true);
        errors.invalid_each(&path.child("generateName"), generate_name, messages);
    }
    if errors.required_text(
        &path.child("name"),
        name,
        "name or generateName is required",
    ) {
        errors.invalid_each(&path.child("name"), name, validate_name(name, false));
    }
    let namespace = metadata.namespace.text();
    let at = path.child("namespace");
    if !namespaced {
        if !namespace.is_empty() {
            errors.forbidden(&at, "not allowed on this type");
        }
    } else if errors.required_text(&at, namespace, "") {
        errors.invalid_each(&at, namespace, names::dns1123_label(namespace));
    }
    errors.not_negative(&path.child("generation"), metadata.generation.unwrap_or(0));
    common(&mut errors, metadata, path);
    finalizers(
        &mut errors,
        &path.child("finalizers"),
        metadata.finalizers.items(),
    );
    managed_fields(
        &mut errors,
        &path.child("managedFields"),
        metadata.managed_fields.items(),
    );
    errors
}

/// Everything wrong with the metadata of an object that replaces `old`.
pub fn validate_object_meta_update(new: &Object, old: &Object) -> ErrorList {
    let tree = new;
    let (new, old) = match (metadata_of(new), metadata_of(old)) {
        (Ok(new), Ok(old)) => (new, old),
        (Err(errors), _) | (_, Err(errors)) => return errors,
    };
    let path = Path::new("metadata");
    let mut errors = ErrorList::new();
    if old.deletion_timestamp.is_some() {
        no_new_finalizers(&mut errors, &path.child("finalizers"), &new, &old);
    }
    if new.resource_version.text().is_empty() {
        let detail = "must be specified for an update";
        errors.invalid(&path.child("resourceVersion"), "", detail);
    }
    let (generation, before) = (new.generation.unwrap_or(0), old.generation.unwrap_or(0));
    errors.not_negative(&path.child("generation"), generation);
    if generation < before {
        errors.invalid(
            &path.child("generation"),
            generation,
            "must not be decremented",
        );
    }
    let texts = [
        ("name", &new.name, &old.name),
        ("namespace", &new.namespace, &old.namespace),
        ("uid", &new.uid, &old.uid),
    ];
    for (key, new, old) in texts {
        errors.immutable(&path.child(key), &new.text(), &old.text());
    }
    let at = path.child("creationTimestamp");
    errors.immutable(&at, &new.creation_timestamp, &old.creation_timestamp);
    let at = path.child("deletionTimestamp");
    errors.immutable(&at, &new.deletion_timestamp, &old.deletion_timestamp);
    let at = path.child("deletionGracePeriodSeconds");
    errors.immutable(
        &at,
        &new.deletion_grace_period_seconds,
        &old.deletion_grace_period_seconds,
    );
    common(&mut errors, &new, &path);
    managed_fields(
        &mut errors,
        &path.child("managedFields"),
        new.managed_fields.items(),
    );
    if is_fixed(tree) {
        let at = path.child("finalizers");
        finalizers(&mut errors, &at, new.finalizers.items());
    }
    if is_strict(tree) {
        known_finalizers(&mut errors, &path, &new);
    }
    errors
}

fn group_of(object: &Object) -> &str {
    let version = object.api_version();
    version.split_once('/').map_or("", |(group, _)| group)
}

/// Whether the kind is one of the program, not a custom one.
fn is_fixed(object: &Object) -> bool {
    let group = group_of(object);
    crate::KINDS.iter().any(|kind| kind.names().group == group)
}

/// Whether a finalizer without a domain must be one of the system's own: with most kinds of the system.
fn is_strict(object: &Object) -> bool {
    let lenient = [
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
        "apiregistration.k8s.io",
        "coordination.k8s.io",
        "node.k8s.io",
        "policy",
    ];
    is_fixed(object) && !lenient.contains(&group_of(object)) && object.kind() != "Event"
}

fn known_finalizers(errors: &mut ErrorList, path: &Path, metadata: &ObjectMeta) {
    for (i, name) in metadata.finalizers.items().iter().enumerate() {
        known_finalizer(errors, &path.child("finalizers").index(i), name);
    }
}

/// A finalizer of the system, or one with a domain.
pub fn known_finalizer(errors: &mut ErrorList, path: &Path, name: &str) {
    let standard = ["kubernetes", "orphan", "foregroundDeletion"];
    if !name.contains('/') && !standard.contains(&name) {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        errors.invalid(path, name, detail);
    }
}

fn common(errors: &mut ErrorList, metadata: &ObjectMeta, path: &Path) {
    check::labels(errors, &path.child("labels"), metadata.labels.as_ref());
    annotations(
        errors,
        &path.child("annotations"),
        metadata.annotations.as_ref(),
    );
    owner_references(
        errors,
        &path.child("ownerReferences"),
        metadata.owner_references.items(),
    );
}

/// The metadata of what is made from a template: labels and annotations, nothing else.
pub fn template(errors: &mut ErrorList, path: &Path, metadata: &ObjectMeta) {
    let at = path.child("annotations");
    annotations(errors, &at, metadata.annotations.as_ref());
    check::labels(errors, &path.child("labels"), metadata.labels.as_ref());
    let serde_json::Value::Object(fields) = check::json(metadata) else {
        return;
    };
    for key in fields
        .keys()
        .filter(|k| !matches!(k.as_str(), "annotations" | "labels"))
    {
        errors.forbidden(&path.child(key), "cannot be set");
    }
}

/// Annotation keys, and the size of all annotations together.
pub fn annotations(
    errors: &mut ErrorList,
    path: &Path,
    annotations: Option<&BTreeMap<String, String>>,
) {
    let mut size = 0;
    for (key, value) in annotations.into_iter().flatten() {
        errors.invalid_each(path, key, names::qualified_name(&key.to_lowercase()));
        size += key.len() + value.len();
    }
    if size > ANNOTATIONS_MAX {
        errors.too_long(path, ANNOTATIONS_MAX);
    }
}

fn owner_references(errors: &mut ErrorList, path: &Path, references: &[OwnerReference]) {
    let mut first: Option<String> = None;
    for (i, reference) in references.iter().enumerate() {
        owner_reference(errors, &path.index(i), reference);
        if reference.controller != Some(true) {
            continue;
        }
        let this = format!("{}/{}", reference.kind, reference.name);
        match &first {
            None => first = Some(this),
            Some(first) => {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in \
                     references for {first} and {this}"
                );
                errors.invalid(path, check::json(&references), detail);
            }
        }
    }
}

fn owner_reference(errors: &mut ErrorList, path: &Path, reference: &OwnerReference) {
    let version = reference.api_version.as_str();
    let at = path.child("apiVersion");
    let well_formed = match version.split_once('/') {
        None => true,
        Some((_, version)) => !version.is_empty() && !version.contains('/'),
    };
    if errors.required_text(&at, version, "must not be empty") && !well_formed {
        errors.invalid(&at, version, "must be <group>/<version> or <version>");
    }
    errors.required_text(&path.child("kind"), &reference.kind, "must not be empty");
    errors.required_text(&path.child("name"), &reference.name, "must not be empty");
    errors.required_text(&path.child("uid"), &reference.uid, "must not be empty");
    if version == "v1" && reference.kind == "Event" {
        let detail = "/v1, Kind=Event is disallowed from being an owner";
        errors.invalid(path, check::json(reference), detail);
    }
}

fn finalizers(errors: &mut ErrorList, path: &Path, finalizers: &[String]) {
    for finalizer in finalizers {
        errors.invalid_each(path, finalizer, names::qualified_name(finalizer));
    }
    let has = |name: &str| finalizers.iter().any(|f| f == name);
    if has("orphan") && has("foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.invalid(path, finalizers.to_vec(), detail);
    }
}

fn no_new_finalizers(errors: &mut ErrorList, path: &Path, new: &ObjectMeta, old: &ObjectMeta) {
    let before = old.finalizers.items();
    let mut extra: Vec<&String> = new
        .finalizers
        .items()
        .iter()
        .filter(|f| !before.contains(f))
        .collect();
    extra.sort();
    extra.dedup();
    if !extra.is_empty() {
        let quoted: Vec<String> = extra.iter().map(|f| format!("{f:?}")).collect();
        let detail = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers \
             []string{{{}}}",
            quoted.join(", ")
        );
        errors.forbidden(path, detail);
    }
}

fn managed_fields(errors: &mut ErrorList, path: &Path, entries: &[ManagedFieldsEntry]) {
    for (i, entry) in entries.iter().enumerate() {
        let path = path.index(i);
        let at = path.child("operation");
        let operation = entry.operation.text();
        if errors.required_text(&at, operation, "must not be empty") {
            errors.one_of(&at, operation, &["Apply", "Update"]);
        }
        let fields_type = entry.fields_type.text();
        if !fields_type.is_empty() && fields_type != "FieldsV1" {
            errors.invalid(&path.child("fieldsType"), fields_type, "must be `FieldsV1`");
        }
        field_manager(errors, &path.child("manager"), entry.manager.text());
        if entry.subresource.text().len() > SUBRESOURCE_MAX {
            errors.too_long(&path.child("subresource"), SUBRESOURCE_MAX);
        }
    }
}

/// The name of a field manager, as options and managed fields carry it.
pub fn field_manager(errors: &mut ErrorList, path: &Path, manager: &str) {
    if manager.len() > FIELD_MANAGER_MAX {
        errors.too_long(path, FIELD_MANAGER_MAX);
    }
    for (position, character) in manager.char_indices() {
        if character.is_control() || (character.is_whitespace() && character != ' ') {
            let code = u32::from(character);
            let detail = format!("invalid character U+{code:04X} (at position {position})");
            errors.invalid(path, manager, detail);
        }
    }
}

#[cfg(test)]
mod tests;
