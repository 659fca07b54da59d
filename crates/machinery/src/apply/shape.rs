//! What a value is to those who compare and merge: one value, a list with distinguishable elements, a map.

use serde_json::Value;

use super::path::{PathElement, Scalar};
use crate::schema::{Kind, ListType, MapType, Schema};

/// How a value is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One value; also atomic lists and maps.
    Leaf,
    /// A list whose elements have names.
    List,
    /// An object whose fields have owners of their own.
    Map,
}

/// The shape of a value of this schema. What does not fit its schema is one value.
pub(super) fn shape(schema: &Schema, value: &Value) -> Shape {
    let atomic_map = schema.map_type() == MapType::Atomic;
    match (schema.kind(), value) {
        (Kind::Object, Value::Object(_) | Value::Null) | (Kind::Any, Value::Object(_))
            if !atomic_map =>
        {
            Shape::Map
        }
        (Kind::Array, Value::Array(_) | Value::Null) if schema.list_type() != ListType::Atomic => {
            Shape::List
        }
        _ => Shape::Leaf,
    }
}

/// The name of a list element: its key fields (with their defaults), or its value.
///
/// # Errors
/// It has none; upstream's wording.
pub(super) fn element(list: &Schema, item: &Value) -> Result<PathElement, String> {
    let fail = |why: &str| Err(why.to_owned());
    if list.list_type() == ListType::Set {
        return match item {
            Value::Object(_) => {
                fail("associative list without keys has an element that's a map type")
            }
            Value::Array(_) => fail("not supported: associative list with lists as elements"),
            Value::Null => {
                fail("associative list without keys has an element that's an explicit null")
            }
            value => Ok(PathElement::Value(Scalar(value.clone()))),
        };
    }
    let Value::Object(map) = item else {
        return if item.is_null() {
            fail("associative list with keys may not have a null element")
        } else {
            fail("associative list with keys may not have non-map elements")
        };
    };
    let default = |key: &str| list.items()?.property(key)?.default_value();
    let mut fields: Vec<(String, Scalar)> = list
        .list_map_keys()
        .filter_map(|key| {
            let value = map.get(key).or_else(|| default(key))?;
            Some((key.to_owned(), Scalar(value.clone())))
        })
        .collect();
    if fields.is_empty() {
        let keys: Vec<String> = list.list_map_keys().map(|k| format!("{k:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] \
             (and doesn't have default values for any key fields)",
            keys.join(" ")
        ));
    }
    fields.sort();
    Ok(PathElement::Key(fields))
}

/// The type of what stands under a key.
pub(super) fn child<'a>(schema: &'a Schema, key: &str) -> &'a Schema {
    schema.child(key).unwrap_or(Schema::any())
}

/// The type of list elements.
pub(super) fn items(schema: &Schema) -> &Schema {
    schema.items().unwrap_or(Schema::any())
}

/// The elements of a list, none for anything else.
pub(super) fn list(value: Option<&Value>) -> &[Value] {
    value
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}
