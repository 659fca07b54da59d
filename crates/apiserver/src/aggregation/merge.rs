//! One OpenAPI document (version 2) of two: what both have and means something else gets another name.
//!
//! Behaviour: `k8s.io/kube-openapi/pkg/aggregator` (`MergeSpecsIgnorePathConflictRenamingDefinitionsAndParameters`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// The parts of a document that are referred to.
const SHARED: [&str; 2] = ["definitions", "parameters"];

/// Adds the paths of another document, and what they refer to. Paths that are there stay as they are.
pub(crate) fn merge(into: &mut Value, other: &Value) {
    let mut other = other.clone();
    let known = into["paths"].as_object().cloned().unwrap_or_default();
    if let Some(paths) = other["paths"].as_object_mut() {
        paths.retain(|path, _| !known.contains_key(path));
    }
    let used = used(&other);
    for part in SHARED {
        if let Some(all) = other[part].as_object_mut() {
            all.retain(|name, _| used.contains(&reference(part, name)));
        }
    }
    let renamed = conflicts(into, &other);
    rename(&mut other, &renamed);
    for part in SHARED {
        let Some(Value::Object(all)) = other.get_mut(part).map(Value::take) else {
            continue;
        };
        let at = object(into, part);
        for (name, value) in all {
            let new = renamed.get(&reference(part, &name));
            let name = match new.and_then(|r| r.rsplit('/').next()) {
                Some(new) => new.to_owned(),
                None => name,
            };
            at.entry(name).or_insert(value);
        }
    }
    if let Some(Value::Object(paths)) = other.get_mut("paths").map(Value::take) {
        object(into, "paths").extend(paths);
    }
}

fn object<'a>(document: &'a mut Value, part: &str) -> &'a mut Map<String, Value> {
    if !document[part].is_object() {
        document[part] = Value::Object(Map::new());
    }
    document[part].as_object_mut().expect("it was made one")
}

fn reference(part: &str, name: &str) -> String {
    format!("#/{part}/{name}")
}

/// What the paths refer to, directly or by way of others.
fn used(document: &Value) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    let mut new = references(&document["paths"]);
    while let Some(next) = new.pop() {
        if !used.insert(next.clone()) {
            continue;
        }
        if let Some((part, name)) = next.trim_start_matches("#/").split_once('/') {
            new.extend(references(&document[part][name]));
        }
    }
    used
}

fn references(value: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = vec![value];
    while let Some(next) = rest.pop() {
        match next {
            Value::Object(map) => {
                if let Some(Value::String(to)) = map.get("$ref") {
                    out.push(to.clone());
                }
                rest.extend(map.values());
            }
            Value::Array(all) => rest.extend(all),
            _ => {}
        }
    }
    out
}

/// New names for what both documents have and is not the same.
fn conflicts(into: &Value, other: &Value) -> BTreeMap<String, String> {
    let mut renamed = BTreeMap::new();
    for part in SHARED {
        let all = other[part].as_object();
        for (name, value) in all.into_iter().flatten() {
            let (mut candidate, mut number) = (name.clone(), 2);
            while let Some(known) = into[part].get(&candidate) {
                if known == value {
                    break;
                }
                candidate = format!("{name}_v{number}");
                number += 1;
            }
            if candidate != *name {
                renamed.insert(reference(part, name), reference(part, &candidate));
            }
        }
    }
    renamed
}

fn rename(value: &mut Value, renamed: &BTreeMap<String, String>) {
    if renamed.is_empty() {
        return;
    }
    match value {
        Value::Object(map) => {
            if let Some(Value::String(to)) = map.get_mut("$ref")
                && let Some(new) = renamed.get(to)
            {
                to.clone_from(new);
            }
            map.values_mut().for_each(|v| rename(v, renamed));
        }
        Value::Array(all) => all.iter_mut().for_each(|v| rename(v, renamed)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_means_something_else_gets_another_name() {
        let mut into = json!({"paths": {"/a": {"$ref": "#/definitions/A"}}, "definitions": {
            "A": {"type": "string"}, "B": {"type": "integer"},
        }});
        let other = json!({"paths": {"/a": {}, "/b": {"$ref": "#/definitions/A"}}, "definitions": {
            "A": {"type": "object", "properties": {"b": {"$ref": "#/definitions/B"}}},
            "B": {"type": "integer"}, "Unused": {},
        }});
        merge(&mut into, &other);
        let wanted = json!({
            "paths": {"/a": {"$ref": "#/definitions/A"}, "/b": {"$ref": "#/definitions/A_v2"}},
            "definitions": {
                "A": {"type": "string"}, "B": {"type": "integer"},
                "A_v2": {"type": "object", "properties": {"b": {"$ref": "#/definitions/B"}}},
            },
        });
        assert_eq!(into, wanted);
    }
}
