//! The definitions in use.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, RwLock};

use serde_json::{Map, Value};

use super::{Definition, Schema, parse};

/// Gives the JSON schemas of a definition and of all that it refers to, by name; none if the name is unknown.
pub type Source = fn(&str) -> Option<Map<String, Value>>;

/// Builds definitions when they are first asked for, and keeps them.
#[derive(Debug)]
pub struct Registry {
    source: Source,
    definitions: RwLock<HashMap<Box<str>, Arc<Definition>>>,
}

impl Registry {
    /// A registry over this source.
    pub fn new(source: Source) -> Self {
        Self {
            source,
            definitions: RwLock::default(),
        }
    }

    /// The definition of this name, for example `io.k8s.api.apps.v1.Deployment`: a reference that resolves to it.
    pub fn get(&self, name: &str) -> Option<Schema> {
        if let Some(known) = self.known(name) {
            return Some(known);
        }
        self.add((self.source)(name)?);
        self.known(name)
    }

    /// The same, of those that were built already.
    pub fn known(&self, name: &str) -> Option<Schema> {
        let all = self.definitions.read().unwrap_or_else(|e| e.into_inner());
        Some(Schema {
            reference: Some(all.get(name)?.clone()),
            ..Schema::default()
        })
    }

    /// Reads a schema that is not of the source and refers to definitions of it; a definition of its own, which lives as
    /// long as it is used.
    pub fn read(&self, name: &str, json: &Value) -> Schema {
        let definition = Definition {
            name: name.into(),
            schema: OnceLock::new(),
        };
        let lookup = |name: &str| self.get(name).and_then(|s| s.reference);
        definition
            .schema
            .get_or_init(|| parse::schema(json, &lookup));
        Schema {
            reference: Some(Arc::new(definition)),
            ..Schema::default()
        }
    }

    /// How many definitions have been built.
    pub fn len(&self) -> usize {
        let all = self.definitions.read().unwrap_or_else(|e| e.into_inner());
        all.len()
    }

    /// Whether nothing has been asked for yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn add(&self, json: Map<String, Value>) {
        let mut all = self.definitions.write().unwrap_or_else(|e| e.into_inner());
        for name in json.keys() {
            all.entry(name.as_str().into()).or_insert_with(|| {
                Arc::new(Definition {
                    name: name.as_str().into(),
                    schema: OnceLock::new(),
                })
            });
        }
        for (name, json) in &json {
            let Some(definition) = all.get(name.as_str()) else {
                continue;
            };
            definition.schema.get_or_init(|| {
                let mut schema = parse::schema(json, &|other| all.get(other).cloned());
                parse::adjust(name, &mut schema);
                schema
            });
        }
    }
}
