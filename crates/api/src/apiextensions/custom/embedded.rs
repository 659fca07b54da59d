//! The metadata of an object, and of objects inside of it.
//!
//! Behaviour: `.../apiserver/schema/objectmeta`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use machinery::schema::{self, Schema, validate_fields};
use machinery::structural::Structural;
use machinery::{ErrorList, Path, names};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::meta;

/// What was wrong with metadata: fields that it does not have (they are removed), and the first of a wrong type.
#[derive(Default)]
pub(super) struct Found {
    pub(super) unknown: Vec<String>,
    pub(super) type_error: Option<String>,
}

impl Found {
    /// Looks at the metadata of the root and of every embedded object.
    pub(super) fn clean(&mut self, object: &mut Map<String, Value>, schema: &Structural) {
        self.metadata(object, "");
        for (key, value) in object {
            if let Some(schema) = schema.child(key) {
                self.value(value, schema, key);
            }
        }
    }

    fn value(&mut self, value: &mut Value, schema: &Structural, path: &str) {
        match value {
            Value::Object(map) => {
                if schema.embedded {
                    self.metadata(map, path);
                }
                for (key, value) in map {
                    if let Some(schema) = schema.child(key) {
                        self.value(value, schema, &format!("{path}.{key}"));
                    }
                }
            }
            Value::Array(items) => {
                let Some(schema) = schema.items.as_deref() else {
                    return;
                };
                for (index, item) in items.iter_mut().enumerate() {
                    self.value(item, schema, &format!("{path}[{index}]"));
                }
            }
            _ => {}
        }
    }

    fn metadata(&mut self, object: &mut Map<String, Value>, path: &str) {
        let Some(metadata) = object.get_mut("metadata") else {
            return;
        };
        if metadata.is_null() {
            object.remove("metadata");
            return;
        }
        without_nulls(metadata);
        let of_meta = crate::schema::object_meta();
        let of_meta = of_meta.as_ref().unwrap_or(Schema::any());
        let report = validate_fields(metadata, of_meta, &[]);
        let prefix = match path {
            "" => "metadata.".to_owned(),
            path => format!("{path}.metadata."),
        };
        let unknown = report.unknown.iter();
        self.unknown
            .extend(unknown.filter_map(|u| Some(format!("{prefix}{}", quoted(u)?))));
        if self.type_error.is_none() {
            self.type_error = report.type_error;
        }
        schema::prune(metadata, of_meta);
    }
}

/// The field in `unknown field "a.b"`.
fn quoted(complaint: &str) -> Option<&str> {
    complaint
        .strip_prefix("unknown field \"")?
        .strip_suffix('"')
}

/// A null in metadata is the absence of a field.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// Everything wrong with types and metadata of embedded objects.
pub(super) fn validate(errors: &mut ErrorList, path: &Path, value: &Value, schema: &Structural) {
    match value {
        Value::Object(map) => {
            if schema.embedded {
                resource(errors, path, map);
            }
            for (key, value) in map {
                if let Some(property) = schema.properties.get(key.as_str()) {
                    validate(errors, &path.child(key), value, property);
                } else if let Some(additional) = schema.child(key) {
                    validate(errors, &path.key(key), value, additional);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.items.as_deref() {
                for (index, item) in items.iter().enumerate() {
                    validate(errors, &path.index(index), item, schema);
                }
            }
        }
        _ => {}
    }
}

fn resource(errors: &mut ErrorList, path: &Path, object: &Map<String, Value>) {
    for key in ["apiVersion", "kind"] {
        let at = path.child(key);
        match object.get(key) {
            None => errors.required(&at, ""),
            Some(Value::String(text)) if text.is_empty() => {
                errors.invalid(&at, "", "must not be empty");
            }
            Some(Value::String(text)) if key == "apiVersion" => {
                if text.matches('/').count() > 1 {
                    let why = format!("unexpected GroupVersion string: {text}");
                    errors.invalid(&at, text.as_str(), why);
                }
            }
            Some(Value::String(text)) => {
                let problems = names::dns1035_label(&text.to_lowercase());
                if !problems.is_empty() {
                    let why = "may have mixed case, but should otherwise match: ";
                    errors.invalid(&at, text.as_str(), format!("{why}{}", problems.join(",")));
                }
            }
            Some(other) => errors.invalid(&at, other.clone(), "must be a string"),
        }
    }
    let at = path.child("metadata");
    let Some(metadata) = object.get("metadata") else {
        return;
    };
    match ObjectMeta::deserialize(metadata) {
        Err(error) => errors.invalid(&at, metadata.clone(), error.to_string()),
        Ok(mut metadata) => {
            metadata.name.get_or_insert_with(|| "fakename".to_owned());
            let namespaced = metadata.namespace.as_deref().is_some_and(|n| !n.is_empty());
            let name = crate::kind::path_segment;
            errors.append(meta::new_metadata(&metadata, namespaced, &name, &at));
        }
    }
}
