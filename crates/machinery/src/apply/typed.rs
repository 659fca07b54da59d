//! Does a configuration fit the schema; the wording of `sigs.k8s.io/structured-merge-diff`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::path::PathElement;
use super::shape::{child, element, items};
use crate::schema::{Kind, ListType, Schema};
use crate::value::{go_display, go_type};

/// What does not fit, as one text; none if all fits.
pub(super) fn check(value: &Value, schema: &Schema) -> Result<(), String> {
    let mut errors = Vec::new();
    walk(value, schema, "", &mut errors);
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("errors:\n  {}", many.join("\n  "))),
    }
}

fn walk(value: &Value, schema: &Schema, path: &str, errors: &mut Vec<String>) {
    let mut fail = |why: String| {
        let colon = if path.is_empty() { "" } else { ": " };
        errors.push(format!("{path}{colon}{why}"));
    };
    match (schema.kind(), value) {
        (_, Value::Null) => {}
        (Kind::Object, Value::Object(map)) => {
            for (key, value) in map {
                let path = format!("{path}.{key}");
                if schema.child(key).is_none() {
                    errors.push(format!("{path}: field not declared in schema"));
                    // The walk of the reference ends here too.
                    return;
                }
                walk(value, child(schema, key), &path, errors);
            }
        }
        (Kind::Array, Value::Array(list)) => elements(list, schema, path, errors),
        (Kind::Object, other) => fail(format!("expected map, got &{{{}}}", go_display(other))),
        (Kind::Array, other) => fail(format!("expected list, got &{{{}}}", go_display(other))),
        (Kind::String, other) if !other.is_string() => {
            fail(format!(
                "expected string, got &value.valueUnstructured{{Value:{}}}",
                go_display(other)
            ));
        }
        (Kind::Integer | Kind::Number, other) if !other.is_number() => {
            let kind = go_type(other);
            fail(format!("expected numeric (int or float), got {kind}"));
        }
        (Kind::Boolean, other) if !other.is_boolean() => {
            fail(format!("expected boolean, got &{{{}}}", go_display(other)));
        }
        (Kind::IntOrString | Kind::Quantity, Value::Array(_) | Value::Object(_)) => {
            fail(format!(
                "expected any scalar, got &{{{}}}",
                go_display(value)
            ));
        }
        _ => {}
    }
}

fn elements(list: &[Value], schema: &Schema, path: &str, errors: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (index, item) in list.iter().enumerate() {
        let name = if schema.list_type() == ListType::Atomic {
            PathElement::Index(i64::try_from(index).unwrap_or(i64::MAX))
        } else {
            match element(schema, item) {
                Ok(name) => name,
                Err(why) => {
                    errors.push(format!("{path}: element {index}: {why}"));
                    return;
                }
            }
        };
        let below = format!("{path}{name}");
        if !seen.insert(name.clone()) {
            errors.push(format!("{path}: duplicate entries for key {name}"));
        }
        walk(item, items(schema), &below, errors);
    }
}
