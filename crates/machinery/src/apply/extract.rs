//! The set of fields that an object has.

use std::collections::BTreeMap;

use serde_json::Value;

use super::path::PathElement;
use super::set::FieldSet;
use super::shape::{Shape, child, element, items, shape};
use crate::schema::Schema;

/// The paths of all leaves and of all list elements of an object.
pub fn field_set(value: &Value, schema: &Schema) -> FieldSet {
    let mut set = FieldSet::new();
    walk(value, schema, &mut Vec::new(), &mut set);
    set
}

fn walk(value: &Value, schema: &Schema, path: &mut Vec<PathElement>, set: &mut FieldSet) {
    match (shape(schema, value), value) {
        (Shape::Map, Value::Object(map)) => {
            for (key, value) in map {
                path.push(PathElement::field(key));
                walk(value, child(schema, key), path, set);
                let empty = value.as_object().is_some_and(serde_json::Map::is_empty);
                if value.is_null() || empty || schema.property(key).is_none() {
                    set.insert(path);
                }
                path.pop();
            }
        }
        (Shape::List, Value::Array(list)) => {
            let names: Vec<_> = list.iter().map(|item| element(schema, item).ok()).collect();
            let mut counts: BTreeMap<&PathElement, usize> = BTreeMap::new();
            for name in names.iter().flatten() {
                *counts.entry(name).or_default() += 1;
            }
            for (item, name) in list.iter().zip(&names) {
                let Some(name) = name else { continue };
                let twice = counts.get(name).is_some_and(|count| *count > 1);
                path.push(name.clone());
                // Elements that cannot be told apart are owned together, as one value.
                if !twice {
                    walk(item, items(schema), path, set);
                }
                set.insert(path);
                path.pop();
            }
        }
        (Shape::Leaf, _) => set.insert(path),
        _ => {}
    }
}
