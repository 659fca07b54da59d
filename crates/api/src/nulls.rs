//! What `null` means in an object: a field that is null is absent and is not kept. In maps and lists there is no absence;
//! there it is the empty value of the type, as in `labels: {app: }`. What the schema does not know stays as it is.

use machinery::Object;
use machinery::schema::{Kind, Schema};
use serde_json::{Map, Value, json};

use crate::kind::Names;
use crate::schema;

/// Removes the fields that are null and puts the empty value of its type in place of every null in a map or a list.
pub(crate) fn settle(object: &mut Object, names: &Names) {
    if !object.0.values().any(has_null) {
        return; // Nearly always.
    }
    let Some(schema) = schema::of_kind(names.group, names.version, names.kind) else {
        return;
    };
    fields(&mut object.0, &schema);
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.iter().any(has_null),
        Value::Object(map) => map.values().any(has_null),
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
