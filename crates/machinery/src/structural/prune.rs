//! Removes the fields that the schema does not have.
//!
//! Behaviour: `.../schema/pruning/algorithm.go`.

use serde_json::{Map, Value};

use super::{Additional, META_FIELDS, Structural};

/// Removes unknown fields of an object (`root`: its type and metadata stay, whatever the schema says) and gives their paths,
/// sorted.
pub fn prune(value: &mut Value, schema: &Structural, root: bool) -> Vec<String> {
    let mut walk = Walk {
        path: String::new(),
        unknown: Vec::new(),
    };
    match value {
        Value::Object(map) if root => walk.object(map, Some(schema), true, schema.preserve_unknown),
        value => walk.value(value, Some(schema)),
    }
    walk.unknown.sort();
    walk.unknown
}

/// As many unknown fields are told; the rest is removed silently.
const MAX_TOLD: usize = 1000;

struct Walk {
    path: String,
    unknown: Vec<String>,
}

impl Walk {
    fn value(&mut self, value: &mut Value, schema: Option<&Structural>) {
        self.kept(value, schema, false);
    }

    /// `keep`: what surrounds the value keeps unknown fields, so that it does too.
    fn kept(&mut self, value: &mut Value, schema: Option<&Structural>, keep: bool) {
        let keep = keep || schema.is_some_and(|s| s.preserve_unknown);
        match value {
            Value::Object(map) => {
                self.object(map, schema, schema.is_some_and(|s| s.embedded), keep);
            }
            Value::Array(items) => {
                let element = schema.and_then(|s| s.items.as_deref());
                if keep && element.is_none() {
                    return;
                }
                for (index, item) in items.iter_mut().enumerate() {
                    let segment = format!("[{index}]");
                    self.below(&segment, "", |walk| walk.kept(item, element, keep));
                }
            }
            _ => {}
        }
    }

    fn object(
        &mut self,
        map: &mut Map<String, Value>,
        schema: Option<&Structural>,
        embedded: bool,
        keep: bool,
    ) {
        map.retain(|key, value| {
            if embedded && META_FIELDS.contains(&key.as_str()) {
                return true;
            }
            let property = schema.and_then(|s| s.properties.get(key.as_str()));
            match (property, schema.and_then(|s| s.additional.as_ref())) {
                (Some(property), _) => {
                    self.below(key, ".", |walk| walk.value(value, Some(property)))
                }
                (None, Some(Additional::Schema(additional))) => {
                    self.below(key, ".", |walk| walk.value(value, Some(additional)));
                }
                // What stands in a map of anything has no schema: its own fields are unknown.
                (None, Some(Additional::Bool(_))) => {
                    self.below(key, ".", |walk| walk.value(value, None));
                }
                (None, None) if keep => {}
                (None, None) => {
                    self.tell(key);
                    return false;
                }
            }
            true
        });
    }

    fn below(&mut self, segment: &str, separator: &str, act: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        if length > 0 {
            self.path.push_str(separator);
        }
        self.path.push_str(segment);
        act(self);
        self.path.truncate(length);
    }

    fn tell(&mut self, key: &str) {
        if self.unknown.len() >= MAX_TOLD {
            return;
        }
        let dot = if self.path.is_empty() { "" } else { "." };
        self.unknown.push(format!("{}{dot}{key}", self.path));
    }
}
