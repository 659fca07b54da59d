//! The schema of a kind, as the road uses it.

use api::AnyKind;
use machinery::Object;
use machinery::schema::{FieldReport, Schema, validate_fields};
use serde_json::Value;

/// The schema of a kind.
pub(crate) fn of(kind: &dyn AnyKind) -> Option<Schema> {
    let names = kind.names();
    api::schema::of_kind(names.group, names.version, names.kind)
}

/// What is wrong with the fields of an object, before it is looked at as its kind.
pub(crate) fn check(kind: &dyn AnyKind, object: &Object, duplicates: &[String]) -> FieldReport {
    let value = Value::Object(object.0.clone());
    match of(kind) {
        Some(schema) => validate_fields(&value, &schema, duplicates),
        None => validate_fields(&value, Schema::any(), duplicates),
    }
}
