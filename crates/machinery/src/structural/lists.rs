//! Elements of sets and list maps must be distinct.
//!
//! Behaviour: `.../schema/listtype/validation.go`.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::Structural;
use crate::schema::ListType;
use crate::{ErrorList, Path};

/// Every element that repeats one before it.
pub fn list_duplicates(value: &Value, schema: &Structural) -> ErrorList {
    let mut errors = ErrorList::new();
    walk(&mut errors, &Path::default(), value, schema);
    errors
}

fn walk(errors: &mut ErrorList, path: &Path, value: &Value, schema: &Structural) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if let Some(property) = schema.properties.get(key.as_str()) {
                    walk(errors, &path.child(key), value, property);
                } else if let Some(additional) = schema.child(key) {
                    walk(errors, &path.key(key), value, additional);
                }
            }
        }
        Value::Array(items) => {
            match schema.list_type {
                ListType::Set => {
                    for index in repeated(items) {
                        errors.duplicate(&path.index(index), items[index].clone());
                    }
                }
                ListType::Map => map_keys(errors, path, items, schema),
                ListType::Atomic => {}
            }
            if let Some(schema) = schema.items.as_deref() {
                for (index, item) in items.iter().enumerate() {
                    walk(errors, &path.index(index), item, schema);
                }
            }
        }
        _ => {}
    }
}

fn map_keys(errors: &mut ErrorList, path: &Path, items: &[Value], schema: &Structural) {
    let strange = |item: &Value| !item.is_object() && !item.is_null();
    if let Some(index) = items.iter().position(strange) {
        let why = "must be an object for an array of list-type map";
        return errors.invalid(&path.index(index), items[index].clone(), why);
    }
    let keys: Vec<Value> = items.iter().map(|item| key_of(item, schema)).collect();
    for index in repeated(&keys) {
        errors.duplicate(&path.index(index), keys[index].clone());
    }
}

/// The key fields of an element, those that it has.
fn key_of(item: &Value, schema: &Structural) -> Value {
    let mut key = Map::new();
    for name in schema.list_map_keys() {
        if let Some(value) = item.get(&**name) {
            key.insert(name.to_string(), value.clone());
        }
    }
    Value::Object(key)
}

/// The first repetition of each value that occurs more than once.
fn repeated(items: &[Value]) -> Vec<usize> {
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(items.len());
    let mut found = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let times = seen.entry(item.to_string()).or_default();
        *times += 1;
        if *times == 2 {
            found.push(index);
        }
    }
    found
}
