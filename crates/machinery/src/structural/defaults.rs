//! Fills what is missing, and removes nulls that say nothing.
//!
//! Behaviour: `.../schema/defaulting/{algorithm,prunenulls}.go`.

use serde_json::Value;

use super::{Additional, Structural};

/// Removes nulls where the schema allows none and has no default to put there.
pub fn drop_nulls(value: &mut Value, schema: Option<&Structural>) {
    match value {
        Value::Object(map) => map.retain(|key, value| {
            let schema = schema.and_then(|s| s.child(key));
            let dropped = value.is_null()
                && schema.is_some_and(|s| !s.nullable && s.default_value().is_none());
            if !dropped {
                drop_nulls(value, schema);
            }
            !dropped
        }),
        Value::Array(items) => {
            let schema = schema.and_then(|s| s.items.as_deref());
            items.iter_mut().for_each(|item| drop_nulls(item, schema));
        }
        _ => {}
    }
}

/// Fills defaults.
pub fn fill_defaults(value: &mut Value, schema: &Structural) {
    match value {
        Value::Object(map) => {
            for (key, property) in &schema.properties {
                let Some(default) = property.default_value() else {
                    continue;
                };
                match map.get_mut(&**key) {
                    None => drop(map.insert(key.to_string(), default.clone())),
                    Some(there) => default_null(there, property),
                }
            }
            for (key, value) in map {
                if let Some(property) = schema.properties.get(key.as_str()) {
                    fill_defaults(value, property);
                } else if let Some(Additional::Schema(additional)) = &schema.additional {
                    default_null(value, additional);
                    fill_defaults(value, additional);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = schema.items.as_deref() else {
                return;
            };
            for item in items {
                default_null(item, schema);
                fill_defaults(item, schema);
            }
        }
        _ => {}
    }
}

fn default_null(value: &mut Value, schema: &Structural) {
    if value.is_null()
        && !schema.nullable
        && let Some(default) = schema.default_value()
    {
        *value = default.clone();
    }
}
