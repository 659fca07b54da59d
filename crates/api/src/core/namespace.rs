//! Namespace: a scope for names. Deleting one empties it first: the namespace controller removes the finalizer
//! `kubernetes` through the sub-resource `finalize` when nothing is left inside.
//!
//! Upstream: `pkg/registry/core/namespace`, `ValidateNamespace*` in `pkg/apis/core/validation`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace as Typed;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, names};
use serde_json::{Value, json};

use crate::check::ErrorListExt;
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource, Verb};
use crate::meta;
use crate::view::{Items, OrEmpty};

/// The label that carries the namespace's own name.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// The finalizer of the namespace controller, in `spec.finalizers`.
pub const FINALIZER: &str = "kubernetes";

/// The kind `Namespace`.
pub struct Namespace;

impl Kind for Namespace {
    type Object = Typed;
    const NAMES: Names =
        Names::new("", "v1", "Namespace", "namespaces", "namespace").short(&["ns"]);
    const SCOPE: Scope = Scope::Cluster;
    const VERBS: &'static [Verb] = &[
        Verb::Create,
        Verb::Delete,
        Verb::Get,
        Verb::List,
        Verb::Patch,
        Verb::Update,
        Verb::Watch,
    ];
    const SUBRESOURCES: &'static [Subresource] = &[
        Subresource::Part(Part::Finalize),
        Subresource::Part(Part::Status),
    ];
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text("Status", "The status of the namespace"),
        columns::AGE,
    ];
    const RETURNS_DELETED: bool = true;
    const SELECTABLE: &'static [&'static str] = &["status.phase"];

    fn default(object: &mut Typed) {
        let name = object.metadata.name.text().to_owned();
        if !name.is_empty() {
            object
                .metadata
                .labels
                .get_or_insert_default()
                .insert(NAME_LABEL.into(), name);
        }
        crate::view::fill(&mut object.status.get_or_insert_default().phase, "Active");
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        new.0.insert("status".into(), json!({"phase": "Active"}));
        let spec = new.object_at_mut(&["spec"]);
        let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
        if !finalizers.is_array() {
            *finalizers = json!([]);
        }
        if let Value::Array(list) = finalizers
            && !list.iter().any(|f| f == FINALIZER)
        {
            list.push(FINALIZER.into());
        }
        let name = new.name().to_owned();
        if !name.is_empty() {
            new.object_at_mut(&["metadata", "labels"])
                .insert(NAME_LABEL.into(), name.into());
        }
    }

    fn prepare_delete(_context: &Context, new: &mut Object) -> bool {
        new.object_at_mut(&["status"])
            .insert("phase".into(), "Terminating".into());
        true
    }

    fn prepare_update(_context: &Context, part: Part, new: &mut Object, old: &Object) {
        match part {
            Part::Finalize => kind::set_or_remove(new, "status", old.0.get("status").cloned()),
            Part::Status => kind::keep_other_part(part, new, old),
            _ => {
                kind::keep_other_part(part, new, old);
                let before = old.at(&["spec", "finalizers"]).cloned();
                kind::set_at(new, &["spec"], "finalizers", before);
            }
        }
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        finalizers(&mut errors, new, false);
        errors
    }

    fn validate_update(_context: &Context, part: Part, new: &Typed, _old: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        match part {
            Part::Finalize => finalizers(&mut errors, new, true),
            Part::Status => status(&mut errors, new),
            _ => finalizers(&mut errors, new, false),
        }
        errors
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        kind::dns_label(name, prefix)
    }

    fn selectable_fields(object: &Object) -> Vec<(&'static str, String)> {
        vec![(
            "status.phase",
            object.str_at(&["status", "phase"]).to_owned(),
        )]
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let phase = object.status.as_ref().map_or("", |s| s.phase.text());
        Row::from(vec![
            tree.name().into(),
            phase.into(),
            kind::age(tree, now).into(),
        ])
    }
}

fn finalizers(errors: &mut ErrorList, namespace: &Typed, indexed: bool) {
    let path = Path::new("spec").child("finalizers");
    let list = namespace
        .spec
        .as_ref()
        .map_or(&[][..], |s| s.finalizers.items());
    for (i, finalizer) in list.iter().enumerate() {
        let path = if indexed { path.index(i) } else { path.clone() };
        finalizer_name(errors, &path, finalizer);
    }
}

fn finalizer_name(errors: &mut ErrorList, path: &Path, name: &str) {
    errors.invalid_each(path, name, names::qualified_name(name));
    meta::known_finalizer(errors, path, name);
}

fn status(errors: &mut ErrorList, namespace: &Typed) {
    let phase = namespace.status.as_ref().map_or("", |s| s.phase.text());
    let path = Path::new("status").child("Phase");
    if namespace.metadata.deletion_timestamp.is_none() {
        if phase != "Active" {
            let detail = "may only be 'Active' if `deletionTimestamp` is empty";
            errors.invalid(&path, phase, detail);
        }
    } else if phase != "Terminating" {
        let detail = "may only be 'Terminating' if `deletionTimestamp` is not empty";
        errors.invalid(&path, phase, detail);
    }
}
