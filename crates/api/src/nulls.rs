//! What `null` means as a value of a map or an element of a list: the empty value of the type, as in `labels: {app: }`.
//!
//! A field that is null is absent. In maps and lists there is no absence, and a typed reader takes null for the zero value
//! of the type, as Go's reader does.

use machinery::Object;
use machinery::schema::{Kind, Schema};
use serde_json::{Value, json};

use crate::kind::Names;
use crate::schema;

/// Puts the empty value of its type in place of every null in a map or a list.
pub(crate) fn settle(object: &mut Object, names: &Names) {
    if !object.0.values().any(has_null) {
        return; // Nearly always.
    }
    let Some(schema) = schema::of_kind(names.group, names.version, names.kind) else {
        return;
    };
    for (key, value) in &mut object.0 {
        if let Some(schema) = schema.property(key) {
            walk(value, schema);
        }
    }
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.iter().any(has_null),
        Value::Object(map) => map.values().any(has_null),
        _ => false,
    }
}

fn walk(value: &mut Value, schema: &Schema) {
    match value {
        Value::Array(list) => {
            let Some(items) = schema.items() else { return };
            list.iter_mut().for_each(|value| element(value, items));
        }
        Value::Object(map) => {
            for (key, value) in map {
                match (schema.property(key), schema.additional()) {
                    (Some(field), _) => walk(value, field),
                    (None, Some(values)) => element(value, values),
                    (None, None) => {}
                }
            }
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
