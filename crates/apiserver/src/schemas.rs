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
pub(crate) fn check(kind: &dyn AnyKind, object: &mut Object, duplicates: &[String]) -> FieldReport {
    let schema = of(kind);
    let value = Value::Object(std::mem::take(&mut object.0));
    let report = validate_fields(&value, schema.as_ref().unwrap_or(Schema::any()), duplicates);
    if let Value::Object(tree) = value {
        object.0 = tree;
    }
    report
}
