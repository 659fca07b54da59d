//! One API object: a JSON tree with accessors for the metadata that every kind shares.
//!
//! The tree is the truth on the request road (decision 6): unknown fields and fields that are present but empty survive.
//! Typed structs are views made from it with [`Object::view`].

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Group, version and kind of an object, for example `apps/v1, Kind=Deployment`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionKind {
    /// API group; empty for the core group.
    pub group: String,
    /// Version inside the group.
    pub version: String,
    /// Kind, in CamelCase.
    pub kind: String,
}

/// Group, version and plural resource name, for example `apps/v1, Resource=deployments`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionResource {
    /// API group; empty for the core group.
    pub group: String,
    /// Version inside the group.
    pub version: String,
    /// Plural resource name, lower case.
    pub resource: String,
}

/// An API object as a tree.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object(pub Map<String, Value>);

/// The order of the first keys in an encoded object; the rest follow alphabetically.
const LEADING_KEYS: [&str; 3] = ["kind", "apiVersion", "metadata"];

impl Object {
    /// Takes a JSON value; anything but an object is given back.
    pub fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::Object(map) => Ok(Self(map)),
            other => Err(other),
        }
    }

    /// The tree as a JSON value.
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// `apiVersion`, empty when absent.
    pub fn api_version(&self) -> &str {
        self.0
            .get("apiVersion")
            .and_then(Value::as_str)
            .unwrap_or("")
    }

    /// `kind`, empty when absent.
    pub fn kind(&self) -> &str {
        self.0.get("kind").and_then(Value::as_str).unwrap_or("")
    }

    /// Sets `apiVersion` and `kind`.
    pub fn set_type(&mut self, api_version: &str, kind: &str) {
        self.0.insert("apiVersion".into(), api_version.into());
        self.0.insert("kind".into(), kind.into());
    }

    /// `metadata`, if it is an object.
    pub fn metadata(&self) -> Option<&Map<String, Value>> {
        self.0.get("metadata").and_then(Value::as_object)
    }

    /// `metadata`, made when absent or not an object.
    pub fn metadata_mut(&mut self) -> &mut Map<String, Value> {
        object_mut(&mut self.0, "metadata")
    }

    /// A string of the metadata, empty when absent.
    pub fn meta_str(&self, key: &str) -> &str {
        self.metadata()
            .and_then(|m| m.get(key))
            .and_then(Value::as_str)
            .unwrap_or("")
    }

    /// Sets a string of the metadata; an empty string removes the key.
    pub fn set_meta_str(&mut self, key: &str, value: &str) {
        let metadata = self.metadata_mut();
        if value.is_empty() {
            metadata.remove(key);
        } else {
            metadata.insert(key.into(), value.into());
        }
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.meta_str("name")
    }

    /// `metadata.namespace`, empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.meta_str("namespace")
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        self.meta_str("uid")
    }

    /// `metadata.resourceVersion`.
    pub fn resource_version(&self) -> &str {
        self.meta_str("resourceVersion")
    }

    /// `metadata.generation`, 0 when absent.
    pub fn generation(&self) -> i64 {
        self.metadata()
            .and_then(|m| m.get("generation"))
            .and_then(Value::as_i64)
            .unwrap_or(0)
    }

    /// `metadata.deletionTimestamp` as it stands, if set.
    pub fn deletion_timestamp(&self) -> Option<&str> {
        self.metadata()
            .and_then(|m| m.get("deletionTimestamp"))
            .and_then(Value::as_str)
    }

    /// `metadata.finalizers`.
    pub fn finalizers(&self) -> impl Iterator<Item = &str> {
        self.metadata()
            .and_then(|m| m.get("finalizers"))
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
    }

    /// The pairs of `metadata.labels`.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.meta_map("labels")
    }

    /// The pairs of `metadata.annotations`.
    pub fn annotations(&self) -> impl Iterator<Item = (&str, &str)> {
        self.meta_map("annotations")
    }

    /// One label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata()?.get("labels")?.get(key)?.as_str()
    }

    fn meta_map(&self, key: &str) -> impl Iterator<Item = (&str, &str)> {
        self.metadata()
            .and_then(|m| m.get(key))
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(k, v)| v.as_str().map(|v| (k.as_str(), v)))
    }

    /// The value at a path of object keys.
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter()
            .try_fold(self.0.get(*first)?, |value, key| value.get(key))
    }

    /// The string at a path of object keys, empty when absent.
    pub fn str_at(&self, path: &[&str]) -> &str {
        self.at(path).and_then(Value::as_str).unwrap_or("")
    }

    /// The object at a path of object keys, made (with its parents) when absent.
    pub fn object_at_mut(&mut self, path: &[&str]) -> &mut Map<String, Value> {
        path.iter()
            .fold(&mut self.0, |map, key| object_mut(map, key))
    }

    /// A typed view of the whole tree.
    ///
    /// # Errors
    /// The tree does not have the shape of `T`.
    pub fn view<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.0)
    }

    /// The JSON encoding, with `kind`, `apiVersion` and `metadata` first, as the store and the wire carry it.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(2048);
        out.push(b'{');
        let leading = LEADING_KEYS.iter().filter_map(|k| self.0.get_key_value(*k));
        let rest = self
            .0
            .iter()
            .filter(|(k, _)| !LEADING_KEYS.contains(&k.as_str()));
        for (i, (key, value)) in leading.chain(rest).enumerate() {
            if i > 0 {
                out.push(b',');
            }
            // Writing JSON of strings and values into a Vec has no way to fail.
            serde_json::to_writer(&mut out, key).expect("a string encodes");
            out.push(b':');
            serde_json::to_writer(&mut out, value).expect("a value encodes");
        }
        out.push(b'}');
        // As many bytes as there are: stored objects live long.
        Bytes::copy_from_slice(&out)
    }
}

/// The object under `key`, made when absent or of another type.
fn object_mut<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let slot = map.entry(key).or_insert_with(|| Value::Object(Map::new()));
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut().expect("just made an object")
}
