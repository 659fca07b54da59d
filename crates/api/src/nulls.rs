//! What is read as something else than it says.
//!
//! A field that is null is absent and is not kept. In maps and lists there is no absence; there null is the empty value of
//! the type, as in `labels: {app: }`. Line breaks in base64 say nothing. What the schema does not know stays as it is.

use machinery::Object;
use machinery::schema::{Format, Kind, Schema};
use serde_json::{Map, Value, json};

use crate::kind::Names;
use crate::schema;

const LINE_BREAKS: [char; 2] = ['\n', '\r'];

/// Removes the fields that are null and line breaks in base64, and puts the empty value of its type in place of every null
/// in a map or a list.
pub(crate) fn settle(object: &mut Object, names: &Names) {
    if !object.0.values().any(is_odd) {
        return; // Nearly always.
    }
    let Some(schema) = schema::of_kind(names.group, names.version, names.kind) else {
        return;
    };
    fields(&mut object.0, &schema);
}

/// Kinds whose conditions nobody validates: one without a time is kept, as upstream does. Their types here know no condition
/// without a time, so it gets the beginning of all times.
const CONDITIONS_AS_THEY_COME: &[&str] = &["Service", "ServiceCIDR"];

/// Kinds whose conditions must have a time: one without has Go's beginning of all times, which is refused as none.
const CONDITIONS_WITH_TIMES: &[&str] = &[
    "DeviceTaintRule",
    "PodCertificateRequest",
    "PodDisruptionBudget",
    "StorageVersionMigration",
    "ValidatingAdmissionPolicy",
];

/// The time that stands for none in Go.
pub(crate) const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// Gives conditions the time that their type asks for.
pub(crate) fn settle_conditions(object: &mut Object, names: &Names) {
    if names.group == "events.k8s.io" {
        return settle_series(object);
    }
    let time = match names.kind {
        kind if CONDITIONS_AS_THEY_COME.contains(&kind) => "1970-01-01T00:00:00Z",
        kind if CONDITIONS_WITH_TIMES.contains(&kind) => NO_TIME,
        _ => return,
    };
    let status = object.0.get_mut("status").and_then(Value::as_object_mut);
    let conditions = status.and_then(|status| status.get_mut("conditions"));
    for condition in conditions
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(condition) = condition.as_object_mut() {
            let there = condition.entry("lastTransitionTime");
            there.or_insert_with(|| json!(time));
        }
    }
}

/// The series of an event has a time; one without is refused as none.
fn settle_series(object: &mut Object) {
    let series = object.0.get_mut("series").and_then(Value::as_object_mut);
    if let Some(series) = series {
        let there = series.entry("lastObservedTime");
        there.or_insert_with(|| json!("0001-01-01T00:00:00.000000Z"));
    }
}

fn is_odd(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.contains(LINE_BREAKS),
        Value::Array(list) => list.iter().any(is_odd),
        Value::Object(map) => map.values().any(is_odd),
        _ => false,
    }
}

fn fields(map: &mut Map<String, Value>, schema: &Schema) {
    map.retain(|key, value| !value.is_null() || schema.property(key).is_none());
    for (key, value) in map {
        match (schema.property(key), schema.additional()) {
            (Some(field), _) => walk(value, field),
            (None, Some(values)) => element(value, values),
            (None, None) => {}
        }
    }
}

fn walk(value: &mut Value, schema: &Schema) {
    match value {
        Value::Array(list) => {
            let Some(items) = schema.items() else { return };
            list.iter_mut().for_each(|value| element(value, items));
        }
        Value::Object(map) => fields(map, schema),
        Value::String(text) if schema.format() == Format::Byte => {
            text.retain(|c| !LINE_BREAKS.contains(&c))
        }
        _ => {}
    }
}

fn element(value: &mut Value, schema: &Schema) {
    if !value.is_null() {
        return walk(value, schema);
    }
    *value = match schema.kind() {
        Kind::Any => Value::Null,
        Kind::Object => json!({}),
        Kind::Array => json!([]),
        Kind::String => json!(""),
        Kind::Integer | Kind::Number | Kind::IntOrString => json!(0),
        Kind::Boolean => json!(false),
        Kind::Quantity => json!("0"),
    };
}

#[cfg(test)]
mod tests;
