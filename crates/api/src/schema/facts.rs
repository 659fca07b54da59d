//! Reads `facts.txt` and writes its facts into JSON schemas as `x-kubernetes-` extensions.
//!
//! A line without indent names a definition, the indented lines below it its fields (`.` is the definition itself):
//! `atomic`, `set` and `map=key,key` are list types, `map-atomic` and `map-granular` map types, `patch=` and `key=` the
//! strategy and merge key of strategic merge patch, `default=` and `enum=` JSON values, `required=` the required fields
//! where the crate has others, `union=discriminator:field/Value,..` a union.
//!
//! `go.txt` is read alike: `go=` is Go's type of a field where that is not what its JSON type suggests, `in=` the structs
//! that Go embeds between, `unset=` what Go's encoder writes for a field that is not set (nothing: it leaves the field out)
//! where that is not what the schema suggests. All were taken from the types of `k8s.io/api`.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

const FACTS: &str = include_str!("facts.txt");
const GO: &str = include_str!("go.txt");

/// The lines about each definition.
pub(super) fn sections() -> HashMap<&'static str, Vec<&'static str>> {
    sections_of(FACTS)
}

fn sections_of(text: &'static str) -> HashMap<&'static str, Vec<&'static str>> {
    let mut sections: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut name = "";
    for line in text.lines() {
        match line.strip_prefix("  ") {
            Some(fact) => sections.entry(name).or_default().push(fact),
            None => name = line,
        }
    }
    sections
}

/// Adds what the table knows about these definitions.
pub(super) fn add(definitions: &mut Map<String, Value>) {
    let sections = sections();
    for (name, definition) in definitions {
        for line in sections.get(name.as_str()).into_iter().flatten() {
            let mut words = line.split(' ');
            let target = match words.next() {
                Some(".") => Some(&mut *definition),
                Some(field) => definition
                    .get_mut("properties")
                    .and_then(|p| p.get_mut(field)),
                None => None,
            };
            if let Some(Value::Object(target)) = target {
                words.for_each(|word| fact(target, word));
            }
        }
    }
}

/// Adds what decoding errors tell of Go's types and JSON schema does not: the names of types that are plain texts and
/// maps to JSON, and of the types between an object and a field; and what stands for fields that are not set. No document
/// shows these.
pub(super) fn add_go(definitions: &mut Map<String, Value>) {
    let sections = sections_of(GO);
    for (name, definition) in definitions {
        for line in sections.get(name.as_str()).into_iter().flatten() {
            let (field, words) = line.split_once(' ').unwrap_or((line, ""));
            let Some(Value::Object(field)) = definition
                .get_mut("properties")
                .and_then(|p| p.get_mut(field))
            else {
                continue;
            };
            for word in words.split(' ') {
                match word.split_once('=') {
                    Some(("go", go)) => go_type(field, go),
                    Some(("unset", zero)) => drop(field.insert("x-go-unset".into(), zero.into())),
                    Some((_, within)) => drop(field.insert("x-go-embedded".into(), within.into())),
                    None => {}
                }
            }
        }
    }
}

fn go_type(field: &mut Map<String, Value>, go: &str) {
    field.insert("x-go-type".into(), go.into());
    let inner = match go.split_once(']') {
        Some(("[", inner)) => field.get_mut("items").map(|items| (items, inner)),
        Some((_, inner)) => field
            .get_mut("additionalProperties")
            .map(|values| (values, inner)),
        None => None,
    };
    if let Some((Value::Object(inside), inner)) = inner {
        go_type(inside, inner);
    }
}

/// Writes one fact.
fn fact(target: &mut Map<String, Value>, word: &str) {
    let mut put = |key: &str, value: Value| {
        let key = match key {
            "default" | "enum" | "required" => key.to_owned(),
            _ => format!("x-kubernetes-{key}"),
        };
        target.insert(key, value);
    };
    match word.split_once('=').unwrap_or((word, "")) {
        ("map", keys) => {
            put("list-type", "map".into());
            put("list-map-keys", keys.split(',').collect());
        }
        ("map-atomic", _) => put("map-type", "atomic".into()),
        ("map-granular", _) => put("map-type", "granular".into()),
        ("patch", strategy) => put("patch-strategy", strategy.into()),
        ("key", key) => put("patch-merge-key", key.into()),
        (key @ ("default" | "enum"), text) => {
            if let Ok(value) = serde_json::from_str(text) {
                put(key, value);
            }
        }
        ("required", "") => {
            target.remove("required");
        }
        ("required", fields) => put("required", fields.split(',').collect()),
        ("union", text) => put("unions", json!([union(text)])),
        (list_type, _) => put("list-type", list_type.into()),
    }
}

fn union(text: &str) -> Value {
    let (discriminator, fields) = text.split_once(':').unwrap_or(("", text));
    let fields = fields.split(',').filter_map(|pair| pair.split_once('/'));
    let fields: Map<String, Value> = fields.map(|(f, v)| (f.to_owned(), v.into())).collect();
    let mut union = json!({"fields-to-discriminateBy": fields});
    if !discriminator.is_empty() {
        union["discriminator"] = discriminator.into();
    }
    union
}
